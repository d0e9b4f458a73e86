/** A chart that lives in an element and is drawn anew when the element changes its size. */

import type { RefObject } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { Chart, type Heard } from "./chart";

export function useChart(
  host: RefObject<HTMLDivElement | null>,
  heard: Heard & { resized: () => void },
): RefObject<Chart | null> {
  const chart = useRef<Chart | null>(null);
  const latest = useRef(heard);
  latest.current = heard;
  useLayoutEffect(() => {
    if (!host.current) return;
    const made = new Chart(host.current, {
      zoom: (to) => latest.current.zoom(to),
      cursor: (step) => latest.current.cursor(step),
    });
    chart.current = made;
    return () => {
      chart.current = null;
      made.destroy();
    };
  }, [host]);
  useEffect(() => {
    if (!host.current) return;
    const observer = new ResizeObserver(() => latest.current.resized());
    observer.observe(host.current);
    return () => observer.disconnect();
  }, [host]);
  return chart;
}
