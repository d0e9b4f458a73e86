/** Validation pictures by step, from what was reported or, failing that, from what was delivered. */

import type { EventView, OutputView } from "../../contract";

export interface Picture {
  step: number;
  /** Which of the validation prompts. */
  index: number;
  prompt: string;
  /** Where it lies among the job's outputs. */
  path: string;
  /** Of the report: a picture that was painted again is another one. */
  seq: number;
}

/** The pictures of one step, by prompt. */
export interface Stage {
  step: number;
  pictures: Picture[];
}

/** The picture that an event tells of; null: of none. */
export function pictureOf({ kind, seq, data }: EventView): Picture | null {
  const { step, index, prompt, key } = data;
  if (kind !== "image" || typeof step !== "number" || typeof key !== "string") return null;
  return {
    step,
    index: typeof index === "number" ? index : 0,
    prompt: typeof prompt === "string" ? prompt : "",
    path: key,
    seq,
  };
}

/** The picture that a delivered file is, by its name (docs/trainer-protocol.md); null: it is none. */
export function deliveredPicture({ path }: OutputView): Picture | null {
  const match = /^samples\/step-(\d+)-(\d+)\.png$/.exec(path);
  return match && { step: Number(match[1]), index: Number(match[2]), prompt: "", path, seq: 0 };
}

/** By rising step, and within a step by prompt; of two reports of one file the later counts. */
export function stagesOf(pictures: Iterable<Picture>): Stage[] {
  const latest = new Map<string, Picture>();
  for (const picture of pictures) latest.set(picture.path, picture);
  const stages = new Map<number, Stage>();
  for (const picture of latest.values()) {
    const stage = stages.get(picture.step) ?? { step: picture.step, pictures: [] };
    stage.pictures.push(picture);
    stages.set(picture.step, stage);
  }
  for (const stage of stages.values()) stage.pictures.sort((one, other) => one.index - other.index);
  return [...stages.values()].sort((one, other) => one.step - other.step);
}

/** What an `<img>` may show: a URL of http or of this page's own, or a picture as data; null: nothing of it. */
export function safeSource(src: string): string | null {
  if (/^data:image\/(png|jpeg|webp|gif);base64,/.test(src)) return src;
  try {
    const { protocol } = new URL(src, document.baseURI);
    return ["http:", "https:", "blob:"].includes(protocol) ? src : null;
  } catch {
    return null;
  }
}
