/** What uPlot is told about the curve's chart: three scales, three axes, a cursor, a drag along the steps. */

import type uPlot from "uplot";
import { count, figure } from "../../words";
import type { Heard, Ranges, Scene } from "./chart";

/** What cannot be changed once a plot is made. */
export interface Kind {
  log: boolean;
  /** The learning rate has its axis. */
  rated: boolean;
}

export interface Parts extends Heard {
  /** Family of the axes' figures. */
  font: string;
  range: (scale: keyof Ranges) => [number, number];
  ink: () => Scene["ink"] | undefined;
  /** The axes are drawn, and the lines are to be. */
  draw: () => void;
}

/** Axes have whole steps at their ticks, and their sizes never change: the plot does not jump. */
export function optionsOf({ log, rated }: Kind, parts: Parts): Omit<uPlot.Options, "width" | "height"> {
  const axis = (over: uPlot.Axis) => axisOf(over, parts);
  return {
    padding: [8, rated ? 0 : 12, 0, 0],
    legend: { show: false },
    series: [{}],
    scales: {
      x: { time: false, range: () => parts.range("x") },
      y: { range: () => parts.range("y"), distr: log ? 3 : 1, clamp: () => Number.NaN },
      rate: { range: () => parts.range("rate") },
    },
    axes: [
      axis({ size: 28, gap: 8, space: 80, incrs: WHOLE, values: (_, steps) => steps.map(count) }),
      axis({ scale: "y", size: 48 }),
      axis({ scale: "rate", size: 58, side: 1, show: rated, grid: { show: false } }),
    ],
    cursor: {
      y: false,
      points: { show: false },
      drag: { dist: 4, setScale: false },
      bind: {
        dblclick: () => () => {
          parts.zoom(null);
          return null;
        },
      },
    },
    hooks: {
      draw: [parts.draw],
      setCursor: [(plot) => parts.cursor(stepUnder(plot))],
      setSelect: [(plot) => takeSelection(plot, parts.zoom)],
    },
  };
}

/** 1, 2 and 5 times each power of ten. */
const WHOLE = Array.from({ length: 30 }, (_, index) => [1, 2, 5][index % 3] * 10 ** Math.floor(index / 3));

function axisOf(over: uPlot.Axis, { font, ink }: Parts): uPlot.Axis {
  return {
    stroke: () => ink()?.text ?? "",
    font: `11px ${font}`,
    ticks: { show: false },
    gap: 6,
    space: 36,
    values: (_, splits) => splits.map(tickWord),
    ...over,
    grid: { width: 1, stroke: () => ink()?.grid ?? "", ...over.grid },
  };
}

/** What is written at a tick; null: one without words. */
export function tickWord(value: number | null): string {
  if (value === null) return "";
  const size = Math.abs(value);
  return size > 0 && size < 1e-3 ? Number(value.toPrecision(3)).toExponential() : figure(value);
}

function stepUnder({ cursor, posToVal }: uPlot): number | null {
  return cursor.left === undefined || cursor.left < 0 ? null : posToVal(cursor.left, "x");
}

/** What was dragged over becomes what is shown, if it is a step or more. */
function takeSelection(plot: uPlot, zoom: Heard["zoom"]): void {
  const { left, width } = plot.select;
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  const span: [number, number] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
  if (span[1] - span[0] >= 1) zoom(span);
}
