/** Ends a run, after one more question. */

import type { JobView } from "../contract";
import { useLab } from "../hooks";
import type { Translate } from "../words";
import { Confirm } from "./Confirm";

interface CancelProps {
  job: JobView;
  t: Translate;
  kind?: "plain" | "quiet";
  done: () => void;
}

export function CancelJob({ job, t, kind, done }: CancelProps) {
  const { desk } = useLab();
  if (!job.is_active) return null;
  return (
    <Confirm
      label={t("Cancel")}
      name={t("Cancel {name}", { name: job.config_name })}
      kind={kind}
      under_way={job.cancel_requested ? t("Cancelling…") : undefined}
      question={t("End this run?")}
      no={t("Keep it")}
      yes={t("End the run")}
      act={async () => {
        await desk.ask("cancel", { job_id: job.job_id });
        done();
      }}
    />
  );
}
