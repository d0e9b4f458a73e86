/** The request that a form edits: its options and data sets, under whatever spelling they came. Pure. */

import type { ProviderView, SubmitRequest } from "../../contract";

export type Entry = Record<string, unknown>;

export const EMPTY_REQUEST: SubmitRequest = {
  config: {},
  dataloader_config: [],
  provider: "",
  target: "",
  hardware_profile: "",
  config_name: "",
  destination: null,
  strip_exif: false,
};

const ALIASES: Record<string, string> = { validation_prompts: "validation_prompt" };

/** An option's own name: without the leading dashes it may have, and not under its other name. */
export function plainName(key: string): string {
  const name = key.replace(/^--/, "");
  return ALIASES[name] ?? name;
}

export function option(of: Entry, name: string): unknown {
  const key = Object.keys(of).find((key) => plainName(key) === name);
  return key === undefined ? undefined : of[key];
}

/** The same object with one option changed under the spelling it has; `undefined` takes it out. */
export function withOption(of: Entry, name: string, value: unknown): Entry {
  const key = Object.keys(of).find((key) => plainName(key) === name) ?? name;
  if (value !== undefined) return { ...of, [key]: value };
  return Object.fromEntries(Object.entries(of).filter(([other]) => other !== key));
}

/** Images are what a person adds here; an entry that places a text cache travels along unseen. */
export function isImages(entry: Entry): boolean {
  return option(entry, "dataset_type") !== "text_embeds";
}

/** A data set like those that Python makes of a folder. */
export function newEntry(): Entry {
  return { id: "", type: "local", instance_data_dir: "", caption_strategy: "textfile" };
}

/** The data sets with the folder of one changed. An id that was made of the folder's name follows it. */
export function withFolder(entries: Entry[], index: number, folder: string): Entry[] {
  const entry = entries[index];
  const others = entries.filter((_, at) => at !== index).map((other) => String(option(other, "id") ?? ""));
  const before = idOf(String(option(entry, "instance_data_dir") ?? ""), others);
  const id = String(option(entry, "id") ?? "");
  let next = withOption(entry, "instance_data_dir", folder);
  if (id === "" || id === before) next = withOption(next, "id", idOf(folder, others));
  return entries.map((other, at) => (at === index ? next : other));
}

/** A prompt that was begun for one strategy and never written goes with it. */
export function withCaptions(entry: Entry, strategy: string): Entry {
  const next = withOption(entry, "caption_strategy", strategy);
  return option(entry, "instance_prompt") === "" ? withOption(next, "instance_prompt", undefined) : next;
}

const ID_LENGTH = 64;

/** An id of a folder's name that no other data set has, in any case; empty without a folder. */
export function idOf(folder: string, others: string[]): string {
  const last = folder
    .split(/[\\/]+/)
    .filter(Boolean)
    .pop();
  if (!last) return "";
  const plain = last.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[._-]+|[._-]+$/g, "");
  const name = plain.slice(0, ID_LENGTH) || "data";
  const taken = new Set(others.map((other) => other.toLowerCase()));
  let id = name;
  for (let number = 2; taken.has(id.toLowerCase()); number += 1) {
    const suffix = `-${number}`;
    id = name.slice(0, ID_LENGTH - suffix.length) + suffix;
  }
  return id;
}

/** The provider that a request means: the one it names, else the first that can be used, this machine before others. */
export function chosenProvider(providers: ProviderView[], id: string): ProviderView | undefined {
  const usable = providers.filter(selectable);
  return id ? providers.find((one) => one.id === id) : (usable.find((one) => !one.remote) ?? usable[0]);
}

export function selectable(provider: ProviderView): boolean {
  return provider.configured && !provider.coming_soon;
}

/** A key for one submit. `crypto.randomUUID` is missing on pages that came over plain HTTP. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
