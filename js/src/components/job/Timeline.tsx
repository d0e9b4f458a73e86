/** What happened to the job, in order, each with its time and how long after the submit it was. */

import { useMemo } from "preact/hooks";
import type { EventView, JobView } from "../../contract";
import { duration, moment, useWords } from "../../words";
import { ErrorBanner } from "../atoms";
import { sentence } from "./sentences";
import { useEvents } from "./useJob";

export function Timeline({ job }: { job: JobView }) {
  const t = useWords();
  const { events, error, again } = useEvents(job.job_id);
  const told = useMemo(() => worthTelling(events ?? []), [events]);
  if (error && !events) return <ErrorBanner error={error} again={again} />;
  if (!events) return <p class="stc-job-wait stc-faint">{t("Reading the timeline…")}</p>;
  const start = Date.parse(job.created_at);
  return (
    <ol class="stc-job-timeline" aria-label={t("Timeline")}>
      {told.map((event) => (
        <Moment key={event.seq} event={event} start={start} />
      ))}
    </ol>
  );
}

function Moment({ event, start }: { event: EventView; start: number }) {
  const t = useWords();
  return useMemo(() => {
    const { words, tone, proof } = sentence(t, event);
    const after = duration(t, (Date.parse(event.at) - start) / 1000);
    return (
      <li data-kind={event.kind} data-tone={tone}>
        <time class="stc-number stc-faint" dateTime={event.at} title={moment(event.at)}>
          {clock(event.at)}
        </time>
        <span class="stc-number stc-faint">{t("+{time}", { time: after })}</span>
        <span>
          {words}
          {proof && <code class="stc-faint">{proof}</code>}
        </span>
      </li>
    );
  }, [event, start, t]);
}

function clock(iso: string): string {
  return new Date(iso).toLocaleTimeString();
}

/**
 * Between checkpoints a run goes round the same stages: each is told once an attempt. The images of a step are one
 * event, with their number as `count`.
 */
function worthTelling(events: EventView[]): EventView[] {
  const stages = new Set<unknown>();
  const images = new Map<unknown, EventView>();
  const told: EventView[] = [];
  for (const event of events) {
    if (event.kind === "started") stages.clear();
    if (event.kind === "stage") {
      if (stages.has(event.data.stage)) continue;
      stages.add(event.data.stage);
    }
    const first = event.kind === "image" ? images.get(event.data.step) : undefined;
    if (first) {
      first.data = { ...first.data, count: Number(first.data.count ?? 1) + 1 };
      continue;
    }
    const mine = { ...event };
    if (event.kind === "image") images.set(event.data.step, mine);
    told.push(mine);
  }
  return told;
}
