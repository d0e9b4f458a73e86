/** Why it failed, or what is wrong with it now (SPEC X3). */

import type { JobView } from "../../contract";
import { useWords } from "../../words";
import { Button, Note } from "../atoms";

export function Trouble({ job, openLog }: { job: JobView; openLog: (() => void) | null }) {
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
      {job.uncertain && (
        <Note tone="warn">
          {t(
            "The provider did not say whether this run was started. It is not sent again by itself: look there before you submit it once more.",
          )}
        </Note>
      )}
    </>
  );
}
