/** The chart's place on the page, with what keys do in it. */

import type { RefObject } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { useWords } from "../../words";
import type { Chart } from "./chart";
import type { Curve, Point } from "./curve";
import type { Span } from "./ranges";
import { pointWord } from "./summary";

interface PlotProps {
  host: RefObject<HTMLDivElement | null>;
  chart: RefObject<Chart | null>;
  curve: Curve | undefined;
  /** Under the cursor, or the last one. */
  point: Point | null;
  cursor: number | null;
  setCursor: (step: number | null) => void;
  zoom: Span | null;
  setZoom: (to: Span | null) => void;
  /** Rises with each drawing. */
  drawn: number;
  describedBy: string;
}

export function Plot({ host, chart, curve, point, cursor, setCursor, zoom, setZoom, drawn, describedBy }: PlotProps) {
  const t = useWords();
  const byKeys = useRef(false);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a drawing may move the point
  useEffect(() => {
    const at = cursor !== null && point ? { step: point.step, value: point.smooth } : null;
    chart.current?.point(at, byKeys.current);
  }, [chart, cursor, point?.step, point?.smooth, drawn]);

  const pressed = (event: KeyboardEvent) => {
    const span = chart.current?.span;
    if (!curve?.length || !point || !span || event.ctrlKey || event.metaKey || event.altKey) return;
    const done = actOf(event, { curve, span, at: curve.nearest(point.step), zoom, cursor });
    if (!done) return;
    event.preventDefault();
    event.stopPropagation();
    byKeys.current = true;
    if ("cursor" in done) setCursor(done.cursor ?? null);
    if ("zoom" in done) setZoom(done.zoom ?? null);
  };
  const length = curve?.length ?? 0;
  return (
    <div
      ref={host}
      class="stc-loss-plot"
      role="slider"
      tabIndex={0}
      aria-label={t("Loss by step. Arrow keys move the cursor, plus and minus zoom, Escape shows all.")}
      aria-valuemin={length && curve ? curve.step[0] : 0}
      aria-valuemax={length && curve ? curve.step[length - 1] : 0}
      aria-valuenow={point?.step ?? 0}
      aria-valuetext={pointWord(t, point)}
      aria-describedby={describedBy}
      onKeyDown={pressed}
      onPointerMove={() => {
        byKeys.current = false;
      }}
      onBlur={() => {
        if (byKeys.current) setCursor(null);
      }}
    />
  );
}

interface Situation {
  curve: Curve;
  span: Span;
  /** Index of the point under the cursor. */
  at: number;
  zoom: Span | null;
  cursor: number | null;
}

/** What a key does; null: nothing. */
function actOf(
  { key, shiftKey }: KeyboardEvent,
  { curve, span, at, zoom, cursor }: Situation,
): { cursor?: number | null; zoom?: Span | null } | null {
  const first = curve.nearest(span[0]);
  const last = curve.nearest(span[1]);
  const stride = Math.max(1, Math.round((last - first) / 300)) * (shiftKey ? 10 : 1);
  const to = (index: number) => ({ cursor: curve.step[Math.max(first, Math.min(last, index))] });
  const here = curve.step[at];
  const acts: Record<string, () => { cursor?: number | null; zoom?: Span | null } | null> = {
    ArrowLeft: () => to(at - stride),
    ArrowRight: () => to(at + stride),
    Home: () => to(first),
    End: () => to(last),
    "+": () => ({ zoom: zoomed(span, here, 0.5) }),
    "=": () => ({ zoom: zoomed(span, here, 0.5) }),
    "-": () => ({ zoom: wider(zoomed(span, here, 2), curve) }),
    Escape: () => (zoom ? { zoom: null } : cursor === null ? null : { cursor: null }),
  };
  return Object.hasOwn(acts, key) ? acts[key]() : null;
}

function zoomed([from, to]: Span, about: number, factor: number): Span {
  const width = Math.max(2, (to - from) * factor);
  const part = to > from ? (about - from) / (to - from) : 0.5;
  return [about - width * part, about + width * (1 - part)];
}

/** The span within the curve; null where it would show all of it. */
function wider([from, to]: Span, curve: Curve): Span | null {
  const all: Span = [curve.step[0], curve.step[curve.length - 1]];
  const span: Span = [Math.max(from, all[0]), Math.min(to, all[1])];
  return span[0] <= all[0] && span[1] >= all[1] ? null : span;
}
