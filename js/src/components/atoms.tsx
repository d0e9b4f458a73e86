/** The small parts that every view is made of. */

import type { ButtonHTMLAttributes, ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import type { LabError } from "../ask";
import type { JobState, JobView } from "../contract";
import { useUniqueId } from "../hooks";
import { type Translate, useWords } from "../words";

interface ButtonProps extends Omit<ButtonHTMLAttributes<HTMLButtonElement>, "kind"> {
  kind?: "plain" | "primary" | "danger" | "quiet";
  disabled?: boolean;
  children: ComponentChildren;
}

export function Button({ kind = "plain", children, ...rest }: ButtonProps) {
  return (
    <button type="button" class="stc-button" data-kind={kind} {...rest}>
      {children}
    </button>
  );
}

/** A state as a word with a dot: never by colour alone. `asks`: the job waits for its user (`needsYou`). */
export function badge(t: Translate, state: JobState, asks = false) {
  return (
    <span class="stc-badge" data-state={asks ? "asks" : state}>
      {asks ? t("Needs you") : stateWord(t, state)}
    </span>
  );
}

/** Nothing goes on before its user has decided (`job/Trouble.tsx`). */
export function needsYou(job: JobView): boolean {
  return job.uncertain && job.is_active;
}

export function stateWord(t: Translate, state: JobState): string {
  const words: Record<JobState, string> = {
    pending: t("Pending"),
    uploading: t("Uploading"),
    queued: t("Queued"),
    running: t("Running"),
    completed: t("Completed"),
    failed: t("Failed"),
    cancelled: t("Cancelled"),
  };
  return words[state];
}

/** An error as the lab told it: what, what to do, and each problem with its place. */
export function ErrorBanner({ error, again }: { error: LabError; again?: () => void }) {
  const t = useWords();
  return (
    <div class="stc-banner" role="alert" data-code={error.code}>
      <div>
        <strong>{error.message}</strong>
        {error.hint && <div>{error.hint}</div>}
        {error.problems.length > 0 && (
          <ul>
            {error.problems.map((problem) => (
              <li key={`${problem.path} ${problem.message}`}>
                <code>{problem.path}</code> {problem.message}
                {problem.hint && ` (${problem.hint})`}
              </li>
            ))}
          </ul>
        )}
      </div>
      {again && <Button onClick={again}>{t("Try again")}</Button>}
    </div>
  );
}

/** Something to know that is not an error. */
export function Note({ tone = "note", children }: { tone?: "note" | "warn"; children: ComponentChildren }) {
  return (
    <div class="stc-banner" data-tone={tone} role="note">
      <div>{children}</div>
    </div>
  );
}

interface FieldProps {
  label: string;
  required?: boolean;
  hint?: ComponentChildren;
  wrong?: string;
  /** Draws the control; it gets the ids that tie it to its label, hint and error. */
  children: (ids: ControlIds) => ComponentChildren;
}

interface ControlIds {
  id: string;
  "aria-describedby"?: string;
  "aria-invalid"?: boolean;
  "aria-required"?: boolean;
}

export function Field({ label, required, hint, wrong, children }: FieldProps) {
  const t = useWords();
  const id = useUniqueId();
  const described = [hint && `${id}-hint`, wrong && `${id}-wrong`].filter(Boolean).join(" ");
  return (
    <div class="stc-field">
      <div class="stc-label">
        <label for={id}>{label}</label>
        {required && (
          <span class="stc-required" aria-hidden="true">
            {t("required")}
          </span>
        )}
      </div>
      {children({
        id,
        "aria-describedby": described || undefined,
        "aria-invalid": wrong ? true : undefined,
        "aria-required": required,
      })}
      {hint && (
        <div class="stc-hint" id={`${id}-hint`}>
          {hint}
        </div>
      )}
      {wrong && (
        <div class="stc-wrong" id={`${id}-wrong`} role="alert">
          {wrong}
        </div>
      )}
    </div>
  );
}

/** How far something is, 0 to 1; a word beside it says the same. */
export function Bar({ part, state, label }: { part: number; state?: JobState; label: string }) {
  const whole = Math.min(1, Math.max(0, part));
  return (
    <div
      class="stc-bar"
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(whole * 100)}
      data-state={state}
    >
      <div style={{ "--stc-part": whole }} />
    </div>
  );
}

export interface Tab {
  id: string;
  label: string;
  panel: () => ComponentChildren;
  /** Once opened it stays, hidden while another is chosen: for what a person types. */
  keep?: boolean;
}

/** Tabs by WAI-ARIA's pattern: arrows move, one tab stop. Only the chosen panel exists, and those that are kept. */
export function Tabs({ tabs, chosen, choose, label }: TabsProps) {
  const base = useUniqueId();
  const list = useRef<HTMLDivElement>(null);
  const opened = useRef(new Set<string>());
  const at = Math.max(
    0,
    tabs.findIndex((tab) => tab.id === chosen),
  );
  opened.current.add(tabs[at].id);
  const there = (tab: Tab) => tab === tabs[at] || (tab.keep && opened.current.has(tab.id));
  const move = (event: KeyboardEvent) => {
    const to: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 };
    if (!(event.key in to)) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (to[event.key] + tabs.length) % tabs.length;
    choose(tabs[next].id);
    list.current?.querySelectorAll<HTMLButtonElement>("button")[next].focus();
  };
  return (
    <div class="stc-stack">
      <div class="stc-tabs" role="tablist" aria-label={label} ref={list} onKeyDown={move}>
        {tabs.map((tab, index) => (
          <button
            type="button"
            role="tab"
            key={tab.id}
            id={`${base}-${tab.id}`}
            aria-selected={index === at}
            aria-controls={there(tab) ? `${base}-${tab.id}-panel` : undefined}
            tabIndex={index === at ? 0 : -1}
            onClick={() => choose(tab.id)}
          >
            {tab.label}
          </button>
        ))}
      </div>
      {tabs.filter(there).map((tab) => (
        <div
          role="tabpanel"
          key={tab.id}
          id={`${base}-${tab.id}-panel`}
          aria-labelledby={`${base}-${tab.id}`}
          hidden={tab !== tabs[at]}
        >
          {tab.panel()}
        </div>
      ))}
    </div>
  );
}

interface TabsProps {
  tabs: Tab[];
  chosen: string;
  choose: (id: string) => void;
  label: string;
}
