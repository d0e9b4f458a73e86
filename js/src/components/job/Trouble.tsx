/** Why it failed, or what is wrong with it now (SPEC X3). */

import type { Decision, JobView } from "../../contract";
import { useLab } from "../../hooks";
import { useWords } from "../../words";
import { Button, Note } from "../atoms";
import { Confirm } from "../Confirm";

/** Nobody can tell whether a start arrived: its user looks, and decides (SPEC J7). */
function Doubt({ job, again }: { job: JobView; again: () => void }) {
  const t = useWords();
  const { desk } = useLab();
  const decide = (action: Decision) => async () => {
    await desk.ask("resolve", { job_id: job.job_id, action });
    again();
  };
  return (
    <Note tone="warn">
      {t(
        "The provider did not say whether this run was started. It is not sent again by itself: look there, then decide.",
      )}
      {job.is_active && (
        <div class="stc-row">
          <Confirm
            label={t("Send it again")}
            name={t("Send {name} again", { name: job.config_name })}
            question={t("Is there no run of it? A second one costs as much again.")}
            no={t("Wait")}
            yes={t("Start a run")}
            act={decide("resend")}
          />
          <Confirm
            label={t("Give it up")}
            name={t("Give {name} up", { name: job.config_name })}
            question={t("Give the job up? A run that there is goes on at the provider.")}
            no={t("Wait")}
            yes={t("Give up")}
            act={decide("give_up")}
          />
        </div>
      )}
    </Note>
  );
}

interface TroubleProps {
  job: JobView;
  openLog: (() => void) | null;
  again: () => void;
}

export function Trouble({ job, openLog, again }: TroubleProps) {
  const t = useWords();
  return (
    <>
      {job.error && (
        <section
          class="stc-banner stc-job-trouble"
          aria-label={t("What is wrong")}
          data-tone={job.status === "failed" ? undefined : "warn"}
          data-code={job.error.code}
        >
          <div>
            <strong class="stc-job-message">{job.error.message}</strong>
            {job.error.hint && <div>{job.error.hint}</div>}
            <div class="stc-faint">{t("Code: {code}", { code: job.error.code })}</div>
          </div>
          {openLog && <Button onClick={openLog}>{t("Open the log")}</Button>}
        </section>
      )}
      {job.uncertain && <Doubt job={job} again={again} />}
    </>
  );
}
