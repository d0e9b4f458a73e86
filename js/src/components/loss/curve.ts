/** A training curve as columns that grow: taking in what is new, smoothing, and thinning to what a screen can show. */

import type { MetricsView } from "../../contract";

const FIRST_ROOM = 1024;

export type Column = "loss" | "lr" | "smooth";

/** What was measured at one step. A number that is missing is NaN. */
export interface Point {
  step: number;
  loss: number;
  smooth: number;
  lr: number;
}

export interface Summary {
  first: Point;
  lowest: Point;
  last: Point;
  /** Steps whose loss is not a number. */
  gaps: number;
}

export class Curve {
  length = 0;
  step = new Float64Array(FIRST_ROOM);
  loss = new Float64Array(FIRST_ROOM);
  lr = new Float64Array(FIRST_ROOM);
  smooth = new Float64Array(FIRST_ROOM);
  /** Points that the lab has beyond those that are held here. */
  #left_out = 0;
  #weight: number;
  #mean = { value: 0, norm: 0, step: Number.NaN };

  constructor(weight = 0) {
    this.#weight = weight;
  }

  /** Holds the whole curve as answered, be it thinned. */
  replace(view: MetricsView): void {
    this.length = 0;
    this.#left_out = view.total - view.step.length;
    this.#append(view, 0);
    this.#smooth(0);
  }

  /** The curve has every point that the lab had. */
  get whole(): boolean {
    return this.#left_out === 0;
  }

  /** What to ask for as `after_step`: the answer begins with the last point held, by which a rewrite is seen. */
  get after(): number {
    return this.step[this.length - 1] - 1;
  }

  /**
   * Takes the answer about what came after `after`. False where it does not go on from here, since a resume went back
   * some steps or points are missing: the whole curve has to be asked for again.
   */
  extend(view: MetricsView): boolean {
    const last = this.length - 1;
    const same =
      view.step.length > 0 &&
      view.step[0] === this.step[last] &&
      Object.is(view.loss[0] ?? Number.NaN, this.loss[last]) &&
      Object.is(view.lr[0] ?? Number.NaN, this.lr[last]);
    if (!same || last + view.step.length + this.#left_out !== view.total) return false;
    this.#append(view, 1);
    this.#smooth(last + 1);
    return true;
  }

  /** Changes the weight of the past in the smoothed column: 0 (none) to below 1. */
  smoothBy(weight: number): void {
    if (weight === this.#weight) return;
    this.#weight = weight;
    this.#smooth(0);
  }

  /** Index of the point nearest to a step; -1 where there is none. */
  nearest(step: number): number {
    const after = lowerBound(this.step, this.length, step);
    if (after === 0) return this.length ? 0 : -1;
    if (after === this.length) return after - 1;
    return step - this.step[after - 1] <= this.step[after] - step ? after - 1 : after;
  }

  at(index: number): Point {
    return { step: this.step[index], loss: this.loss[index], smooth: this.smooth[index], lr: this.lr[index] };
  }

  /** First, lowest and last of the losses that are numbers; null where there is none. */
  summary(): Summary | null {
    let first = -1;
    let lowest = -1;
    let last = -1;
    let gaps = 0;
    for (let index = 0; index < this.length; index += 1) {
      const loss = this.loss[index];
      if (Number.isNaN(loss)) {
        gaps += 1;
        continue;
      }
      if (first < 0) first = index;
      if (lowest < 0 || loss < this.loss[lowest]) lowest = index;
      last = index;
    }
    return first < 0 ? null : { first: this.at(first), lowest: this.at(lowest), last: this.at(last), gaps };
  }

  #append(view: MetricsView, from: number): void {
    const added = view.step.length - from;
    this.#reserve(this.length + added);
    for (let index = from; index < view.step.length; index += 1) {
      const at = this.length + index - from;
      this.step[at] = view.step[index];
      this.loss[at] = view.loss[index] ?? Number.NaN;
      this.lr[at] = view.lr[index] ?? Number.NaN;
    }
    this.length += added;
  }

  #reserve(room: number): void {
    if (room <= this.step.length) return;
    const size = Math.max(room, this.step.length * 2);
    for (const name of ["step", "loss", "lr", "smooth"] as const) {
      const wider = new Float64Array(size);
      wider.set(this[name].subarray(0, this.length));
      this[name] = wider;
    }
  }

