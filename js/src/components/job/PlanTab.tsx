/** The plan as it was submitted, which is what was agreed to, and what its runs have cost. */

import type { JobView } from "../../contract";
import { useAnswer } from "../../hooks";
import { useWords } from "../../words";
import { ErrorBanner } from "../atoms";
import { Copy } from "../Copy";
import { PlanDetails } from "../submit/PlanDetails";
import { Charges } from "./Charges";

/** Asked once: a plan never changes, and it may list 10,000 files. */
export function PlanTab({ job }: { job: JobView }) {
  const t = useWords();
  const { value, error, again } = useAnswer("detail", { job_id: job.job_id }, { about: "" });
  if (error && !value) return <ErrorBanner error={error} again={again} />;
  if (!value) return <p class="stc-job-wait stc-faint">{t("Reading the plan…")}</p>;
  const { plan } = value;
  const config = JSON.stringify({ config: plan.config, dataloader: plan.dataloader }, null, 2);
  return (
    <div class="stc-plan">
      {plan.remote && <Charges charges={value.charges} total={job.cost_usd} />}
      <PlanDetails plan={plan} />
      <div class="stc-row">
        <span>{t("The configuration as JSON")}</span>
        <Copy text={config} label={t("Copy the configuration")} />
      </div>
    </div>
  );
}
