/** Rows that stay where they are while somebody may be about to press one; what they say stays live. */

import { useRef, useState } from "preact/hooks";
import type { JobPage, JobView } from "../../contract";

interface Kept {
  /** The question that the order answers. */
  of: string;
  ids: string[];
  known: Map<string, JobView>;
  total: number;
}

export interface Steady {
  /** Null before the first answer. */
  rows: JobView[] | null;
  /** Rows that are no longer on this page. */
  gone: Set<string>;
  /** The true number of jobs now. */
  total: number;
  /** How many jobs there are more (or fewer) than when the order was taken. */
  grown: number;
  /** The order on show is not the latest one. */
  outdated: boolean;
  /** The question that the rows answer; empty before the first answer. */
  of: string;
  /** They are those of an earlier question than the one that is asked now. */
  stale: boolean;
  /** Takes the latest order. */
  settle: () => void;
}

/**
 * The rows of the latest answer.
 *
 * @param asked the question that is asked now; `answered`: `answer` answers it.
 * @param hold keep the order of the rows on show, as long as the question is the same.
 */
export function useSteady(
  answer: JobPage | null,
  { asked, answered, size, hold }: { asked: string; answered: boolean; size: number; hold: boolean },
): Steady {
  const kept = useRef<Kept | null>(null);
  const seen = useRef<JobPage | null>(null);
  const [, redraw] = useState(0);
  if (answer && answered && (answer !== seen.current || !hold)) {
    seen.current = answer;
    kept.current = take(kept.current, answer, asked, size, hold);
  }
  const now = kept.current;
  const fresh = new Set(seen.current?.jobs.map((job) => job.job_id));
  const latest = seen.current?.jobs.slice(0, size) ?? [];
  return {
    rows: now?.ids.map((id) => now.known.get(id) as JobView) ?? null,
    gone: new Set(now?.ids.filter((id) => !fresh.has(id))),
    total: seen.current?.total ?? 0,
    grown: now && seen.current ? seen.current.total - now.total : 0,
    outdated:
      now !== null &&
      now.of === asked &&
      (now.ids.length !== latest.length || latest.some((job, at) => job.job_id !== now.ids[at])),
    of: now?.of ?? "",
    stale: now !== null && now.of !== asked,
    settle: () => {
      if (!seen.current) return;
      kept.current = take(null, seen.current, asked, size, false);
      redraw((count) => count + 1);
    },
  };
}

function take(old: Kept | null, page: JobPage, of: string, size: number, hold: boolean): Kept {
  const known = new Map(page.jobs.map((job) => [job.job_id, newer(old?.known.get(job.job_id), job)]));
  if (!old || old.of !== of || !hold) {
    return { of, ids: page.jobs.slice(0, size).map((job) => job.job_id), known, total: page.total };
  }
  for (const id of old.ids) {
    const job = old.known.get(id);
    if (job && !known.has(id)) known.set(id, job);
  }
  return { ...old, known };
}

/** The same object where nothing changed: its row is not drawn again. */
function newer(old: JobView | undefined, job: JobView): JobView {
  return old && old.version >= job.version ? old : job;
}
