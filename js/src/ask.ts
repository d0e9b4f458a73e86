/** Questions to the lab as promises, over a model's `send` and `msg:custom`. */

import type { ErrorView } from "./contract";
import type { Message, Model } from "./model";
import type { Gives, Takes, Verb } from "./verbs";

const PATIENCE_MS = 60_000;

/** An error that the lab answered, or that no answer came (`code` is then `no_answer`). */
export class LabError extends Error {
  readonly code: string;
  readonly hint: string;
  readonly problems: ErrorView["problems"];

  constructor(error: ErrorView) {
    super(error.detail);
    this.code = error.code;
    this.hint = error.hint;
    this.problems = error.problems ?? [];
  }
}

interface Waiting {
  settle: (message: Message) => void;
  fail: (error: LabError) => void;
  timer: ReturnType<typeof setTimeout>;
}

const OF_THE_WAY = ["no_answer", "http_401", "http_403"];

/** Whether an error may be of the way to the lab alone: a connection that is well again may have mended it. */
export function isOfTheWay(error: LabError | null): boolean {
  return error !== null && OF_THE_WAY.includes(error.code);
}

/** Asks over one model. One desk serves a whole tree of components; `close` it when the tree goes. */
export class Desk {
  /** Its own among all desks of a page. */
  readonly name = Math.random().toString(36).slice(2, 10);
  #model: Model;
  #waiting = new Map<string, Waiting>();
  #asked = 0;

  constructor(model: Model) {
    this.#model = model;
    model.on("msg:custom", this.#receive);
  }

  /** Sends a question. Rejects with a `LabError`. Several views of one cell share a model: ids are the desk's own. */
  ask<V extends Verb>(verb: V, args: Takes<V>, patience_ms = PATIENCE_MS): Promise<Gives<V>> {
    this.#asked += 1;
    const id = `${this.name}-${this.#asked}`;
    return new Promise<Gives<V>>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new LabError(NO_ANSWER));
      }, patience_ms);
      this.#waiting.set(id, {
        settle: (message) => {
          if ("error" in message) reject(new LabError(message.error));
          else if ("value" in message) resolve(message.value as Gives<V>);
        },
        fail: reject,
        timer,
      });
      this.#model.send({ id, verb, args });
    });
  }

  close(): void {
    this.#model.off("msg:custom", this.#receive);
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.fail(new LabError(NO_ANSWER));
    }
    this.#waiting.clear();
  }

  #receive = (message: Message): void => {
    if (!message || !("id" in message)) return;
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return;
    this.#waiting.delete(message.id);
    clearTimeout(waiting.timer);
    waiting.settle(message);
  };
}

/** What stands for an answer that did not come. */
export const NO_ANSWER: ErrorView = {
  code: "no_answer",
  detail: "the lab did not answer",
  hint: "is the kernel, or the server, still running?",
  problems: [],
};
