/** A job's loss as it moves: smoothed, zoomed, on a log scale, beside its learning rate and beside other runs. */

import type { RefObject } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { JobView } from "../../contract";
import { useUniqueId } from "../../hooks";
import { type Translate, useWords } from "../../words";
import { Button } from "../atoms";
import { useFrame, useSeen } from "../seen";
import { Compare, type Compared } from "./Compare";
import { Controls, type Options } from "./Controls";
import type { Curve } from "./curve";
import type { Feed } from "./feed";
import { useFeeds } from "./feeds";
import { INKS, readInk, useTheme } from "./ink";
import { Plot } from "./Plot";
import { Legend, Readout } from "./Readout";
import type { Span } from "./ranges";
import { sceneOf } from "./scene";
import { gapWord, summaryWord } from "./summary";
import { useChart } from "./useChart";

const BEGIN: Options = { log: false, rate: true, weight: 0.9, comparing: false };

export function Loss({ job }: { job: JobView }) {
  return <LossOf key={job.job_id} job={job} />;
}

function LossOf({ job }: { job: JobView }) {
  const t = useWords();
  const [options, setOptions] = useState(BEGIN);
  const [zoom, setZoom] = useState<Span | null>(null);
  const [compared, setCompared] = useState<Compared[]>([]);
  const [cursor, setCursor] = useState<number | null>(null);
  const [drawn, setDrawn] = useState(0);
  const root = useRef<HTMLDivElement>(null);
  const host = useRef<HTMLDivElement>(null);
  const samples = useRef<HTMLSpanElement>(null);
  const summaryId = useUniqueId();

  const seen = useSeen(root);
  const paint = useFrame(() => {
    const main = curveOf(job.job_id);
    if (main && samples.current) {
      chart.current?.show(sceneOf({ main, compared, curveOf, options, zoom, ink: readInk(samples.current) }));
    }
    setDrawn((count) => count + 1);
  }, seen);
  const ids = useMemo(() => compared.map((one) => one.job.job_id), [compared]);
  const feeds = useFeeds(job, ids, { weight: options.weight, seen, changed: paint });
  const chart = useChart(host, { zoom: setZoom, cursor: setCursor, resized: paint });
  const curveOf = (job_id: string): Curve | undefined => feeds.current.get(job_id)?.curve;
  useTheme(root, paint);
  // biome-ignore lint/correctness/useExhaustiveDependencies: each of these is drawn
  useEffect(paint, [zoom, compared, options.log, options.rate, paint]);

  const feed = feeds.current.get(job.job_id);
  const curve = feed?.curve;
  const at = curve?.length ? curve.nearest(cursor ?? Number.POSITIVE_INFINITY) : -1;
  const point = curve && at >= 0 ? curve.at(at) : null;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the curve is one object that grows; `drawn` says when
  const summary = useMemo(() => curve?.summary() ?? null, [curve, drawn]);
  return (
    <div class="stc-loss" ref={root}>
      <Samples samples={samples} />
      <Controls options={options} change={setOptions} />
      <Readout point={point} rate={options.rate} />
      <div class="stc-loss-frame">
        <Plot {...{ host, chart, curve, point, cursor, setCursor, zoom, setZoom, drawn }} describedBy={summaryId} />
        {zoom && (
          <div class="stc-loss-reset">
            <Button onClick={() => setZoom(null)}>{t("Reset zoom")}</Button>
          </div>
        )}
        {!curve?.length && <Empty job={job} feed={feed} />}
      </div>
      <p class="stc-hidden" id={summaryId}>
        {summaryWord(t, summary)}
      </p>
      {summary !== null && summary.gaps > 0 && <p class="stc-loss-gaps">{gapWord(t, summary.gaps)}</p>}
      <Legend
        compared={compared}
        curveOf={curveOf}
        step={cursor}
        drop={(slot) => setCompared((old) => old.filter((one) => one.slot !== slot))}
      />
      {options.comparing && <Compare job={job} compared={compared} choose={setCompared} />}
    </div>
  );
}

/** Unseen elements in the colours of the chart: a canvas needs them worked out. */
function Samples({ samples }: { samples: RefObject<HTMLSpanElement | null> }) {
  return (
    <span hidden ref={samples}>
      {INKS.map((name) => (
        <i key={name} data-ink={name} />
      ))}
    </span>
  );
}

function Empty({ job, feed }: { job: JobView; feed: Feed | undefined }) {
  const t = useWords();
  return (
    <div class="stc-loss-empty">
      <p role="status">{emptyWord(t, job, feed)}</p>
      {feed?.error && <Button onClick={() => feed.look()}>{t("Try again")}</Button>}
    </div>
  );
}

function emptyWord(t: Translate, job: JobView, feed: Feed | undefined): string {
  if (feed?.error) return t("The curve cannot be read: {reason}", { reason: feed.error.message });
  if (!feed?.answered) return t("Reading the curve");
  return job.is_terminal ? t("This run ended before its first step") : t("Waiting for the first step");
}
