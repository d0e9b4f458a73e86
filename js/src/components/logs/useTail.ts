/** A job's log, read while it can be seen. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { JobView } from "../../contract";
import { useLab, useNews } from "../../hooks";
import { Tail } from "./tail";

/** A running job is asked at least this often: its log may grow without any other news. */
const EVERY_MS = 1000;

export function useTail(job: JobView, seen: boolean, changed: () => void): Tail {
  const { desk } = useLab();
  const [tail] = useState(() => new Tail(desk, job.job_id, job.log_bytes, changed));
  const now = useRef({ seen, log_bytes: job.log_bytes });
  now.current = { seen, log_bytes: job.log_bytes };
  useEffect(() => () => tail.close(), [tail]);
  useNews(job.job_id, () => {
    if (now.current.seen) tail.look(now.current.log_bytes);
  });
  useEffect(() => {
    if (!seen) return;
    tail.look(now.current.log_bytes);
    if (job.is_terminal) return;
    const timer = setInterval(() => tail.look(now.current.log_bytes), EVERY_MS);
    return () => clearInterval(timer);
  }, [tail, seen, job.is_terminal]);
  return tail;
}
