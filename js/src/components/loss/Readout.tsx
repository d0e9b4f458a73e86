/** What is under the cursor, or else the latest values, in a place of fixed size. */

import { count, figure, useWords } from "../../words";
import type { Compared } from "./Compare";
import type { Curve, Point } from "./curve";
import { DASHES } from "./ink";

interface ReadoutProps {
  point: Point | null;
  rate: boolean;
}

export function Readout({ point, rate }: ReadoutProps) {
  const t = useWords();
  return (
    <dl class="stc-loss-readout">
      <Value label={t("Step")} value={point ? count(point.step) : "—"} />
      <Value label={t("Loss")} value={figure(point?.loss ?? null)} ink="raw" />
      <Value label={t("Smoothed")} value={figure(point?.smooth ?? null)} ink="loss" />
      <Value label={t("Learning rate")} value={figure(point?.lr ?? null)} ink={rate ? "rate" : undefined} />
    </dl>
  );
}

function Value({ label, value, ink }: { label: string; value: string; ink?: string }) {
  return (
    <div>
      <dt>
        {label}
        {ink && <i class="stc-loss-swatch" data-ink={ink} />}
      </dt>
      <dd class="stc-number">{value}</dd>
    </div>
  );
}

interface LegendProps {
  compared: Compared[];
  curveOf: (job_id: string) => Curve | undefined;
  /** Where the smoothed losses are read; null: at each curve's end. */
  step: number | null;
  drop: (slot: number) => void;
}

/** A line for each compared run: how it is drawn, its name, its smoothed loss. */
export function Legend({ compared, curveOf, step, drop }: LegendProps) {
  const t = useWords();
  if (compared.length === 0) return null;
  return (
    <ul class="stc-loss-legend" aria-label={t("Compared runs")}>
      {compared.map(({ slot, job }) => {
        const name = job.config_name || job.job_id;
        return (
          <li key={job.job_id}>
            <svg class="stc-loss-line" data-ink={`compared-${slot}`} width="28" height="8" aria-hidden="true">
              <line x1="1" y1="4" x2="27" y2="4" stroke-dasharray={DASHES[slot].join(" ")} />
            </svg>
            <span class="stc-loss-name">{name}</span>
            <span class="stc-number">{figure(smoothAt(curveOf(job.job_id), step))}</span>
            <button type="button" class="stc-button" data-kind="quiet" onClick={() => drop(slot)}>
              {t("Remove")}
              <span class="stc-hidden"> {name}</span>
            </button>
          </li>
        );
      })}
    </ul>
  );
}

function smoothAt(curve: Curve | undefined, step: number | null): number | null {
  if (!curve?.length) return null;
  const last = curve.length - 1;
  if (step === null) return curve.smooth[last];
  return step > curve.step[last] || step < curve.step[0] ? null : curve.smooth[curve.nearest(step)];
}
