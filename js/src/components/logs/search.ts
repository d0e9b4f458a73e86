/** Finds lines while they come, a few milliseconds at a time. */

import type { LogBook } from "./book";
import { isReport } from "./rows";

const LINES_A_LOOK = 500;

export class Search {
  readonly query: string;
  readonly pattern: RegExp;
  /** Numbers of the lines that have it, in order. */
  found: number[] = [];
  readonly #reports: boolean;
  /** Lines that were looked at; null: none yet. */
  #seen: { from: number; to: number } | null = null;

  constructor(query: string, reports: boolean) {
    this.query = query;
    this.pattern = new RegExp(query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi");
    this.#reports = reports;
  }

  /** Looks at lines that were not looked at, for about so long; true when there are more. */
  advance(book: LogBook, budget_ms: number): boolean {
    this.#seen ??= { from: book.first, to: book.first };
    const seen = this.#seen;
    this.#prune(book, seen);
    const end = book.open ? book.end - 1 : book.end;
    const until = performance.now() + budget_ms;
    while (seen.to < end && performance.now() < until) {
      const to = Math.min(end, seen.to + LINES_A_LOOK);
      this.found.push(...this.#among(book, seen.to, to));
      seen.to = to;
    }
    while (seen.from > book.first && performance.now() < until) {
      const from = Math.max(book.first, seen.from - LINES_A_LOOK);
      this.found = [...this.#among(book, from, seen.from), ...this.found];
      seen.from = from;
    }
    return seen.to < end || seen.from > book.first;
  }

  /** What was let go is not found any more. */
  #prune(book: LogBook, seen: { from: number; to: number }): void {
    if (seen.from < book.first) {
      seen.from = book.first;
      seen.to = Math.max(seen.to, book.first);
      this.found = this.found.filter((number) => number >= book.first);
    }
    if (seen.to > book.end) {
      seen.to = book.end;
      this.found = this.found.filter((number) => number < book.end);
    }
  }

  #among(book: LogBook, from: number, to: number): number[] {
    const found: number[] = [];
    let block = book.blockOf(from);
    for (let number = from; number < to && block; number += 1) {
      if (number >= block.first + block.lines.length) block = book.blockOf(number);
      const line = block?.lines[number - block.first] ?? "";
      this.pattern.lastIndex = 0;
      if ((this.#reports || !isReport(line)) && this.pattern.test(line)) found.push(number);
    }
    return found;
  }
}

/** A stretch of a row's text; `marked` where it was searched for. */
export interface Stretch {
  text: string;
  marked: boolean;
}

/** Characters `start` to `end` of a line, cut where matches begin and end. */
export function stretches(line: string, start: number, end: number, pattern: RegExp | null): Stretch[] {
  if (!pattern) return [{ text: line.slice(start, end), marked: false }];
  const found: Stretch[] = [];
  let at = start;
  for (const match of line.slice(0, end + MOST_ACROSS).matchAll(pattern)) {
    const from = Math.max(start, match.index);
    const to = Math.min(end, match.index + match[0].length);
    if (to <= from) continue;
    if (from > at) found.push({ text: line.slice(at, from), marked: false });
    found.push({ text: line.slice(from, to), marked: true });
    at = to;
  }
  if (at < end || found.length === 0) found.push({ text: line.slice(at, end), marked: false });
  return found;
}

/** How far beyond a row a match may reach and still be marked in it. */
const MOST_ACROSS = 200;
