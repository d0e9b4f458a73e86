/** Where the trained model goes: a card for each place, and the fields of the one that is chosen. */

import { useRef } from "preact/hooks";
import type { Destination, HubDestination, S3Destination, Sender } from "../../contract";
import { useAnswer, useUniqueId } from "../../hooks";
import { useWords } from "../../words";
import { Card, Check, Choice, Input } from "../submit/fields";
import { BLANK, type Kind, kindFacts, kindName, lacking, wayText } from "./places";

export const KINDS: Kind[] = ["home", "hub", "s3"];

interface DestinationFieldsProps {
  value: Destination;
  change: (value: Destination) => void;
  kinds?: Kind[];
  /** Whether the trainer may be the sender: not of a model that is at home already. */
  senders?: boolean;
}

/** What was typed for another place comes back with it. */
export function DestinationFields({ value, change, kinds = KINDS, senders = true }: DestinationFieldsProps) {
  const t = useWords();
  const group = useUniqueId();
  const typed = useRef<Partial<Record<Kind, Destination>>>({});
  const { value: publishing } = useAnswer("publishing", kinds.length > 1 ? {} : null, { about: "" });
  typed.current[value.kind] = value;
  const lack = lacking(t, value.kind, publishing);
  return (
    <>
      <div class="stc-cards" role="radiogroup" aria-label={t("Where the model goes")}>
        {kinds.map((kind) => (
          <Card
            key={kind}
            group={group}
            name={kindName(t, kind)}
            checked={kind === value.kind}
            place="destination"
            choose={() => change(typed.current[kind] ?? BLANK[kind])}
          >
            {kindFacts(t, kind)}
          </Card>
        ))}
      </div>
      {value.kind === "hub" && <HubFields value={value} change={change} user={publishing?.hf_username ?? ""} />}
      {value.kind === "s3" && <S3Fields value={value} change={change} />}
      {value.kind !== "home" && (
        <>
          <Check
            label={t("Checkpoints too")}
            value={value.checkpoints}
            change={(checkpoints) => change({ ...value, checkpoints })}
          />
          {senders && (
            <Choice
              label={t("Who sends it")}
              place="destination.sender"
              value={value.sender}
              change={(sender) => change({ ...value, sender: sender as Sender })}
              options={[
                ["lab", t("This lab, after it has come home")],
                ["trainer", t("The trainer, straight from where it runs")],
              ]}
              hint={wayText(t, value)}
            />
          )}
          {lack && <p class="stc-lacking">{lack}</p>}
        </>
      )}
    </>
  );
}

interface PlaceProps<D> {
  value: D;
  change: (value: Destination) => void;
}

function HubFields({ value, change, user }: PlaceProps<HubDestination> & { user: string }) {
  const t = useWords();
  return (
    <>
      <Input
        label={t("Repository")}
        required
        place="destination.repo_id"
        value={value.repo_id}
        change={(repo_id) => change({ ...value, repo_id: String(repo_id).trim() })}
        placeholder={`${user || "ann"}/neon`}
        hint={t("Owner and name. It is made where it does not exist.")}
      />
      <Check
        label={t("Private: only you and whom you allow can see it")}
        value={value.private}
        change={(chosen) => change({ ...value, private: chosen })}
      />
    </>
  );
}

function S3Fields({ value, change }: PlaceProps<S3Destination>) {
  const t = useWords();
  const bind = (name: "bucket" | "prefix" | "endpoint_url" | "region") => ({
    place: `destination.${name}`,
    value: value[name],
    change: (text: unknown) => change({ ...value, [name]: String(text).trim() }),
  });
  return (
    <div class="stc-grid">
      <Input {...bind("bucket")} label={t("Bucket")} required />
      <Input {...bind("prefix")} label={t("Folder in it")} placeholder="loras/" />
      <Input {...bind("endpoint_url")} label={t("Address")} placeholder={t("Amazon's own")} />
      <Input {...bind("region")} label={t("Region")} />
    </div>
  );
}
