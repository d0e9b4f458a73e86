/** From a problem's path to the field of the form that it belongs to. Pure. */

import type { Problem } from "../../contract";
import { type Entry, option, plainName } from "./draft";

/** Options that have a field of their own; all others are edited as JSON. */
export const CONFIG_FIELDS = [
  "pretrained_model_name_or_path",
  "model_type",
  "lora_rank",
  "max_train_steps",
  "learning_rate",
  "train_batch_size",
  "resolution",
  "validation_prompt",
] as const;

export type ConfigField = (typeof CONFIG_FIELDS)[number];

const DATA_FIELDS = ["caption_strategy", "instance_prompt"];

export interface Placed extends Problem {
  /** `data-place` of the control; empty: none is to blame. */
  place: string;
}

/** An id is made of its folder: where that is missing, it alone is told. */
export function placed(problems: Problem[], entries: Entry[]): Placed[] {
  const all = problems.map((problem) => ({ ...problem, place: placeOf(problem.path, entries) }));
  const twice = ({ path, place }: Placed) =>
    path.endsWith(".id") && all.filter((one) => one.place === place).length > 1;
  return all.filter((problem) => !twice(problem));
}

/** What is wrong at a place, as sentences for the field; `label` is what the field is called there. */
export function wrongAt(problems: Placed[], place: string, label = ""): string | undefined {
  const here = problems.filter((problem) => problem.place === place);
  return here.map((problem) => sentence(problem, label || problem.path)).join(" ") || undefined;
}

export function sentence({ message, hint }: Problem, name: string): string {
  return `${name} ${message}${hint ? ` (${hint})` : ""}.`;
}

export function placeOf(path: string, entries: Entry[]): string {
  const [root] = path.split(/[.[]/, 1);
  if (root === "config") return configPlace(path);
  if (root === "destination") return path;
  if (root === "dataloader") return dataPlace(path.slice(root.length), entries);
  return "";
}

function configPlace(path: string): string {
  const name = plainName((path.split(".")[1] ?? "").split("[")[0]);
  return (CONFIG_FIELDS as readonly string[]).includes(name) ? `config.${name}` : "config";
}

/** The rest of a path names a data set by its index, `[0].crop`, or by its id, `.pictures.crop`; ids may hold dots. */
function dataPlace(rest: string, entries: Entry[]): string {
  const [index, key] = rest.startsWith("[") ? byIndex(rest) : byId(rest.slice(1), entries);
  if (index === null || !entries[index]) return entries.length ? "dataloader" : "data.add";
  const name = plainName(key.split(/[.[]/)[0]);
  if (["", "id", "instance_data_dir"].includes(name)) return `data.${index}.folder`;
  return DATA_FIELDS.includes(name) ? `data.${index}.${name}` : "dataloader";
}

function byIndex(rest: string): [number | null, string] {
  const found = /^\[(\d+)\]\.?(.*)$/.exec(rest);
  return found ? [Number(found[1]), found[2]] : [null, ""];
}

function byId(rest: string, entries: Entry[]): [number | null, string] {
  let best: [number | null, string] = [null, ""];
  let length = 0;
  entries.forEach((entry, index) => {
    const id = String(option(entry, "id") ?? "");
    if (id.length <= length || (rest !== id && !rest.startsWith(`${id}.`))) return;
    best = [index, rest.slice(id.length + 1)];
    length = id.length;
  });
  return best;
}
