/** A log as the lab keeps one: bytes that grow, answered in pieces that are cut at line ends (services/front.py). */

import type { LogChunk } from "../src/contract";

export class LogFile {
  #bytes: Uint8Array;
  ended = false;

  constructor(text = "") {
    this.#bytes = new TextEncoder().encode(text);
  }

  get length(): number {
    return this.#bytes.length;
  }

  print(text: string): void {
    const more = new TextEncoder().encode(text);
    const all = new Uint8Array(this.#bytes.length + more.length);
    all.set(this.#bytes);
    all.set(more, this.#bytes.length);
    this.#bytes = all;
  }

  read({ offset, limit = 1 << 20 }: { offset: number; limit?: number }): LogChunk {
    let piece = this.#bytes.subarray(offset, Math.max(offset, Math.min(this.#bytes.length, offset + limit)));
    const cut = piece.lastIndexOf(10);
    if (offset + piece.length < this.#bytes.length && cut >= 0) piece = piece.subarray(0, cut + 1);
    const next_offset = offset + piece.length;
    const logs = new TextDecoder("utf-8").decode(piece);
    return { job_id: "a", logs, offset, next_offset, ended: this.ended && next_offset >= this.#bytes.length };
  }
}

export function numbered(from: number, to: number, text = "line"): string {
  return Array.from({ length: to - from }, (_, index) => `${text} ${from + index}\n`).join("");
}
