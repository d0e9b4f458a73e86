/** What an event of the timeline says, as one sentence (`simpletuner_lab/core/event.py`). */

import type { EventView, JobState } from "../../contract";
import { bytes, count, duration, type Translate, type Values } from "../../words";
import { stateWord } from "../atoms";

export interface Sentence {
  words: string;
  tone?: "good" | "bad" | "warn";
  /** What the sentence rests on: a digest, a key. */
  proof?: string;
}

type Data = EventView["data"];
/** `said`: what fills the places of a sentence. */
type Say = (t: Translate, data: Data, said: Values) => Sentence | string;

export function sentence(t: Translate, { kind, data }: EventView): Sentence {
  const say = SENTENCES[kind];
  const told = say ? say(t, data, values(t, data)) : { words: kind, proof: listed(data) };
  return typeof told === "string" ? { words: told } : told;
}

/** The data under their own names, `to` as `place`, `bytes` as `size`, `waited_s` as `time`. */
function values(t: Translate, data: Data): Values {
  const said: Values = { place: text(data.to), size: bytes(t, Number(data.bytes)) };
  for (const name in data) said[name] = number(data[name]);
  return { ...said, time: duration(t, Number(data.waited_s)) };
}

/** What the trainer is busy with; a stage that is not known here is called what the trainer calls it. */
export function stageWord(t: Translate, stage: string, label: string): string {
  const words: Record<string, string> = {
    unpack: t("Unpacking the data"),
    load_data: t("Reading images and captions"),
    load_base: t("Loading the base model"),
    cache: t("Encoding images and captions"),
    train: t("Training"),
    validate: t("Making validation images"),
    save: t("Saving a checkpoint"),
    upload: t("Delivering the result"),
  };
  return words[stage] ?? (label || stage);
}

const SENTENCES: Record<string, Say | undefined> = {
  created: (t, _data, said) => t("Submitted. Files: {files}, {size}. Left where they are: {withheld}.", said),
  consented,
  state: moved,
  sent: (t, data, said) =>
    data.problem
      ? { words: text(data.problem), tone: "warn", proof: text(data.sha256) }
      : { words: t("Sent to {place}. Files: {files}, {size}.", said), proof: text(data.sha256) },
  discarded: (t, data) =>
    data.data_left
      ? { words: t("It could not be shown that the provider's copy of the data is gone."), tone: "warn" }
      : t("Copies of the data that were made for the run are gone."),
  claimed: (t, _data, said) => t("It has a slot, after {time}.", said),
  prioritised: (t, _data, said) => t("Its priority is {priority} now; it was {previous}.", said),
  started: (t, _data, said) => t("Attempt {attempt} was started.", said),
  resumed: (t, _data, said) => t("Training goes on from step {step}.", said),
  stage: (t, data) => stageWord(t, text(data.stage), text(data.label)),
  checkpoint,
  image: (t, data, said) =>
    data.count
      ? t("Validation images at step {step}: {count}", said)
      : t("Validation image at step {step}: {prompt}", said),
  artifact: (t, data, said) => ({
    words: data.stays
      ? t("The model stayed with the provider.")
      : t("The result has arrived and was verified. Files: {files}, {size}.", said),
    tone: "good",
    proof: text(data.url ?? data.sha256),
  }),
  pushed,
  cancel_requested: (t) => t("Cancel was asked for."),
  push_given_up: (t, _data, said) => t("Not sent any further to {place}.", said),
  problem,
  spend_limit: problem,
  resolved: (t, data, said) =>
    data.action === "resend"
      ? t("You had the start of attempt {attempt} sent again.", said)
      : t("You gave the job up: whether attempt {attempt} runs was not known.", said),
  imported: (t) => t("Imported: it was started elsewhere."),
  deleted: (t) => t("Deleted."),
};

function problem(_t: Translate, data: Data): Sentence {
  return { words: text(data.message), tone: "warn", proof: text(data.code) };
}

function pushed(t: Translate, data: Data, said: Values): Sentence {
  const proof = text(data.revision ?? data.sha256);
  if (data.problem) return { words: text(data.problem), tone: "warn", proof };
  const words =
    data.what === "checkpoint"
      ? t("A checkpoint has arrived at {place}.", said)
      : t("The result has arrived at {place}.", said);
  return { words, tone: "good", proof };
}

function consented(t: Translate, data: Data): Sentence {
  const from: Record<string, string> = {
    widget: t("You agreed to this plan in a notebook."),
    panel: t("You agreed to this plan in the side panel."),
    cli: t("You agreed to this plan in a terminal."),
    python: t("You agreed to this plan in Python."),
  };
  const words =
    data.mode === "allow"
      ? t("Your settings allow every plan, this one too.")
      : (from[text(data.entry)] ?? t("You agreed to this plan."));
  return { words, proof: text(data.digest) };
}

function moved(t: Translate, data: Data, said: Values): Sentence {
  const to = text(data.to) as JobState;
  if (to === "failed") return { words: text(data.message) || stateWord(t, to), tone: "bad", proof: text(data.code) };
  if (to === "queued" && data.from === "running") {
    return { words: t("The run was interrupted; attempt {attempt} goes on.", said), tone: "warn" };
  }
  const words: Partial<Record<JobState, string>> = {
    uploading: t("The data are packed."),
    queued: t("Ready to run."),
    running: t("The run has begun."),
    completed: t("Completed."),
    cancelled: t("Cancelled."),
  };
  return { words: words[to] ?? to, tone: to === "completed" ? "good" : undefined };
}

function checkpoint(t: Translate, data: Data, said: Values): Sentence {
  const proof = text(data.key);
  if (data.problem) return { words: t("Checkpoint at step {step}: {problem}", said), tone: "warn", proof };
  if (data.verified)
    return { words: t("Checkpoint at step {step}, {size}, has arrived and was verified.", said), proof };
  return { words: t("Checkpoint at step {step}, {size}.", said), proof };
}

function text(value: Data[string] | undefined): string {
  return String(value ?? "");
}

function number(value: Data[string] | undefined): string {
  return typeof value === "number" ? count(value) : text(value);
}

function listed(data: Data): string {
  return Object.entries(data)
    .map(([name, value]) => `${name} ${text(value)}`)
    .join(", ");
}
