/** Which other runs' curves are drawn beside this one's. */

import type { JobView } from "../../contract";
import { useAnswer } from "../../hooks";
import { ago, count, useWords } from "../../words";
import { ErrorBanner } from "../atoms";

export const MOST_COMPARED = 4;

/** A run that is compared; its slot is its colour and dash. */
export interface Compared {
  slot: number;
  job: JobView;
}

interface CompareProps {
  job: JobView;
  compared: Compared[];
  choose: (compared: Compared[]) => void;
}

export function Compare({ job, compared, choose }: CompareProps) {
  const t = useWords();
  const recent = useAnswer("jobs", { limit: 20, sort: "-created_at" }, { about: job.job_id });
  const others = (recent.value?.jobs ?? []).filter((other) => other.job_id !== job.job_id && other.progress.step > 0);
  const full = compared.length >= MOST_COMPARED;
  const toggle = (other: JobView) => {
    const without = compared.filter((one) => one.job.job_id !== other.job_id);
    if (without.length < compared.length) return choose(without);
    const slot = [0, 1, 2, 3].find((free) => compared.every((one) => one.slot !== free)) ?? 0;
    choose([...compared, { slot, job: other }]);
  };
  return (
    <section class="stc-loss-compare" aria-label={t("Compare")}>
      <h3>{t("Compare with up to four recent runs")}</h3>
      {recent.error && <ErrorBanner error={recent.error} again={recent.again} />}
      {recent.value && others.length === 0 && <p class="stc-faint">{t("No other run has a curve yet.")}</p>}
      {others.map((other) => {
        const chosen = compared.some((one) => one.job.job_id === other.job_id);
        return (
          <label key={other.job_id} class="stc-loss-choice">
            <input type="checkbox" checked={chosen} disabled={!chosen && full} onChange={() => toggle(other)} />
            <span class="stc-loss-name">{other.config_name || other.job_id}</span>
            <span class="stc-faint stc-number">
              {t("{step} steps, {age}", {
                step: count(other.progress.step),
                age: ago(t, other.created_at, Date.now()),
              })}
            </span>
          </label>
        );
      })}
    </section>
  );
}
