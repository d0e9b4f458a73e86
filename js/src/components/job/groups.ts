/** Delivered files as a person looks for them: the model, checkpoints by step, pictures. Pure. */

import type { OutputView } from "../../contract";

export interface Group {
  kind: "result" | "checkpoint" | "samples";
  /** The folder that its files lie in, with a slash at its end; empty for the result. */
  folder: string;
  /** Of a checkpoint, where its folder says so. */
  step: number | null;
  files: OutputView[];
}

const FOLDER = /^(checkpoints\/[^/]+\/|samples\/)/;

/** The result first, then checkpoints, the newest first, then pictures. */
export function grouped(outputs: OutputView[]): Group[] {
  const groups = new Map<string, Group>();
  for (const file of outputs) {
    const folder = FOLDER.exec(file.path)?.[0] ?? "";
    const found = groups.get(folder);
    if (found) found.files.push(file);
    else groups.set(folder, { kind: kindOf(folder), folder, step: stepOf(folder), files: [file] });
  }
  const order = { result: 0, checkpoint: 1, samples: 2 };
  return [...groups.values()].sort(
    (a, b) => order[a.kind] - order[b.kind] || (b.step ?? 0) - (a.step ?? 0) || b.folder.localeCompare(a.folder),
  );
}

function kindOf(folder: string): Group["kind"] {
  if (folder === "") return "result";
  return folder.startsWith("samples/") ? "samples" : "checkpoint";
}

function stepOf(folder: string): number | null {
  const found = /(\d+)\/$/.exec(folder);
  return found ? Number(found[1]) : null;
}
