/** Where pictures are to be had, each asked for once. */

import type { Desk } from "../../ask";
import { type Picture, safeSource } from "./series";

/** Data URLs are big: so many are kept. */
const KEPT = 60;

export class Sources {
  readonly #desk: Desk;
  readonly #job_id: string;
  readonly #known = new Map<string, Promise<string>>();

  constructor(desk: Desk, job_id: string) {
    this.#desk = desk;
    this.#job_id = job_id;
  }

  /** What an `<img>` shows. Rejects where the picture is not there, or is not one that may be shown. */
  of(picture: Picture): Promise<string> {
    const key = keyOf(picture);
    const known = this.#known.get(key);
    if (known) return known;
    const asked = this.#ask(picture);
    this.#known.set(key, asked);
    asked.catch(() => this.#known.delete(key));
    const [oldest] = this.#known.keys();
    if (this.#known.size > KEPT) this.#known.delete(oldest);
    return asked;
  }

  async #ask({ path }: Picture): Promise<string> {
    const { src } = await this.#desk.ask("picture", { job_id: this.#job_id, path });
    const safe = safeSource(src);
    if (safe === null) throw new Error("not a picture's address");
    return safe;
  }
}

export function keyOf({ path, seq }: Picture): string {
  return `${seq} ${path}`;
}
