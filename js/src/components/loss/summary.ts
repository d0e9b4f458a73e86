/** A curve in words, for those who cannot see it. */

import { count, figure, type Translate } from "../../words";
import type { Point, Summary } from "./curve";

export function summaryWord(t: Translate, summary: Summary | null): string {
  if (!summary) return t("There is no loss yet.");
  const { first, lowest, last } = summary;
  return t(
    "Loss from step {from} to step {to}: first {first}, lowest {lowest} at step {at}, last {last}, smoothed {smooth}.",
    {
      from: count(first.step),
      to: count(last.step),
      first: figure(first.loss),
      lowest: figure(lowest.loss),
      at: count(lowest.step),
      last: figure(last.loss),
      smooth: figure(last.smooth),
    },
  );
}

export function gapWord(t: Translate, gaps: number): string {
  if (gaps === 1) return t("The loss of 1 step is not a number. It is marked at the bottom of the chart.");
  return t("The loss of {count} steps is not a number. They are marked at the bottom of the chart.", {
    count: count(gaps),
  });
}

/** The point under the cursor. */
export function pointWord(t: Translate, point: Point | null): string {
  if (!point) return t("There is no loss yet.");
  return t("Step {step}: loss {loss}, smoothed {smooth}, learning rate {rate}", {
    step: count(point.step),
    loss: figure(point.loss),
    smooth: figure(point.smooth),
    rate: figure(point.lr),
  });
}
