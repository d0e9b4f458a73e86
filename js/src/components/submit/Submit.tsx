/** The whole way to a job: a form, the plan that it makes, and the job that comes of agreeing to it. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { JobState } from "../../contract";
import { useAnswer, useKey } from "../../hooks";
import { useWords } from "../../words";
import { Button, ErrorBanner } from "../atoms";
import { HOME } from "../destination/places";
import { JobPanel } from "../job/JobPanel";
import { Consent } from "./Consent";
import { newKey } from "./draft";
import { Form } from "./Form";
import { Reading } from "./fields";
import { useSeconds } from "./usePlan";
import { useWay } from "./useWay";

const ACTIVE: JobState[] = ["pending", "uploading", "queued", "running"];
const TWINS = 100;

export function Submit() {
  const t = useWords();
  const [job_id, setJob] = useKey("job_id");
  const [, setKey] = useKey("key");
  const [again, setAgain] = useState(false);
  const shown = useRef<HTMLElement>(null);
  const [sent, setSent] = useState("");
  useEffect(() => {
    // the button that had the focus is gone; whoever went on to another cell meanwhile is left there
    if (sent && sent === job_id && document.activeElement === document.body) shown.current?.focus();
  }, [sent, job_id]);
  const submitted = (job_id: string) => {
    setSent(job_id);
    setJob(job_id);
  };
  const renew = () => {
    setAgain(true);
    setKey(newKey());
    setJob("");
  };
  if (!job_id) return <Way again={again} submitted={submitted} />;
  return (
    <section class="stc-stack" aria-label={t("Submitted job")} tabIndex={-1} ref={shown}>
      <div>
        <Button kind="quiet" class="stc-button stc-flush" onClick={renew}>
          {t("New job")}
        </Button>
      </div>
      <JobPanel job_id={job_id} />
    </section>
  );
}

/** From a form to a job, once. `again`: the form begins as the last request. */
export function Way({ again, submitted }: { again: boolean; submitted: (job_id: string) => void }) {
  const t = useWords();
  const providers = useAnswer("providers", {}, { about: "" });
  const fallback = useAnswer("destination", {}, { about: "" });
  const way = useWay(again, providers.value ?? []);
  const { plan, request, before, error, reading, asked } = way.planning;
  const seconds = useSeconds(reading);
  const twins = { states: ACTIVE, provider: request?.provider, limit: TWINS };
  const active = useAnswer("jobs", request && twins);
  const ready = before ? t("The plan has changed.") : t("The plan is ready.");
  return (
    <div class="stc-submit">
      <span class="stc-hidden" role="status">
        {plan ? ready : reading && t("Reading the files of the data sets.")}
      </span>
      {providers.error && !providers.value && <ErrorBanner error={providers.error} again={providers.again} />}
      {plan && request && (
        <Consent
          plan={plan}
          request={request}
          providers={providers.value}
          before={before}
          active={active.value}
          heading={way.heading}
          submitted={(job) => {
            way.forget();
            submitted(job.job_id);
          }}
          open={submitted}
          again={way.reread}
          edit={way.edit}
        />
      )}
      {!plan && reading && !way.open && <Waiting seconds={seconds ?? 0} edit={way.edit} />}
      {!plan && !(reading && !way.open) && (
        <Form
          draft={way.draft}
          providers={providers.value}
          chosen={way.chosen}
          fallback={fallback.value ?? HOME}
          error={error}
          reading={seconds}
          asked={asked}
          change={way.change}
          review={way.review}
        />
      )}
    </div>
  );
}

/** A plan without a form above it is on its way; the form is there for who wants it. */
function Waiting({ seconds, edit }: { seconds: number; edit: () => void }) {
  const t = useWords();
  return (
    <section class="stc-waiting" aria-label={t("Plan")}>
      <div class="stc-head">
        <h2>{t("Plan")}</h2>
        <Button kind="quiet" onClick={edit}>
          {t("Change")}
        </Button>
      </div>
      <p>
        <Reading seconds={seconds} />
      </p>
      <p class="stc-faint">{t("Every file is looked at once. A large data set takes a while the first time.")}</p>
    </section>
  );
}
