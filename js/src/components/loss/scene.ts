/** From curves and wishes to what a chart draws. */

import type { Compared } from "./Compare";
import type { Options } from "./Controls";
import type { Scene, Trace } from "./chart";
import type { Curve } from "./curve";
import { DASHES, type Ink } from "./ink";
import type { Span } from "./ranges";

interface Parts {
  main: Curve;
  compared: Compared[];
  curveOf: (job_id: string) => Curve | undefined;
  options: Options;
  zoom: Span | null;
  ink: Ink;
}

/** The raw loss faint, the smoothed one strong and last, so that it lies on top. */
export function sceneOf({ main, compared, curveOf, options, zoom, ink }: Parts): Scene {
  const traces: Trace[] = [];
  if (options.rate) traces.push({ curve: main, column: "lr", colour: ink.rate, width: 1.25 });
  traces.push({ curve: main, column: "loss", colour: ink.loss, width: 1, alpha: 0.35 });
  for (const { slot, job } of compared) {
    const curve = curveOf(job.job_id);
    if (!curve) continue;
    traces.push({ curve, column: "smooth", colour: ink[`compared-${slot as 0}`], width: 1.75, dash: DASHES[slot] });
  }
  traces.push({ curve: main, column: "smooth", colour: ink.loss, width: 2 });
  return { main, traces, zoom, log: options.log, ink };
}
