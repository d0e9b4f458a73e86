/** Which jobs the list shows: a text, some states, a provider; and the order, where there are no column heads. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { JobState, ProviderView } from "../../contract";
import { type Translate, useWords } from "../../words";
import { Button, badge, stateWord } from "../atoms";
import { FIRST, isFiltered, NATURAL, type Query, type SortKey, STATES, sortKey } from "./query";

const TYPING_MS = 250;

interface FiltersProps {
  query: Query;
  change: (part: Partial<Query>) => void;
  providers: ProviderView[];
}

export function Filters({ query, change, providers }: FiltersProps) {
  const t = useWords();
  const toggle = (state: JobState) => {
    const chosen = query.states.includes(state);
    change({ states: STATES.filter((one) => (one === state ? !chosen : query.states.includes(one))) });
  };
  return (
    <search class="stc-jobs-filters">
      <Search text={query.text} change={(text) => change({ text })} />
      <StateMenu states={query.states} toggle={toggle} />
      <select
        aria-label={t("Provider")}
        value={query.provider}
        onChange={(event) => change({ provider: event.currentTarget.value })}
      >
        <option value="">{t("Any provider")}</option>
        {providers
          .filter((provider) => !provider.coming_soon)
          .map((provider) => (
            <option key={provider.id} value={provider.id}>
              {provider.name}
            </option>
          ))}
      </select>
      <Order sort={query.sort} choose={(sort) => change({ sort })} />
      {isFiltered(query) && (
        <Button kind="quiet" onClick={() => change({ states: [], provider: "", text: FIRST.text })}>
          {t("Clear")}
        </Button>
      )}
    </search>
  );
}

/** Asks when the typing rests. */
function Search({ text, change }: { text: string; change: (text: string) => void }) {
  const t = useWords();
  const [typed, setTyped] = useState(text);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => setTyped(text), [text]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (next: string) => {
    setTyped(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => change(next.trim()), TYPING_MS);
  };
  return (
    <input
      type="search"
      aria-label={t("Search names and ids")}
      placeholder={t("Search")}
      value={typed}
      onInput={(event) => type(event.currentTarget.value)}
    />
  );
}

function StateMenu({ states, toggle }: { states: JobState[]; toggle: (state: JobState) => void }) {
  const t = useWords();
  const menu = useRef<HTMLDetailsElement>(null);
  const close = () => {
    if (menu.current) menu.current.open = false;
  };
  const leave = (event: KeyboardEvent) => {
    if (event.key !== "Escape" || !menu.current?.open) return;
    event.stopPropagation();
    close();
    menu.current.querySelector("summary")?.focus();
  };
  const left = (event: FocusEvent) => {
    if (!menu.current?.contains(event.relatedTarget as Node | null)) close();
  };
  return (
    <details class="stc-menu" ref={menu} onKeyDown={leave} onFocusOut={left}>
      <summary class="stc-button">{summary(t, states)}</summary>
      {/* A press beside a box keeps the focus in the menu, which would close without it. */}
      <fieldset tabIndex={-1}>
        <legend class="stc-hidden">{t("States")}</legend>
        {STATES.map((state) => (
          <label key={state}>
            <input type="checkbox" checked={states.includes(state)} onChange={() => toggle(state)} />
            {badge(t, state)}
          </label>
        ))}
      </fieldset>
    </details>
  );
}

function summary(t: Translate, states: JobState[]): string {
  if (states.length === 0) return t("Any state");
  return states.length === 1 ? stateWord(t, states[0]) : t("States: {count}", { count: states.length });
}

function Order({ sort, choose }: { sort: string; choose: (sort: string) => void }) {
  const t = useWords();
  const words: Record<SortKey, string> = {
    created_at: t("Newest first"),
    updated_at: t("Last changed first"),
    config_name: t("By name"),
    status: t("By state"),
    provider: t("By provider"),
    cost_usd: t("Highest cost first"),
    duration_seconds: t("Longest first"),
    loss: t("Lowest loss first"),
  };
  return (
    <select
      class="stc-jobs-order"
      aria-label={t("Order")}
      value={sortKey(sort)}
      onChange={(event) => choose(NATURAL[event.currentTarget.value as SortKey])}
    >
      {(Object.keys(words) as SortKey[]).map((key) => (
        <option key={key} value={key}>
          {words[key]}
        </option>
      ))}
    </select>
  );
}
