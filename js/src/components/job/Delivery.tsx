/** Where the model went besides home, how that stands, and a way to send it somewhere else too. */

import { useState } from "preact/hooks";
import type { LabError } from "../../ask";
import type { DeliveryState, DeliveryView, Destination, JobView } from "../../contract";
import { asLabError, useAnswer, useLab } from "../../hooks";
import { type Translate, useWords } from "../../words";
import { Note } from "../atoms";
import { Confirm } from "../Confirm";
import { DestinationFields, type KINDS } from "../destination/DestinationFields";
import { BLANK, placeText } from "../destination/places";
import { Problems } from "../submit/fields";
import { placed } from "../submit/problems";

const AWAY: typeof KINDS = ["hub", "s3"];

/** The whole detail is asked for, which may list 10,000 files: seldom, and while the job runs only once. */
const GAP_MS = 2_000;

export function useDelivery(job: JobView) {
  const about = job.is_terminal ? job.job_id : "";
  const { value, again } = useAnswer("detail", { job_id: job.job_id }, { about, gap_ms: GAP_MS });
  return { delivery: value?.delivery ?? null, known: value !== null, again };
}

export function Standing({ delivery }: { delivery: DeliveryView }) {
  const t = useWords();
  const { state, destination, url, problem, hint } = delivery;
  return (
    <Note tone={problem ? "warn" : "note"}>
      <div role="status">
        <strong>{stateWord(t, state)}</strong>{" "}
        {webAddress(url) ? (
          <a class="stc-link" href={url} target="_blank" rel="noopener noreferrer">
            {placeText(t, destination)}
          </a>
        ) : (
          placeText(t, destination)
        )}
      </div>
      {problem && <div>{problem}</div>}
      {hint && <div class="stc-faint">{hint}</div>}
    </Note>
  );
}

function stateWord(t: Translate, state: DeliveryState): string {
  const words: Record<DeliveryState, string> = {
    waiting: t("Waits to be sent:"),
    sending: t("Being sent:"),
    delivered: t("Delivered:"),
    failed: t("Not delivered:"),
  };
  return words[state] ?? state;
}

function webAddress(url: string): boolean {
  return /^https?:\/\//.test(url);
}

interface PushProps {
  job: JobView;
  /** Where it went before. */
  before: Destination | undefined;
  done: () => void;
}

/** Only this one model goes there, with the lab's own keys, and after one more question. */
export function Push({ job, before, done }: PushProps) {
  const t = useWords();
  const { desk } = useLab();
  const [chosen, choose] = useState<Destination | null>(null);
  const [error, setError] = useState<LabError | null>(null);
  const value = chosen ?? (before && before.kind !== "home" ? before : BLANK.hub);
  const change = (next: Destination) => {
    setError(null);
    choose(next);
  };
  return (
    <div class="stc-push">
      <Confirm
        label={t("Push to…")}
        question={t("Send this model somewhere else too?")}
        no={t("Not now")}
        yes={t("Send it there")}
        tone="primary"
        act={async () => {
          try {
            await desk.ask("push", { job_id: job.job_id, destination: value });
          } catch (caught) {
            setError(asLabError(caught));
            throw caught;
          }
          done();
        }}
      >
        <Problems.Provider value={{ problems: placed(error?.problems ?? [], []), mend: () => setError(null) }}>
          <div class="stc-push-fields">
            <DestinationFields value={value} change={change} kinds={AWAY} senders={false} />
            <p class="stc-faint">
              {t("The lab sends the files from its results folder with its own keys. The copy at home stays.")}
            </p>
          </div>
        </Problems.Provider>
      </Confirm>
    </div>
  );
}
