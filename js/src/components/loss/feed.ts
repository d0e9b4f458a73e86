/** Keeps one job's curve up to date: a glance first, then all of it, then only what is new. */

import type { Desk, LabError } from "../../ask";
import type { MetricsView } from "../../contract";
import { asLabError } from "../../hooks";
import { Curve } from "./curve";

/** Points of the first answer: enough for a first paint, and a few milliseconds at any length. */
const GLANCE = 2000;
/** Points of the whole; a longer curve comes thinned by the lab, every peak kept. */
const WHOLE = 100_000;

export class Feed {
  readonly curve: Curve;
  /** Why nothing came, until something comes. */
  error: LabError | null = null;
  /** An answer has come, be it an empty one. */
  answered = false;
  readonly #desk: Desk;
  readonly #job_id: string;
  readonly #changed: () => void;
  #held: "nothing" | "glance" | "whole" = "nothing";
  #busy = false;
  #more = false;
  #closed = false;

  constructor(desk: Desk, job_id: string, weight: number, changed: () => void) {
    this.curve = new Curve(weight);
    this.#desk = desk;
    this.#job_id = job_id;
    this.#changed = changed;
  }

  /** Shows a curve that was saved, until the lab answers. */
  begin(view: MetricsView): void {
    this.curve.replace(view);
    if (view.step.length) this.#held = "glance";
  }

  /** Asks for what is new; one question at a time, and one more if it was wanted meanwhile. */
  look(): void {
    this.#more = true;
    if (this.#busy || this.#closed) return;
    this.#busy = true;
    void this.#rounds().finally(() => {
      this.#busy = false;
    });
  }

  close(): void {
    this.#closed = true;
  }

  async #rounds(): Promise<void> {
    while (this.#more && !this.#closed) {
      this.#more = false;
      try {
        await this.#round();
        this.error = null;
      } catch (error) {
        this.error = asLabError(error);
        if (this.error.code === "job_not_found") this.#closed = true; // it never comes back
      }
      if (!this.#closed || this.error) this.#changed();
    }
  }

  async #round(): Promise<void> {
    if (this.#held === "whole" && this.curve.length) {
      const news = await this.#ask({ after_step: this.curve.after });
      if (this.#closed || this.curve.extend(news)) return;
    }
    const points = this.#held === "nothing" ? GLANCE : WHOLE;
    const view = await this.#ask({ points });
    if (this.#closed) return;
    this.curve.replace(view);
    this.answered = true;
    if (points === WHOLE || this.curve.whole) this.#held = view.step.length ? "whole" : "nothing";
    else {
      this.#held = "glance";
      this.#more = true;
    }
  }

  #ask(part: { points: number } | { after_step: number }): Promise<MetricsView> {
    return this.#desk.ask("metrics", { job_id: this.#job_id, ...part });
  }
}
