/** What the job is, where it runs, what it costs, and what can be done with it. */

import { useState } from "preact/hooks";
import type { JobView, ProviderView } from "../../contract";
import { useLab } from "../../hooks";
import { money, useWords } from "../../words";
import { badge, needsYou } from "../atoms";
import { CancelJob } from "../CancelJob";
import { Confirm } from "../Confirm";
import { Copy } from "../Copy";
import { Age } from "../clock";

interface HeadProps {
  job: JobView;
  /** Undefined before it is known, or where it is not installed any more. */
  provider: ProviderView | undefined;
  gone: boolean;
  again: () => void;
  deleted: () => void;
}

export function Head({ job, provider, gone, again, deleted }: HeadProps) {
  const t = useWords();
  return (
    <header class="stc-job-head">
      <div class="stc-job-title">
        <h2>{job.config_name || job.job_id}</h2>
        {badge(t, job.status, needsYou(job))}
      </div>
      <div class="stc-job-act">
        {!gone && job.is_active && <CancelJob job={job} t={t} done={again} />}
        {!gone && job.is_terminal && <Delete job={job} deleted={deleted} />}
      </div>
      <Where job={job} provider={provider} />
      <div class="stc-job-id">
        <code>{job.job_id}</code>
        <Copy text={job.job_id} label={t("Copy the job's id")} />
      </div>
    </header>
  );
}

function Where({ job, provider }: Pick<HeadProps, "job" | "provider">) {
  const t = useWords();
  const cost = job.cost_usd === null ? "" : money(t, job.cost_usd, job.job_type === "cloud");
  const targets = provider?.targets ?? [];
  const target = targets.length > 1 ? targets.find((one) => one.id === job.target)?.label : null;
  const hardware = provider?.hardware.find((one) => one.hardware === job.hardware_type)?.label ?? job.hardware_type;
  return (
    <ul class="stc-job-where" aria-label={t("Where and when")}>
      <li>{provider?.name ?? job.provider}</li>
      {target && <li>{target}</li>}
      {hardware && <li>{hardware}</li>}
      {job.attempt > 1 && <li>{t("Attempt {attempt}", { attempt: job.attempt })}</li>}
      <li>
        <Age at={job.created_at} say={(age) => t("Submitted {age}", { age })} />
      </li>
      <li class="stc-number">
        {job.is_active && cost
          ? t("Cost so far: {cost}", { cost })
          : t("Cost: {cost}", { cost: cost || t("not known") })}
      </li>
    </ul>
  );
}

function Delete({ job, deleted }: { job: JobView; deleted: () => void }) {
  const t = useWords();
  const { desk } = useLab();
  const [outputs, setOutputs] = useState(false);
  return (
    <Confirm
      label={t("Delete")}
      name={t("Delete {name}", { name: job.config_name })}
      question={t("Delete this job and its log?")}
      no={t("Keep it")}
      yes={t("Delete the job")}
      act={async () => {
        await desk.ask("delete", { job_id: job.job_id, outputs });
        deleted();
      }}
    >
      <label class="stc-job-outputs">
        <input type="checkbox" checked={outputs} onChange={(event) => setOutputs(event.currentTarget.checked)} />
        <span>{t("Its received files too")}</span>
      </label>
    </Confirm>
  );
}
