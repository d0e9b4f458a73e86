/** The part of a log that is held: clean lines in blocks, bounded, growing at both ends. Offsets are bytes of the log. */

/** What is held at most; beyond it the far end goes. */
export const MOST_LINES = 200_000;
export const MOST_CHARACTERS = 32_000_000;
/** A block takes no more once it has this much. */
const FULL_BLOCK = 65_536;

/** Lines that lie together, the first of them numbered `first`; it begins at byte `from`, at the start of a line. */
export interface Block {
  first: number;
  from: number;
  lines: string[];
  characters: number;
  /** Rises when a line is changed or added. */
  stamp: number;
}

export class LogBook {
  readonly blocks: Block[] = [];
  from: number;
  to: number;
  lines = 0;
  characters = 0;
  /** Lines were let go to stay within bounds. */
  trimmed = false;
  /** As printed: the first line, where its beginning may not be held. */
  #head = "";
  /** As printed: the last line, where it has not ended; empty: it has. */
  #rest = "";
  #cut: boolean;

  constructor(offset = 0) {
    this.from = offset;
    this.to = offset;
    this.#cut = offset > 0;
  }

  /** Number of the first line, and of the one after the last. Numbers stay with their lines; earlier ones go below 0. */
  get first(): number {
    return this.blocks[0]?.first ?? 0;
  }

  get end(): number {
    return this.first + this.lines;
  }

  /** The last line may still grow. */
  get open(): boolean {
    return this.#rest !== "";
  }

  /** Number of a first line that lacks its beginning, and is better not shown beside whole ones; null: there is none. */
  get fragment(): number | null {
    return this.#cut && this.lines > 1 ? this.first : null;
  }

  get full(): boolean {
    return this.lines > MOST_LINES || this.characters > MOST_CHARACTERS;
  }

  line(number: number): string {
    const block = this.blockOf(number);
    return block?.lines[number - block.first] ?? "";
  }

  /** The block that a line is in. */
  blockOf(number: number): Block | undefined {
    let low = 0;
    let high = this.blocks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.blocks[middle].first <= number) low = middle + 1;
      else high = middle;
    }
    return this.blocks[low - 1];
  }

  /** Takes what follows byte `to`, up to byte `next`. */
  append(text: string, next: number): void {
    let start = this.to;
    this.to = next;
    let added = text;
    if (this.#rest) {
      const end = text.indexOf("\n") + 1;
      const piece = end ? text.slice(0, end) : text;
      this.#grow(this.#rest + piece);
      if (!end) return;
      added = text.slice(end);
      start += new TextEncoder().encode(piece).length;
    }
    if (!added) return;
    const parts = added.split("\n");
    this.#rest = shortened(parts[parts.length - 1]);
    if (!this.#rest) parts.pop();
    if (this.lines === 0) this.#head = parts[0];
    this.#put(parts.map(clean), start);
  }

  /** Takes what lies between byte `offset` and `from`. */
  prepend(text: string, offset: number): void {
    const parts = text.split("\n");
    const piece = parts.pop() ?? "";
    if (this.lines === 0) {
      const { to } = this;
      this.from = offset;
      this.to = offset;
      this.#cut = offset > 0;
      this.append(text, to);
      return;
    }
    if (piece) this.#mendHead(piece);
    this.from = offset;
    this.#cut = offset > 0;
    if (parts.length === 0) return;
    this.#head = parts[0];
    const lines = parts.map(clean);
    const characters = sizeOf(lines);
    this.blocks.unshift({ first: this.first - lines.length, from: offset, lines, characters, stamp: 0 });
    this.lines += lines.length;
    this.characters += characters;
  }

  /** Nothing follows: the last line is whole though it has no end. */
  finish(): void {
    this.#rest = "";
  }

  /** Lets the oldest lines go until the rest is within bounds. */
  trimFront(): void {
    while (this.full && this.blocks.length > 1) {
      this.#forget(this.blocks.shift());
      this.from = this.blocks[0].from;
      this.#head = "";
      this.#cut = false;
    }
  }

  /** Lets the newest lines go until the rest is within bounds. */
  trimBack(): void {
    while (this.full && this.blocks.length > 1) {
      const last = this.blocks.pop();
      this.#forget(last);
      this.to = last?.from ?? this.to;
      this.#rest = "";
    }
  }

  #forget(block: Block | undefined): void {
    this.lines -= block?.lines.length ?? 0;
    this.characters -= block?.characters ?? 0;
    this.trimmed = true;
  }

  #put(lines: string[], start: number): void {
    const characters = sizeOf(lines);
    const last = this.blocks[this.blocks.length - 1];
    if (last && last.characters < FULL_BLOCK) {
      for (const line of lines) last.lines.push(line);
      last.characters += characters;
      last.stamp += 1;
    } else {
      this.blocks.push({ first: this.end, from: start, lines, characters, stamp: 0 });
    }
    this.lines += lines.length;
    this.characters += characters;
  }

  /** The last line, as printed so far. */
  #grow(printed: string): void {
    const ended = printed.endsWith("\n");
    const raw = ended ? printed.slice(0, -1) : printed;
    this.#rest = ended ? "" : shortened(raw);
    if (this.lines === 1) this.#head = raw;
    this.#change(this.blocks[this.blocks.length - 1], -1, clean(raw));
  }

  #mendHead(piece: string): void {
    const alone = this.lines === 1 && this.open;
    this.#head = piece + this.#head;
    if (alone) this.#rest = shortened(piece + this.#rest);
    this.#change(this.blocks[0], 0, clean(this.#head));
  }

  #change(block: Block, at: number, line: string): void {
    const index = at < 0 ? block.lines.length + at : at;
    const more = line.length - block.lines[index].length;
    block.lines[index] = line;
    block.characters += more;
    block.stamp += 1;
    this.characters += more;
  }
}

const ESCAPE = "\u001b";
const ESCAPES = new RegExp(
  `${ESCAPE}(?:\\[[0-?]*[ -/]*[@-~]|\\][^\u0007${ESCAPE}]*(?:\u0007|${ESCAPE}\\\\)?|[@-Z^_])`,
  "g",
);

/** A line as a terminal would leave it: no escapes, and of a progress bar's states the last. */
export function clean(printed: string): string {
  let line = printed.includes(ESCAPE) ? printed.replace(ESCAPES, "") : printed;
  if (!line.includes("\r")) return line;
  line = line.replace(/\r+$/, "");
  return line.slice(line.lastIndexOf("\r") + 1);
}

/** What of an unfinished line can still matter: the state of a progress bar, not the ones before it. */
function shortened(printed: string): string {
  const end = printed.replace(/\r+$/, "").lastIndexOf("\r");
  return end < 0 ? printed : printed.slice(end + 1);
}

function sizeOf(lines: string[]): number {
  let size = 0;
  for (const line of lines) size += line.length;
  return size;
}
