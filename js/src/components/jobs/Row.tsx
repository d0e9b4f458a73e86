/** One job of the list: a row of the table, or a card of two lines where it is narrow. */

import { useMemo } from "preact/hooks";
import type { JobView } from "../../contract";
import { count, duration, figure, money, type Translate } from "../../words";
import { Bar, badge, needsYou } from "../atoms";
import { CancelJob } from "../CancelJob";
import { Age } from "../clock";

interface RowProps {
  job: JobView;
  provider: string;
  gone: boolean;
  t: Translate;
  choose: (job_id: string) => void;
  again: () => void;
}

/**
 * Drawn again only when its job is another one than before: `steady` keeps what did not change. Its parts take `t`
 * from here, and follow the model by no listener of their own: there may be 500 rows.
 */
export function Row({ job, provider, gone, t, choose, again }: RowProps) {
  return useMemo(
    () => (
      <tr class="stc-jobs-row" data-gone={gone || undefined} aria-label={job.config_name}>
        <th scope="row" class="stc-jobs-name">
          {/* Without the attribute JupyterLab takes the arrows, and goes to another cell. */}
          <button
            type="button"
            class="stc-jobs-open"
            data-lm-suppress-shortcuts="true"
            onClick={() => choose(job.job_id)}
            title={job.config_name}
          >
            {job.config_name || job.job_id}
          </button>
        </th>
        <td class="stc-jobs-state">{badge(t, job.status, needsYou(job))}</td>
        <td class="stc-jobs-provider">
          {provider} <span class="stc-faint">{job.job_type === "cloud" ? t("cloud") : t("local")}</span>
        </td>
        <td class="stc-jobs-progress">
          <Steps job={job} t={t} />
        </td>
        <td class="stc-jobs-loss stc-number">{figure(job.progress.loss)}</td>
        <td class="stc-jobs-cost stc-number">{money(t, job.cost_usd, job.job_type === "cloud")}</td>
        <td class="stc-jobs-time stc-number">{duration(t, job.duration_seconds)}</td>
        <td class="stc-jobs-created">
          <Age at={job.created_at} />
        </td>
        <td class="stc-jobs-updated">
          <Age at={job.updated_at} />
        </td>
        <td class="stc-jobs-act">{!gone && <CancelJob job={job} t={t} kind="quiet" done={again} />}</td>
      </tr>
    ),
    [job, provider, gone, choose, again, t],
  );
}

function Steps({ job, t }: { job: JobView; t: Translate }) {
  const { step, total_steps } = job.progress;
  const words = { step: count(step), total: count(total_steps) };
  const place = job.queue_position;
  if (place) {
    return (
      <span class="stc-number" title={job.waiting}>
        {t("Queue: {place}", { place: count(place) })}
      </span>
    );
  }
  if (job.is_active && job.waiting && step === 0) {
    return (
      <span class="stc-jobs-why stc-faint" title={job.waiting}>
        {job.waiting}
      </span>
    );
  }
  return (
    <>
      <Bar part={total_steps ? step / total_steps : 0} state={job.status} label={t("Progress")} />
      <span class="stc-number">{total_steps ? t("{step} / {total}", words) : "—"}</span>
    </>
  );
}
