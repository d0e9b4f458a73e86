/** What of steps and values a chart shows. */

import type { Trace } from "./chart";
import type { Line } from "./curve";

export type Span = [number, number];

const MARGIN = 0.05;

/** From the first step of any curve to the last of any. */
export function wholeSpan(traces: Trace[]): Span {
  let from = Number.POSITIVE_INFINITY;
  let to = Number.NEGATIVE_INFINITY;
  for (const { curve } of traces) {
    if (!curve.length) continue;
    from = Math.min(from, curve.step[0]);
    to = Math.max(to, curve.step[curve.length - 1]);
  }
  if (from > to) return [0, 1];
  return from === to ? [from - 1, to + 1] : [from, to];
}

/** What the lines reach within a span of steps, with a margin. A logarithmic range begins at a round value and has two. */
export function rangeOf(lines: Line[], span: Span, log: boolean): Span {
  const reached: Span = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const line of lines) reach(reached, line, span, log ? Number.MIN_VALUE : Number.NEGATIVE_INFINITY);
  const [low, high] = reached;
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (log) {
    const [digits, power] = low.toExponential().split("e");
    const ticks = [Number(digits[0]), Number(digits[0]) + 1].map((digit) => Number(`${digit}e${power}`));
    return [ticks[0], Math.max(high * (high / low) ** MARGIN, ticks[1])];
  }
  const margin = (high - low) * MARGIN || Math.abs(high) * MARGIN || 1;
  return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
}

/** Widens a range by a line's values within a span of steps; values below `least` do not count. */
function reach(range: Span, line: Line, [from, to]: Span, least: number): void {
  for (let index = 0; index < line.length; index += 1) {
    const value = line.y[index];
    if (!(line.x[index] >= from && line.x[index] <= to && value >= least)) continue;
    if (value < range[0]) range[0] = value;
    if (value > range[1]) range[1] = value;
  }
}
