/** Searching a log: what is held at once, what is not by going backwards on request. */

import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { count, useWords } from "../../words";
import { Button } from "../atoms";
import { Search } from "./search";
import type { Tail } from "./tail";

/** How long a frame may be spent on searching. */
const BUDGET_MS = 6;

export interface Searching {
  query: string;
  setQuery: (query: string) => void;
  /** What is searched for; null: nothing. */
  pattern: RegExp | null;
  found: number[];
  /** Number of the line that was gone to; null: none yet. */
  at: number | null;
  go: (by: 1 | -1) => void;
  /** Goes backwards through what is not held, until something is found; a second call stops it. */
  earlier: () => void;
  /** It is going backwards. */
  going: boolean;
}

interface Surroundings {
  reports: boolean;
  redraw: () => void;
  reveal: (number: number) => void;
  /** Number of the line after the last in sight: the search begins with what was found before it. */
  bottom: () => number;
}

export function useSearch(tail: Tail, { reports, redraw, reveal, bottom }: Surroundings): Searching {
  const { book } = tail;
  const [query, setQuery] = useState("");
  const [at, setAt] = useState<number | null>(null);
  const [going, setGoing] = useState(false);
  const goingOn = useRef(false);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a book that begins anew is searched anew
  const search = useMemo(() => (query ? new Search(query, reports) : null), [query, reports, book]);

  useEffect(() => {
    const before = search?.found.length;
    const more = search?.advance(book, BUDGET_MS);
    if (more || search?.found.length !== before) redraw();
  });
  const visit = (number: number | undefined) => {
    if (number === undefined) return;
    setAt(number);
    reveal(number);
  };
  const go = (by: 1 | -1) => {
    if (!search) return;
    if (at !== null) visit(nextOf(search.found, at, by));
    else visit(search.found.filter((number) => number < bottom()).pop() ?? search.found[0]);
  };
  const earlier = async () => {
    goingOn.current = !goingOn.current;
    setGoing(goingOn.current);
    while (goingOn.current && search && tail.book.from > 0 && !tail.error) {
      const first = tail.book.first;
      await tail.earlier();
      search.advance(tail.book, Number.POSITIVE_INFINITY);
      const newest = search.found.filter((number) => number <= first).pop();
      if (newest !== undefined && newest !== at) {
        visit(newest);
        break;
      }
    }
    goingOn.current = false;
    setGoing(false);
  };
  useEffect(
    () => () => {
      goingOn.current = false;
    },
    [],
  );
  const change = useCallback((next: string) => {
    setQuery(next);
    setAt(null);
    goingOn.current = false;
  }, []);
  const found = search?.found ?? [];
  return { query, setQuery: change, pattern: search?.pattern ?? null, found, at, go, earlier, going };
}

/** The next found line after one, or before it, round and round. */
function nextOf(found: number[], at: number, by: 1 | -1): number | undefined {
  if (by > 0) return found.find((number) => number > at) ?? found[0];
  return found.filter((number) => number < at).pop() ?? found[found.length - 1];
}

export function SearchBar({ search }: { search: Searching }) {
  const t = useWords();
  const { query, found, at, go } = search;
  const pressed = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation();
    if (event.key === "Enter") {
      event.preventDefault();
      go(event.shiftKey ? -1 : 1);
    }
    if (event.key === "Escape") search.setQuery("");
  };
  const index = at === null ? -1 : found.indexOf(at);
  const place = index < 0 ? t("{total} found", { total: count(found.length) }) : undefined;
  return (
    <search class="stc-log-search">
      <input
        type="search"
        aria-label={t("Search the log")}
        placeholder={t("Search the log")}
        value={query}
        onInput={(event) => search.setQuery(event.currentTarget.value)}
        onKeyDown={pressed}
      />
      <span class="stc-log-count stc-number stc-faint" role="status">
        {query && (place ?? t("{at} of {total}", { at: count(index + 1), total: count(found.length) }))}
      </span>
      <Button
        kind="quiet"
        aria-label={t("Previous line that was found")}
        disabled={!found.length}
        onClick={() => go(-1)}
      >
        ↑
      </Button>
      <Button kind="quiet" aria-label={t("Next line that was found")} disabled={!found.length} onClick={() => go(1)}>
        ↓
      </Button>
    </search>
  );
}
