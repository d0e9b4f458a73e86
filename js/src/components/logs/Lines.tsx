/** The rows that are in sight, as text. */

import type { RefObject } from "preact";
import type { JobView } from "../../contract";
import { bytes, useWords } from "../../words";
import { Button } from "../atoms";
import type { Row } from "./rows";
import type { Searching } from "./SearchBar";
import { stretches } from "./search";
import type { Tail } from "./tail";
import { ROW_PX, type View } from "./useView";

const MOVING = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End", " "]);

interface LinesProps {
  box: RefObject<HTMLDivElement | null>;
  view: View;
  search: Searching;
  showAll: (number: number) => void;
  job: JobView;
  tail: Tail;
}

export function Lines({ box, view, search, showAll, job, tail }: LinesProps) {
  const t = useWords();
  return (
    <div
      ref={box}
      class="stc-log-box stc-mono"
      role="log"
      aria-live="off"
      aria-label={t("Log")}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls by keys
      tabIndex={0}
      onScroll={view.scrolled}
      onKeyDown={(event) => MOVING.has(event.key) && event.stopPropagation()}
    >
      {view.total === 0 && <p class="stc-log-empty stc-faint">{emptyWord()}</p>}
      <div class="stc-log-space" style={{ height: view.total * ROW_PX }}>
        <div class="stc-log-rows" style={{ transform: `translateY(${view.from * ROW_PX}px)` }}>
          {view.rows.map((row) => (
            <RowOf
              key={`${row.number} ${row.start}`}
              row={row}
              pattern={search.pattern}
              current={row.number === search.at}
              showAll={showAll}
            />
          ))}
        </div>
      </div>
    </div>
  );

  function emptyWord(): string {
    if (!tail.answered) return t("Reading the log");
    return job.is_terminal ? t("This run printed nothing.") : t("Nothing has been printed yet.");
  }
}

interface RowProps {
  row: Row;
  pattern: RegExp | null;
  current: boolean;
  showAll: (number: number) => void;
}

function RowOf({ row, pattern, current, showAll }: RowProps) {
  const t = useWords();
  return (
    <div class="stc-log-row" data-current={current || undefined}>
      {stretches(row.line, row.start, row.end, pattern).map(({ text, marked }) =>
        marked ? <mark>{text}</mark> : text,
      )}
      {row.hidden > 0 && (
        <button type="button" class="stc-log-more" onClick={() => showAll(row.number)}>
          {t("… {size} line, show all", { size: bytes(t, row.line.length) })}
        </button>
      )}
    </div>
  );
}

/** A line too long for a row, whole. */
export function LongLine({ text, close }: { text: string; close: () => void }) {
  const t = useWords();
  return (
    <section class="stc-log-long" aria-label={t("The whole line")}>
      <div class="stc-row">
        <h3 class="stc-fill">{t("The whole line, {size}", { size: bytes(t, text.length) })}</h3>
        <Button kind="quiet" onClick={close}>
          {t("Close")}
        </Button>
      </div>
      <textarea
        readOnly
        rows={8}
        aria-label={t("The whole line")}
        value={text}
        onKeyDown={(event) => event.stopPropagation()}
      />
    </section>
  );
}
