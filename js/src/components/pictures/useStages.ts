/** The steps at which a job painted validation pictures, as they come. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { JobView } from "../../contract";
import { useAnswer, useLab, useNews } from "../../hooks";
import { deliveredPicture, type Picture, pictureOf, type Stage, stagesOf } from "./series";

const PAGE = 1000;
const GAP_MS = 500;

/** `stages` null: no answer yet. */
export function useStages(job: JobView, seen: boolean): Stage[] | null {
  const reported = useReported(job.job_id, seen);
  const missing = job.is_terminal && reported?.length === 0;
  const outputs = useAnswer("outputs", missing ? { job_id: job.job_id } : null, { about: job.job_id });
  if (reported?.length || !missing) return reported;
  if (!outputs.value) return outputs.error ? [] : null;
  return stagesOf(outputs.value.outputs.flatMap((output) => deliveredPicture(output) ?? []));
}

/** From the timeline, of which only what is new is asked for. */
function useReported(job_id: string, seen: boolean): Stage[] | null {
  const { desk } = useLab();
  const [stages, setStages] = useState<Stage[] | null>(null);
  const held = useRef({ pictures: [] as Picture[], after: 0, busy: false, more: false, closed: false });

  const look = useCallback(async () => {
    const all = held.current;
    all.more = true;
    if (all.busy) return;
    all.busy = true;
    while (all.more && !all.closed) {
      all.more = false;
      const events = await desk.ask("events", { after: all.after, job_id, limit: PAGE }).catch(() => null);
      if (!events || all.closed) break;
      const found = events.flatMap((event) => pictureOf(event) ?? []);
      all.pictures.push(...found);
      all.after = events[events.length - 1]?.seq ?? all.after;
      all.more ||= events.length === PAGE;
      setStages((old) => (old && found.length === 0 ? old : stagesOf(all.pictures)));
    }
    all.busy = false;
  }, [desk, job_id]);

  useEffect(() => {
    const all = held.current;
    all.closed = false;
    return () => {
      all.closed = true;
    };
  }, []);
  useEffect(() => {
    if (seen) void look();
  }, [seen, look]);
  useNews(
    job_id,
    () => {
      if (seen) void look();
    },
    GAP_MS,
  );
  return stages;
}
