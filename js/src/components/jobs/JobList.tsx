/** All jobs of the lab, live: filtered, sorted, a page at a time (SPEC J1). */

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { isOfTheWay } from "../../ask";
import { useAnswer, useKey } from "../../hooks";
import { count, useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";
import { Clock } from "../clock";
import { useProviders } from "../providers";
import { Filters } from "./Filters";
import { Pager } from "./Pager";
import { FIRST, isFiltered, type Query, question } from "./query";
import { Sync } from "./Sync";
import { type Steady, useSteady } from "./steady";
import { Table } from "./Table";

/** News of a long page are read less often: a second for 500 rows. */
const GAP_MS_A_ROW = 2;
const LEAST_GAP_MS = 150;

export function JobList({ choose }: { choose: (job_id: string) => void }) {
  const t = useWords();
  const [query, setQuery] = useState(FIRST);
  const change = useCallback((part: Partial<Query>) => setQuery((old) => ({ ...old, page: 0, ...part })), []);
  const { providers, nameOf } = useProviders();
  const { held, ...hands } = useHands();
  const { list, error, again } = useJobs(query, change, held);
  const chosen = useRef(choose);
  chosen.current = choose;
  const open = useCallback((job_id: string) => chosen.current(job_id), []);
  return (
    <section class="stc-jobs" aria-label={t("Training jobs")}>
      <Filters query={query} change={change} providers={providers} />
      {error && <ErrorBanner error={error} again={again} />}
      <Latest list={list} first={query.page * query.size} />
      <Clock>
        <div class="stc-jobs-body" data-stale={list.stale || undefined} aria-busy={list.stale || !list.rows} {...hands}>
          {!list.rows && !error && <Ghosts />}
          {list.rows && list.rows.length > 0 && (
            <Table
              rows={list.rows}
              gone={list.gone}
              sort={query.sort}
              order={(sort) => change({ sort })}
              nameOf={nameOf}
              choose={open}
              again={again}
            />
          )}
          {list.rows?.length === 0 && <Nothing filtered={isFiltered(query)} clear={() => setQuery(FIRST)} />}
        </div>
      </Clock>
      {list.rows && <Pager query={query} total={list.total} change={change} />}
      {providers.some((provider) => provider.remote && provider.configured) && <Sync done={again} />}
    </section>
  );
}

/** The page that the query asks for. Its order stays while somebody is at it, and on later pages until they ask. */
function useJobs(query: Query, change: (part: Partial<Query>) => void, held: boolean) {
  const [more, setMore] = useState(0);
  const args = useMemo(() => question(query, more), [query, more]);
  const { value, error, loading, again } = useAnswer("jobs", args, {
    gap_ms: Math.max(LEAST_GAP_MS, query.size * GAP_MS_A_ROW),
  });
  const asked = useMemo(() => JSON.stringify(question(query)), [query]);
  const hold = held || query.page > 0;
  const list = useSteady(value, { asked, answered: !loading && !error, size: query.size, hold });
  const grown = Math.max(0, list.grown);
  useEffect(() => setMore(grown), [grown]);
  const last = Math.max(0, Math.ceil(list.total / query.size) - 1);
  const beyond = list.rows !== null && !list.stale && query.page > last;
  useEffect(() => {
    if (beyond) change({ page: last });
  }, [beyond, last, change]);
  const [connection] = useKey("connection");
  const told = isOfTheWay(error) && connection !== "live";
  return { list, again, error: told ? null : error };
}

/** Whether a pointer or the focus is among the rows. */
function useHands() {
  const [over, setOver] = useState(false);
  const [focused, setFocused] = useState(false);
  return {
    held: over || focused,
    onPointerEnter: () => setOver(true),
    onPointerLeave: () => setOver(false),
    onFocusIn: () => setFocused(true),
    onFocusOut: () => setFocused(false),
  };
}

/** A line that is always there: which jobs are on show, and what came since their order was taken. */
function Latest({ list, first }: { list: Steady; first: number }) {
  const t = useWords();
  const said = useRef({ of: "", total: 0 });
  const shown = list.rows?.length ?? 0;
  const range = { from: count(first + 1), to: count(first + shown), total: count(list.total) };
  if (list.of !== said.current.of) said.current = { of: list.of, total: list.total };
  return (
    <div class="stc-jobs-latest">
      <span class="stc-faint stc-number">{shown > 0 ? t("{from}–{to} of {total}", range) : ""}</span>
      <span class="stc-hidden" role="status">
        {list.of ? t("Jobs found: {count}", { count: count(said.current.total) }) : ""}
      </span>
      {list.outdated && (
        <Button kind="quiet" onClick={list.settle}>
          {list.grown > 0 ? t("Show new jobs: {count}", { count: count(list.grown) }) : t("Show the latest order")}
        </Button>
      )}
    </div>
  );
}

function Nothing({ filtered, clear }: { filtered: boolean; clear: () => void }) {
  const t = useWords();
  if (filtered) {
    return (
      <div class="stc-jobs-nothing" role="status">
        <strong>{t("No job matches.")}</strong>
        <Button onClick={clear}>{t("Show all jobs")}</Button>
      </div>
    );
  }
  return (
    <div class="stc-jobs-nothing" role="status">
      <strong>{t("No jobs yet.")}</strong>
      <p class="stc-faint">{t("Jobs that you start in a notebook, in this panel or with stcloud appear here.")}</p>
    </div>
  );
}

/** Holds the place of rows that are on their way. */
function Ghosts() {
  const t = useWords();
  return (
    <div class="stc-jobs-ghosts">
      <span class="stc-hidden" role="status">
        {t("Loading jobs…")}
      </span>
      {[...Array(6).keys()].map((row) => (
        <div key={row} />
      ))}
    </div>
  );
}
