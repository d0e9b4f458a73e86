/** The curves of a job and of those it is compared with, asked for while they can be seen. */

import type { RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { JobView } from "../../contract";
import { useLab, useNews } from "../../hooks";
import { Feed } from "./feed";

const COMPARED_GAP_MS = 1000;

/** A feed for each id, the first of which is the job on show. */
export function useFeeds(
  job: JobView,
  compared: string[],
  { weight, seen, changed }: { weight: number; seen: boolean; changed: () => void },
): RefObject<Map<string, Feed>> {
  const { model, desk } = useLab();
  const feeds = useRef(new Map<string, Feed>());
  const wanted = [job.job_id, ...compared].join(" ");
  const now = useRef({ weight, seen });
  now.current = { weight, seen };

  useLayoutEffect(() => {
    const ids = wanted.split(" ");
    keepOnly(feeds.current, ids);
    for (const id of ids.filter((id) => !feeds.current.has(id))) {
      const feed = new Feed(desk, id, now.current.weight, changed);
      feeds.current.set(id, feed);
      const saved = model.get("curve");
      if (saved?.job_id === id) feed.begin(saved);
      if (now.current.seen) feed.look();
    }
    changed();
  }, [desk, model, wanted, changed]);

  useEffect(() => {
    const held = feeds.current;
    return () => keepOnly(held, []);
  }, []);

  const look = useCallback((which: "shown" | "compared" | "all") => {
    if (!now.current.seen) return;
    for (const [index, feed] of [...feeds.current.values()].entries()) {
      if (which === "all" || (which === "shown") === (index === 0)) feed.look();
    }
  }, []);
  useNews(job.job_id, () => look("shown"));
  useNews(null, () => look("compared"), COMPARED_GAP_MS);
  const before = useRef(seen);
  useEffect(() => {
    if (seen && !before.current) look("all");
    before.current = seen;
  }, [seen, look]);

  useEffect(() => {
    for (const feed of feeds.current.values()) feed.curve.smoothBy(weight);
    changed();
  }, [weight, changed]);
  return feeds;
}

function keepOnly(feeds: Map<string, Feed>, ids: string[]): void {
  for (const [id, feed] of feeds) {
    if (ids.includes(id)) continue;
    feed.close();
    feeds.delete(id);
  }
}
