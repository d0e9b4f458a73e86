/** A host without a lab: answers come from functions that a test gives, and what was asked is kept. */

import type { ErrorView } from "../contract";
import type { News, Question, State } from "../model";
import type { Gives, Takes, Verb } from "../verbs";
import { OwnModel } from "./own";

export type Answers = { [V in Verb]?: (args: Takes<V>) => Gives<V> | Promise<Gives<V>> };

/** Thrown by an answer: the asker gets it as the lab's error. */
export class Refusal extends Error {
  readonly view: ErrorView;

  constructor(code: string, detail: string, hint = "", problems: ErrorView["problems"] = []) {
    super(detail);
    this.view = { code, detail, hint, problems };
  }
}

export class MemoryModel extends OwnModel {
  /** Every question so far. */
  readonly asked: Question[] = [];
  /** How often the state was saved. */
  saved = 0;
  readonly answers: Answers;

  constructor(state: Partial<State> = {}, answers: Answers = {}) {
    super(state);
    this.answers = answers;
  }

  save_changes(): void {
    this.saved += 1;
  }

  send(question: Question): void {
    this.asked.push(question);
    void this.#answer(question).then((message) => this.listeners.tell("msg:custom", message));
  }

  /** What a host says when it heard that something changed. */
  news(news: Partial<News> = {}): void {
    this.listeners.tell("msg:custom", { news: { job_id: null, version: 0, ...news } });
  }

  /** Listeners that are left: none once everything was taken down. */
  get listening(): number {
    return this.listeners.count;
  }

  async #answer({ id, verb, args }: Question) {
    const answer = this.answers[verb as Verb] as ((args: unknown) => unknown) | undefined;
    try {
      if (!answer) throw new Refusal("not_found", `nothing answers ${verb} here`);
      return { id, value: await answer(args) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { id, error: error.view };
    }
  }
}
