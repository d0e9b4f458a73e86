/** Lines as rows of one height: wrapped by us where wanted, reports left out where not, found by number at once. */

import type { Block, LogBook } from "./book";

/** Characters of a line that are shown. */
export const SHOWN = 4000;

export interface Look {
  /** The trainer's report lines are shown. */
  reports: boolean;
  /** Characters in a row; 0: a line is one row. */
  columns: number;
}

/** A row: characters `start` to `end` of a line. */
export interface Row {
  number: number;
  line: string;
  start: number;
  end: number;
  /** How many characters are not shown; told on the line's last row. */
  hidden: number;
}

/** A place in the log that stays the same place when rows come, go or are wrapped anew. */
export interface Place {
  number: number;
  /** Row within the line. */
  part: number;
}

interface Counted {
  stamp: number;
  fragment: number | null;
  /** Rows up to and with each line of a block. */
  ends: Uint32Array;
}

export class Rows {
  readonly look: Look;
  #book: LogBook;
  #counted = new WeakMap<Block, Counted>();

  constructor(book: LogBook, look: Look) {
    this.#book = book;
    this.look = look;
  }

  get total(): number {
    let total = 0;
    for (const block of this.#book.blocks) total += last(this.#endsOf(block));
    return total;
  }

  /** Up to `count` rows from the row at `from` on. */
  slice(from: number, count: number): Row[] {
    const rows: Row[] = [];
    let before = 0;
    for (const block of this.#book.blocks) {
      const ends = this.#endsOf(block);
      if (before + last(ends) > from) this.#collect(rows, block, ends, { skip: Math.max(0, from - before), count });
      if (rows.length >= count) break;
      before += last(ends);
    }
    return rows;
  }

  /** The place of a row. */
  placeOf(row: number): Place {
    const [found] = this.slice(Math.max(0, row), 1);
    if (!found) return { number: this.#book.end, part: 0 };
    return { number: found.number, part: this.look.columns ? found.start / this.look.columns : 0 };
  }

  /** The row of a place, or of the next one that is shown. */
  rowOf({ number, part }: Place): number {
    let before = 0;
    for (const block of this.#book.blocks) {
      const ends = this.#endsOf(block);
      const index = number - block.first;
      if (index < ends.length) {
        if (index < 0) return before;
        const start = index === 0 ? 0 : ends[index - 1];
        return before + start + Math.min(part, Math.max(0, ends[index] - start - 1));
      }
      before += last(ends);
    }
    return before;
  }

  #collect(rows: Row[], block: Block, ends: Uint32Array, { skip, count }: { skip: number; count: number }): void {
    let index = upperBound(ends, skip);
    let part = skip - (index === 0 ? 0 : ends[index - 1]);
    while (index < ends.length && rows.length < count) {
      const parts = ends[index] - (index === 0 ? 0 : ends[index - 1]);
      if (part < parts) {
        rows.push(this.#row(block.first + index, block.lines[index], part, part === parts - 1));
        part += 1;
      } else {
        index += 1;
        part = 0;
      }
    }
  }

  #row(number: number, line: string, part: number, ends: boolean): Row {
    const shown = Math.min(line.length, SHOWN);
    const start = part * this.look.columns;
    const end = ends ? shown : start + this.look.columns;
    return { number, line, start, end, hidden: ends ? line.length - shown : 0 };
  }

  #endsOf(block: Block): Uint32Array {
    const known = this.#counted.get(block);
    const fragment = block === this.#book.blocks[0] ? this.#book.fragment : null;
    if (known?.stamp === block.stamp && known.fragment === fragment) return known.ends;
    const ends = new Uint32Array(block.lines.length);
    let total = 0;
    for (const [index, line] of block.lines.entries()) {
      if (block.first + index !== fragment) total += this.#rowsOf(line);
      ends[index] = total;
    }
    this.#counted.set(block, { stamp: block.stamp, fragment, ends });
    return ends;
  }

  #rowsOf(line: string): number {
    if (!this.look.reports && isReport(line)) return 0;
    const { columns } = this.look;
    return columns ? Math.max(1, Math.ceil(Math.min(line.length, SHOWN) / columns)) : 1;
  }
}

/** A line that the trainer prints for the lab (docs/trainer-protocol.md). */
export function isReport(line: string): boolean {
  return line.startsWith("::st ") && /^::st \S+ \{/.test(line);
}

function last(ends: Uint32Array): number {
  return ends.length ? ends[ends.length - 1] : 0;
}

/** Index of the first value that is above. */
function upperBound(values: Uint32Array, wanted: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
