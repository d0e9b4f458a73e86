/** A value as JSON to edit. While the text is no JSON the value stays what it was, and the place of the fault is told. */

import { useContext, useEffect, useRef, useState } from "preact/hooks";
import { type Translate, useWords } from "../../words";
import { Button, Field } from "../atoms";
import { Problems } from "./fields";
import { type Fault, readJson } from "./json";
import { wrongAt } from "./problems";

interface JsonEditorProps<T> {
  label: string;
  hint: string;
  place: string;
  value: T;
  change: (value: T) => void;
  /** Empty, or why a value that was read is not of the right form. */
  check: (value: unknown) => string;
  /** Told whenever the text becomes unreadable, or readable again. */
  broken: (broken: boolean) => void;
}

export function JsonEditor<T>({ label, hint, place, value, change, check, broken }: JsonEditorProps<T>) {
  const t = useWords();
  const { problems, mend } = useContext(Problems);
  const [typed, setTyped] = useState({ text: pretty(value), fault: "" });
  const read = typed.fault ? null : readJson(typed.text).value;
  const text = typed.fault || JSON.stringify(read) === JSON.stringify(value) ? typed.text : pretty(value);
  const edit = (text: string) => {
    mend(place);
    const { value, fault } = readJson(text);
    const wrong = fault ? faultText(t, fault) : check(value);
    setTyped({ text, fault: wrong });
    broken(wrong !== "");
    if (!wrong) change(value as T);
  };
  useUnbroken(broken);
  return (
    <div class="stc-json">
      <Field label={label} hint={hint} wrong={typed.fault || wrongAt(problems, place)}>
        {(ids) => (
          <textarea
            {...ids}
            data-place={place}
            rows={Math.min(16, Math.max(5, text.split("\n").length + 1))}
            spellcheck={false}
            autocomplete="off"
            value={text}
            onInput={(event) => edit(event.currentTarget.value)}
          />
        )}
      </Field>
      {typed.fault && (
        <Button kind="quiet" onClick={() => edit(pretty(value))}>
          {t("Go back to the last readable text")}
        </Button>
      )}
    </div>
  );
}

/** An editor that goes away takes its fault along. */
function useUnbroken(broken: (broken: boolean) => void): void {
  const latest = useRef(broken);
  latest.current = broken;
  useEffect(() => () => latest.current(false), []);
}

function pretty(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

export function faultText(t: Translate, { line, column, kind }: Fault): string {
  const sentences: Record<Fault["kind"], string> = {
    value: t("Line {line}, column {column}: a value is expected here.", { line, column }),
    key: t("Line {line}, column {column}: a name in double quotes is expected here.", { line, column }),
    colon: t("Line {line}, column {column}: a colon is missing.", { line, column }),
    comma: t("Line {line}, column {column}: a comma is missing.", { line, column }),
    string: t("Line {line}, column {column}: this text has no end, or a character that must be escaped.", {
      line,
      column,
    }),
    number: t("Line {line}, column {column}: this is not a number as JSON writes it.", { line, column }),
    end: t("Line {line}, column {column}: the text ends too early.", { line, column }),
    rest: t("Line {line}, column {column}: nothing may follow the end.", { line, column }),
  };
  return sentences[kind];
}
