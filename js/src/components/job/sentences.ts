/** What an event of the timeline says, as one sentence (`simpletuner_lab/core/event.py`). */

import type { EventView, JobState } from "../../contract";
import { bytes, count, type Translate } from "../../words";
import { stateWord } from "../atoms";

export interface Sentence {
  words: string;
  tone?: "good" | "bad" | "warn";
  /** What the sentence rests on: a digest, a key. */
  proof?: string;
}

type Data = EventView["data"];
type Say = (t: Translate, data: Data) => Sentence;

export function sentence(t: Translate, event: EventView): Sentence {
  const say = SENTENCES[event.kind];
  return say ? say(t, event.data) : { words: event.kind, proof: listed(event.data) };
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
  created: (t, data) => ({
    words: t("Submitted. Files: {files}, {size}. Left where they are: {withheld}.", {
      files: number(data.files),
      size: size(t, data.bytes),
      withheld: number(data.withheld),
    }),
  }),
  consented,
  state: moved,
  sent: (t, data) => ({
    words: t("Sent to {place}. Files: {files}, {size}.", {
      place: text(data.to),
      files: number(data.files),
      size: size(t, data.bytes),
    }),
    proof: text(data.sha256),
  }),
  discarded: (t, data) =>
    data.data_left
      ? { words: t("It could not be shown that the provider's copy of the data is gone."), tone: "warn" }
      : { words: t("Copies of the data that were made for the run are gone.") },
  started: (t, data) => ({ words: t("Attempt {attempt} was started.", { attempt: number(data.attempt) }) }),
  resumed: (t, data) => ({ words: t("Training goes on from step {step}.", { step: number(data.step) }) }),
  stage: (t, data) => ({ words: stageWord(t, text(data.stage), text(data.label)) }),
  checkpoint,
  image: (t, data) => {
    const said = { step: number(data.step), prompt: text(data.prompt), count: number(data.count) };
    return {
      words: data.count
        ? t("Validation images at step {step}: {count}", said)
        : t("Validation image at step {step}: {prompt}", said),
    };
  },
  artifact: (t, data) => ({
    words: t("The result has arrived and was verified. Files: {files}, {size}.", {
      files: number(data.files),
      size: size(t, data.bytes),
    }),
    tone: "good",
    proof: text(data.sha256),
  }),
  cancel_requested: (t) => ({ words: t("Cancel was asked for.") }),
  push_given_up: (t, data) => ({ words: t("Not sent any further to {place}.", { place: text(data.to) }) }),
  problem: (_t, data) => ({ words: text(data.message), tone: "warn", proof: text(data.code) }),
  resolved: (t, data) => ({
    words:
      data.action === "resend"
        ? t("You had the start of attempt {attempt} sent again.", { attempt: number(data.attempt) })
        : t("You gave the job up: whether attempt {attempt} runs was not known.", { attempt: number(data.attempt) }),
  }),
  imported: (t) => ({ words: t("Imported: it was started elsewhere.") }),
  deleted: (t) => ({ words: t("Deleted.") }),
};

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

function moved(t: Translate, data: Data): Sentence {
  const to = text(data.to) as JobState;
  if (to === "failed") return { words: text(data.message) || stateWord(t, to), tone: "bad", proof: text(data.code) };
  if (to === "queued" && data.from === "running") {
    return {
      words: t("The run was interrupted; attempt {attempt} goes on.", { attempt: number(data.attempt) }),
      tone: "warn",
    };
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

function checkpoint(t: Translate, data: Data): Sentence {
  const said = { step: number(data.step), size: size(t, data.bytes), problem: text(data.problem) };
  const proof = text(data.key);
  if (data.problem) return { words: t("Checkpoint at step {step}: {problem}", said), tone: "warn", proof };
  if (data.verified)
    return { words: t("Checkpoint at step {step}, {size}, has arrived and was verified.", said), proof };
  return { words: t("Checkpoint at step {step}, {size}.", said), proof };
}

function text(value: Data[string] | undefined): string {
  return value === null || value === undefined ? "" : String(value);
}

function number(value: Data[string] | undefined): string {
  return typeof value === "number" ? count(value) : text(value);
}

function size(t: Translate, value: Data[string] | undefined): string {
  return typeof value === "number" ? bytes(t, value) : text(value);
}

function listed(data: Data): string {
  return Object.entries(data)
    .map(([name, value]) => `${name} ${text(value)}`)
    .join(", ");
}
