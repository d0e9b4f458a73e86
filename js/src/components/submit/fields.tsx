/** Controls that edit one value of a draft and keep what a person typed as long as it means that value. */

import { type ComponentChildren, createContext } from "preact";
import { useContext, useState } from "preact/hooks";
import { useUniqueId } from "../../hooks";
import { useWords } from "../../words";
import { Field } from "../atoms";
import { type Placed, wrongAt } from "./problems";

/** What is wrong where, as the lab answered it; an edit at a place takes its problems away. */
export const Problems = createContext<{ problems: Placed[]; mend: (place: string) => void }>({
  problems: [],
  mend: () => undefined,
});

interface Kind {
  read: (text: string) => unknown;
  write: (value: unknown) => string;
}

const TEXT: Kind = {
  read: (text) => text,
  write: (value) => (value === undefined || value === null ? "" : String(value)),
};

/**
 * Left out where it is empty; what is no number stays text, and the lab says what is wrong with it. One comma is a
 * decimal point, but for one that may divide thousands: 1,500 is fifteen hundred to some.
 */
const NUMBER: Kind = {
  read: (text) => {
    const plain = text.trim();
    if (!plain) return undefined;
    const value = /^-?[1-9]\d?\d?,\d{3}$/.test(plain) ? Number.NaN : Number(plain.replace(",", "."));
    return Number.isFinite(value) ? value : plain;
  },
  write: TEXT.write,
};

/** One text a line: none, one by itself, or a list. */
const LINES: Kind = {
  read: (text) => {
    const lines = text.split("\n").filter((line) => line.trim());
    return lines.length > 1 ? lines : lines[0];
  },
  write: (value) => (Array.isArray(value) ? value.join("\n") : TEXT.write(value)),
};

const KINDS = { text: TEXT, number: NUMBER, lines: LINES };

interface InputProps {
  label: string;
  required?: boolean;
  /** Where problems of it are shown, and where the summary's links lead. */
  place: string;
  value: unknown;
  change: (value: unknown) => void;
  kind?: keyof typeof KINDS;
  hint?: ComponentChildren;
  placeholder?: string;
  /** Id of a datalist. */
  list?: string;
}

export function Input({ label, required, place, value, change, kind = "text", hint, placeholder, list }: InputProps) {
  const { read, write } = KINDS[kind];
  const { problems, mend } = useContext(Problems);
  const [typed, setTyped] = useState(() => write(value));
  const edit = (text: string) => {
    setTyped(text);
    mend(place);
    change(read(text));
  };
  const control = {
    "data-place": place,
    "data-label": label,
    value: same(read(typed), value) ? typed : write(value),
    placeholder,
    spellcheck: false,
    autocomplete: "off",
  };
  return (
    <Field label={label} required={required} hint={hint} wrong={wrongAt(problems, place, label)}>
      {(ids) =>
        kind === "lines" ? (
          <textarea {...ids} {...control} rows={2} onInput={(event) => edit(event.currentTarget.value)} />
        ) : (
          <input
            {...ids}
            {...control}
            type="text"
            list={list}
            inputMode={kind === "number" ? "decimal" : undefined}
            class={kind === "number" ? "stc-number" : undefined}
            onInput={(event) => edit(event.currentTarget.value)}
          />
        )
      }
    </Field>
  );
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

interface ChoiceProps {
  label: string;
  place: string;
  value: string;
  change: (value: string) => void;
  options: [value: string, label: string][];
  hint?: ComponentChildren;
}

/** One of several. A value that is none of them stays as it is and is shown: the lab says what it thinks of it. */
export function Choice({ label, place, value, change, options, hint }: ChoiceProps) {
  const { problems, mend } = useContext(Problems);
  const known = options.some(([option]) => option === value);
  return (
    <Field label={label} hint={hint} wrong={wrongAt(problems, place, label)}>
      {(ids) => (
        <select
          {...ids}
          data-place={place}
          data-label={label}
          value={value}
          onChange={(event) => {
            mend(place);
            change(event.currentTarget.value);
          }}
        >
          {!known && <option value={value}>{value}</option>}
          {options.map(([option, words]) => (
            <option key={option} value={option}>
              {words}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

interface CheckProps {
  label: string;
  value: boolean;
  change: (value: boolean) => void;
}

export function Check({ label, value, change }: CheckProps) {
  return (
    <label class="stc-check">
      <input type="checkbox" checked={value} onChange={(event) => change(event.currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}

interface CardProps {
  name: string;
  /** A word beside the name. */
  tag?: string | false;
  /** Cards with the same one are one choice. */
  group: string;
  place: string;
  checked: boolean;
  disabled?: boolean;
  choose: () => void;
  children: ComponentChildren;
}

/** One of several to choose from, with what speaks for it. */
export function Card({ name, tag, group, place, checked, disabled, choose, children }: CardProps) {
  const id = useUniqueId();
  return (
    <label class="stc-card" data-off={disabled || undefined}>
      <input
        type="radio"
        name={group}
        checked={checked}
        disabled={disabled}
        data-place={checked ? place : undefined}
        aria-labelledby={`${id}-name`}
        aria-describedby={`${id}-facts`}
        onChange={choose}
      />
      <span class="stc-card-text">
        <span class="stc-card-name" id={`${id}-name`}>
          {name}
          {tag && <span class="stc-tag">{tag}</span>}
        </span>
        <span class="stc-card-facts" id={`${id}-facts`}>
          {children}
        </span>
      </span>
    </label>
  );
}

/** A part of the form under its heading. */
export function Section({ title, note, children }: { title: string; note?: string; children: ComponentChildren }) {
  return (
    <fieldset class="stc-section">
      <legend>{title}</legend>
      {note && <p class="stc-faint">{note}</p>}
      {children}
    </fieldset>
  );
}

/** Says that something goes on, and for how long: the seconds are not for screen readers. */
export function Reading({ seconds }: { seconds: number }) {
  const t = useWords();
  return (
    <span class="stc-reading">
      {t("Reading the files…")}
      <span class="stc-number stc-faint" aria-hidden="true">
        {seconds > 1 && ` ${seconds} s`}
      </span>
    </span>
  );
}
