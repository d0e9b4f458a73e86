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

/** While the job runs they are asked for only once. */
const GAP_MS = 2_000;

export function useDeliveries(job: JobView) {
  const about = job.is_terminal ? job.job_id : "";
  const { value, again } = useAnswer("deliveries", { job_id: job.job_id }, { about, gap_ms: GAP_MS });
  return { deliveries: value ?? [], known: value !== null, again };
}

interface StandingProps {
  job: JobView;
  delivery: DeliveryView;
  done: () => void;
}

/** What waits for a running trainer's own delivery cannot be called back from here. */
export function Standing({ job, delivery, done }: StandingProps) {
  const t = useWords();
  const { desk } = useLab();
  const open = delivery.state === "waiting" || delivery.state === "sending";
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
      {open && (job.is_terminal || !byTrainer(delivery)) && (
        <Confirm
          label={t("Give up")}
          name={t("Do not send the model to {place}", { place: placeText(t, destination) })}
          kind="quiet"
          question={t("Send the model no further there?")}
          no={t("Go on")}
          yes={t("Give up")}
          act={async () => {
            await desk.ask("give_up", { job_id: job.job_id, id: delivery.id });
            done();
          }}
        />
      )}
    </Note>
  );
}

/** Whether the results go there straight from the training machine. */
export function byTrainer({ destination }: DeliveryView): boolean {
  return destination.kind !== "home" && destination.sender === "trainer";
}

function stateWord(t: Translate, state: DeliveryState): string {
  const words: Record<DeliveryState, string> = {
    waiting: t("Waits to be sent:"),
    sending: t("Being sent:"),
    delivered: t("Delivered:"),
    failed: t("Not delivered:"),
    given_up: t("Given up:"),
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