  /** Debiased exponential mean, the past weighted by the steps that lie between; a gap leaves it as it was. */
  #smooth(from: number): void {
    if (from === 0) this.#mean = { value: 0, norm: 0, step: Number.NaN };
    const mean = this.#mean;
    for (let index = from; index < this.length; index += 1) {
      const loss = this.loss[index];
      if (Number.isNaN(loss)) {
        this.smooth[index] = Number.NaN;
        continue;
      }
      const apart = this.step[index] - mean.step;
      const past = apart > 1 ? this.#weight ** apart : this.#weight;
      mean.value = mean.value * past + loss * (1 - past);
      mean.norm = mean.norm * past + (1 - past);
      mean.step = this.step[index];
      this.smooth[index] = mean.value / mean.norm;
    }
  }
}

/** Vertices of a line, NaN in `y` where the pen is lifted. */
export interface Line {
  x: Float64Array;
  y: Float64Array;
  length: number;
}

/**
 * The points of a column between two steps, thinned to the smallest and the largest in each of `columns` equal
 * stretches, in their order, with one neighbour outside on either side. As drawn on so many pixels it is the same
 * line. Few points stay as they are.
 */
export function thin(curve: Curve, column: Column, from: number, to: number, columns: number): Line {
  const begin = Math.max(0, lowerBound(curve.step, curve.length, from) - 1);
  const end = Math.min(curve.length, upperBound(curve.step, curve.length, to) + 1);
  const value = curve[column];
  if (end - begin <= columns * 3) {
    return { x: curve.step.subarray(begin, end), y: value.subarray(begin, end), length: end - begin };
  }
  return minMax(curve.step, value, { begin, end, from, width: (to - from) / columns, columns });
}

interface Cut {
  begin: number;
  end: number;
  from: number;
  width: number;
  columns: number;
}

function minMax(step: Float64Array, value: Float64Array, { begin, end, from, width, columns }: Cut): Line {
  const x = new Float64Array((columns + 4) * 3);
  const y = new Float64Array(x.length);
  let length = 0;
  const put = (index: number) => {
    x[length] = step[index];
    y[length] = value[index];
    length += 1;
  };
  let index = begin;
  while (index < end) {
    const limit = from + (Math.floor((step[index] - from) / width) + 1) * width;
    let until = index + 1;
    while (until < end && step[until] < limit) until += 1;
    const { low, high, gap } = extremes(value, index, until);
    if (low >= 0) put(Math.min(low, high));
    if (low !== high) put(Math.max(low, high));
    if (gap > Math.max(low, high)) put(gap);
    index = until;
  }
  return { x, y, length };
}

/** Indexes of the smallest, the largest and the last missing value between two; -1 where there is none. */
function extremes(value: Float64Array, begin: number, end: number): { low: number; high: number; gap: number } {
  let low = -1;
  let high = -1;
  let gap = -1;
  for (let index = begin; index < end; index += 1) {
    const here = value[index];
    if (Number.isNaN(here)) gap = index;
    else {
      if (low < 0 || here < value[low]) low = index;
      if (high < 0 || here > value[high]) high = index;
    }
  }
  return { low, high, gap };
}

/** Steps between two whose loss is not a number, at most `most` of them. */
export function gapsBetween(curve: Curve, from: number, to: number, most: number): number[] {
  const found: number[] = [];
  const end = upperBound(curve.step, curve.length, to);
  for (let index = lowerBound(curve.step, curve.length, from); index < end && found.length < most; index += 1) {
    if (Number.isNaN(curve.loss[index])) found.push(curve.step[index]);
  }
  return found;
}

/** Index of the first value that is not below. */
function lowerBound(values: Float64Array, length: number, wanted: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the first value that is above. */
function upperBound(values: Float64Array, length: number, wanted: number): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
