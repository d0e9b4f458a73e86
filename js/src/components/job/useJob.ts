/** One job, live: never older than what was shown already. */

import { useEffect, useRef, useState } from "preact/hooks";
import { isOfTheWay, type LabError } from "../../ask";
import type { EventView, JobView } from "../../contract";
import { useAnswer, useKey } from "../../hooks";

export interface LiveJob {
  /** Null before the first answer, unless the model has kept the job. */
  job: JobView | null;
  /** The lab has no such job. */
  missing: boolean;
  error: LabError | null;
  again: () => void;
}

export function useJob(job_id: string): LiveJob {
  const [kept] = useKey("job");
  const [connection] = useKey("connection");
  const [gone, setGone] = useState("");
  const asked = job_id && gone !== job_id ? { job_id } : null;
  const { value, error, again } = useAnswer("job", asked, { about: job_id });
  const newest = useRef<JobView | null>(null);
  if (newest.current?.job_id !== job_id) newest.current = null;
  for (const job of [kept, value]) {
    if (job?.job_id === job_id && (newest.current === null || job.version >= newest.current.version)) {
      newest.current = job;
    }
  }
  const missing = error?.code === "job_not_found";
  useEffect(() => {
    if (missing) setGone(job_id); // it never comes back, so nobody asks for it again
  }, [missing, job_id]);
  const told = missing || (isOfTheWay(error) && connection !== "live");
  return { job: newest.current, missing, error: told ? null : error, again };
}

/** Its timeline so far, null before the first answer; each question asks only for what came since. */
export function useEvents(job_id: string): { events: EventView[] | null; error: LabError | null; again: () => void } {
  const [events, setEvents] = useState<EventView[] | null>(null);
  const after = events?.at(-1)?.seq ?? 0;
  const { value, error, again } = useAnswer("events", { job_id, after, limit: 1000 }, { about: job_id });
  useEffect(() => {
    if (!value) return;
    setEvents((old) => {
      const last = old?.at(-1)?.seq ?? 0;
      const come = value.filter((event) => event.seq > last);
      return old && come.length === 0 ? old : [...(old ?? []), ...come];
    });
  }, [value]);
  return { events, error, again };
}
