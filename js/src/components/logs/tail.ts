/** Reads a log from its end: forwards as it grows, backwards on request. */

import type { Desk, LabError } from "../../ask";
import type { LogChunk } from "../../contract";
import { asLabError } from "../../hooks";
import { LogBook } from "./book";

/** How much is read at first, and at each step backwards. */
export const STEP_BYTES = 262_144;
/** Of one answer: small enough that letting a block go does not take much. */
const MOST_BYTES = 262_144;
/** Further behind than this it is quicker to begin anew at the end. */
const FAR_BYTES = 4 << 20;
/** An answer of this size has more behind it. */
const MORE_BYTES = 1 << 16;

export class Tail {
  book = new LogBook();
  error: LabError | null = null;
  /** An answer has come. */
  answered = false;
  /** The log is read to its end, and it will not grow. */
  ended = false;
  /** Newer lines are not held: following begins anew at the end. */
  behind = false;
  /** Earlier lines are being read. */
  back = false;
  /** New lines come in even if old ones have to go. */
  following = true;
  readonly #desk: Desk;
  readonly #job_id: string;
  readonly #changed: () => void;
  #length: number;
  #busy = false;
  #more = false;
  #closed = false;

  constructor(desk: Desk, job_id: string, log_bytes: number, changed: () => void) {
    this.#desk = desk;
    this.#job_id = job_id;
    this.#changed = changed;
    this.#length = log_bytes;
    this.#begin();
  }

  /** Reads what is new, one question at a time; `log_bytes` is the length as last known. */
  look(log_bytes: number): void {
    this.#length = Math.max(this.#length, log_bytes);
    this.#more = true;
    if (this.#busy || this.#closed) return;
    this.#busy = true;
    void this.#rounds().finally(() => {
      this.#busy = false;
    });
  }

  /** New lines are wanted again. */
  follow(): void {
    this.following = true;
    if (this.behind) this.#begin();
    this.look(this.#length);
  }

  /** Reads one step backwards. The newest lines go where there would be too many. */
  async earlier(): Promise<void> {
    if (this.back || this.book.from === 0) return;
    this.back = true;
    this.following = false;
    this.#changed();
    try {
      await this.#before(this.book);
      this.error = null;
    } catch (error) {
      this.error = asLabError(error);
    }
    this.back = false;
    if (!this.#closed) this.#changed();
  }

  /** Bytes of the log that are known of. */
  get length(): number {
    return Math.max(this.#length, this.book.to);
  }

  close(): void {
    this.#closed = true;
  }

  #begin(): void {
    this.book = new LogBook(Math.max(0, this.#length - STEP_BYTES));
    this.behind = false;
    this.ended = false;
  }

  async #before(book: LogBook): Promise<void> {
    const from = Math.max(0, book.from - STEP_BYTES);
    let at = from;
    let text = "";
    while (at < book.from) {
      const chunk = await this.#ask(at, book.from - at);
      if (chunk.next_offset <= at || this.book !== book) return;
      at = chunk.next_offset;
      text += chunk.logs;
    }
    book.prepend(text, from);
    if (!book.full) return;
    book.trimBack();
    this.behind = true;
  }

  async #rounds(): Promise<void> {
    while (this.#more && !this.#closed) {
      this.#more = false;
      try {
        await this.#round();
        this.error = null;
      } catch (error) {
        this.error = asLabError(error);
      }
      if (!this.#closed) this.#changed();
    }
  }

  async #round(): Promise<void> {
    if (this.following && this.#length - this.book.to > FAR_BYTES) this.#begin();
    if (!this.following && this.book.full) this.behind = true;
    if (this.behind) return;
    const book = this.book;
    const chunk = await this.#ask(book.to, MOST_BYTES);
    if (this.book !== book || chunk.offset !== book.to) return;
    book.append(chunk.logs, chunk.next_offset);
    if (this.following) book.trimFront();
    this.answered = true;
    this.ended = chunk.ended;
    if (chunk.ended) book.finish();
    const came = chunk.next_offset - chunk.offset;
    this.#more ||= came > 0 && (came >= MORE_BYTES || chunk.next_offset < this.#length);
  }

  #ask(offset: number, limit: number): Promise<LogChunk> {
    return this.#desk.ask("log", { job_id: this.#job_id, offset, limit });
  }
}
