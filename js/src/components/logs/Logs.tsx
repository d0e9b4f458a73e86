/** A job's log: the newest lines as they come, all of it on request. */

import { useCallback, useMemo, useRef, useState } from "preact/hooks";
import type { JobView } from "../../contract";
import { bytes, count, useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";
import { useFrame, useSeen } from "../seen";
import { Lines, LongLine } from "./Lines";
import { Rows } from "./rows";
import { SearchBar, type Searching, useSearch } from "./SearchBar";
import { Take } from "./Take";
import type { Tail } from "./tail";
import { useTail } from "./useTail";
import { SAMPLE, useColumns, useView } from "./useView";

export function Logs({ job }: { job: JobView }) {
  return <LogsOf key={job.job_id} job={job} />;
}

function LogsOf({ job }: { job: JobView }) {
  const t = useWords();
  const [reports, setReports] = useState(false);
  const [wrap, setWrap] = useState(false);
  const [long, setLong] = useState<number | null>(null);
  const [, setTurn] = useState(0);
  const root = useRef<HTMLDivElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const sample = useRef<HTMLSpanElement>(null);
  const seen = useSeen(root);
  const redraw = useFrame(() => setTurn((turn) => turn + 1), seen);
  const tail = useTail(job, seen, redraw);
  const fitting = useColumns(box, sample);
  const columns = wrap ? fitting : 0;
  const { book } = tail;
  const rows = useMemo(() => new Rows(book, { reports, columns }), [book, reports, columns]);
  const follow = useCallback(
    (following: boolean) => {
      if (following) tail.follow();
      else tail.following = false;
      redraw();
    },
    [tail, redraw],
  );
  const view = useView(box, rows, { now: tail.following, set: follow });
  const search = useSearch(tail, { reports, redraw, reveal: view.reveal, bottom: () => view.bottom });

  return (
    <div class="stc-log" ref={root}>
      <div class="stc-log-tools">
        <SearchBar search={search} />
        <Button kind="quiet" aria-pressed={wrap} onClick={() => setWrap(!wrap)}>
          {t("Wrap")}
        </Button>
        <Button kind="quiet" aria-pressed={reports} onClick={() => setReports(!reports)}>
          {t("Reports")}
        </Button>
        <Take book={book} reports={reports} name={job.job_id} />
      </div>
      {tail.error && !tail.answered && <ErrorBanner error={tail.error} again={() => tail.look(job.log_bytes)} />}
      <div class="stc-log-frame">
        <Earlier tail={tail} search={search} />
        <Lines box={box} view={view} search={search} showAll={setLong} job={job} tail={tail} />
        <span class="stc-log-sample" aria-hidden="true" ref={sample}>
          {SAMPLE}
        </span>
        <div class="stc-log-foot">
          <span class="stc-number stc-faint">{t("{lines} lines", { lines: count(book.lines) })}</span>
          <Button kind="quiet" aria-pressed={tail.following} onClick={() => follow(!tail.following)}>
            {t("Follow")}
          </Button>
        </div>
      </div>
      {long !== null && <LongLine text={book.line(long)} close={() => setLong(null)} />}
    </div>
  );
}

/** What lies before the first line that is held, and the way there. */
function Earlier({ tail, search }: { tail: Tail; search: Searching }) {
  const t = useWords();
  const { from, trimmed } = tail.book;
  const word = trimmed
    ? t("The first {size} are not held: a log keeps its newest 200,000 lines here.", { size: bytes(t, from) })
    : t("The first {size} are not read.", { size: bytes(t, from) });
  const act = () => (search.query ? search.earlier() : void tail.earlier());
  return (
    <div class="stc-log-earlier">
      <span class="stc-faint">{from > 0 ? word : t("From the beginning.")}</span>
      {from > 0 && (
        <Button kind="quiet" disabled={tail.back && !search.going} onClick={act}>
          {search.going ? t("Stop") : search.query ? t("Search earlier") : t("Load earlier")}
        </Button>
      )}
    </div>
  );
}
