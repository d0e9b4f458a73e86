/**
 * A cell's model: anywidget's, with questions answered by the shortest way that works. Where the page's own server runs
 * the lab that the kernel uses, that is REST: it answers while the kernel is busy, restarting or gone. Else the kernel.
 */

import { NO_ANSWER } from "../ask";
import {
  type Connection,
  EMPTY,
  type Key,
  type Listener,
  type Message,
  type Model,
  type Question,
  type State,
} from "../model";
import { jupyterEvents } from "./jupyter_events";
import { HEALTH, type Reply } from "./line";
import { Listeners } from "./own";
import { type PageServer, pageWords } from "./page";
import { Server } from "./server";

/** anywidget's model: the state's traits, and `lab`, an opaque id of the lab that the kernel uses. */
export interface Widget extends Omit<Model, "get"> {
  get(key: string): unknown;
}

export type CellModel = Model & { dispose(): void };

export function cellModel(widget: Widget, page: PageServer | null): CellModel {
  return new Cell(widget, page);
}

const PROBE_MS = 3_000;
/** A kernel that has not answered for so long may be gone; it may also be busy. */
const SILENCE_MS = 10_000;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 10_000;
/** Reading a data set takes as long as it takes. */
const SLOW = new Set(["plan", "submit"]);
const TRAITS: Key[] = ["view", "job_id", "request", "key", "digest", "job", "curve", "catalogue"];

type Pending = Question & { silence?: ReturnType<typeof setTimeout> | undefined };

class Cell implements CellModel {
  #widget: Widget;
  #page: PageServer | null;
  #listeners = new Listeners();
  #forwards: [string, Listener][];
  #own: Pick<State, "connection" | "tab"> = { connection: "live", tab: "jobs" };
  #server: Server | null = null;
  /** Whether it is known which way questions go. */
  #settled = false;
  #pending = new Map<string, Pending>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #wait_ms = FIRST_WAIT_MS;
  #disposed = false;

  constructor(widget: Widget, page: PageServer | null) {
    this.#widget = widget;
    this.#page = page;
    this.#forwards = TRAITS.map((key): [string, Listener] => {
      const name = `change:${key}`;
      return [name, () => this.#listeners.tell(name)];
    });
    this.#forwards.push(["msg:custom", (message: Message) => this.#fromKernel(message)]);
    for (const [name, listener] of this.#forwards) widget.on(name, listener);
    void this.#probe();
  }

  get<K extends Key>(key: K): State[K] {
    if (isOwn(key)) return this.#own[key] as State[K];
    const value = (this.#widget.get(key) ?? EMPTY[key]) as State[K];
    const wordless = key === "catalogue" && Object.keys(value as object).length === 0;
    return wordless ? ((pageWords() ?? value) as State[K]) : value;
  }

  set<K extends Key>(key: K, value: State[K]): void {
    if (!isOwn(key)) {
      this.#widget.set(key, value);
      return;
    }
    if (this.#own[key] === value) return;
    this.#own = { ...this.#own, [key]: value };
    this.#listeners.tell(`change:${key}`);
  }

  on(name: string, listener: Listener): void {
    this.#listeners.on(name, listener);
  }

  off(name?: string | null, listener?: Listener | null): void {
    this.#listeners.off(name, listener);
  }

  save_changes(): void {
    try {
      this.#widget.save_changes();
    } catch {
      // the kernel is gone: what was set stays in the page
    }
  }

  send(question: Question): void {
    if (this.#server) {
      this.#toServer(this.#server, question);
      return;
    }
    this.#pending.set(question.id, { ...question });
    if (this.#settled) this.#toKernel(question.id);
  }

  dispose(): void {
    this.#disposed = true;
    clearTimeout(this.#timer);
    for (const { silence } of this.#pending.values()) clearTimeout(silence);
    for (const [name, listener] of this.#forwards) this.#widget.off(name, listener);
    this.#server?.dispose();
    this.#listeners.off();
  }

  /** Questions wait for the first one, and for no other. */
  async #probe(): Promise<void> {
    const lab = this.#widget.get("lab");
    const same = this.#page !== null && typeof lab === "string" && lab !== "" && (await runs(this.#page, lab));
    if (this.#disposed || this.#server) return;
    if (this.#page && same) return this.#adopt(this.#page);
    if (!this.#settled) {
      this.#settled = true;
      for (const id of [...this.#pending.keys()]) this.#toKernel(id);
    } else if (this.#own.connection !== "live") {
      this.#probeLater();
    }
  }

  #probeLater(): void {
    if (!this.#page) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#probe(), this.#wait_ms);
    this.#wait_ms = Math.min(LONGEST_WAIT_MS, this.#wait_ms * 2);
  }

  /** From now on the page's server answers, also what the kernel was asked and did not answer. */
  #adopt({ request, urlOf, eventsUrl, more }: PageServer): void {
    this.#become("live");
    const server = new Server(
      { request, urlOf, events: jupyterEvents(eventsUrl), entry: "widget", more },
      {
        connection: (connection) => this.#become(connection),
        news: (news) => this.#listeners.tell("msg:custom", { news }),
      },
    );
    this.#server = server;
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const question of pending) {
      clearTimeout(question.silence);
      this.#toServer(server, question);
    }
  }

  #toServer(server: Server, { id, verb, args }: Question): void {
    void server.answer(verb, args).then((reply) => this.#reply(id, reply));
  }

  #toKernel(id: string): void {
    const question = this.#pending.get(id);
    if (!question) return;
    const { verb, args } = question;
    try {
      this.#widget.send({ id, verb, args });
      if (!SLOW.has(verb)) question.silence = setTimeout(() => this.#silent(), SILENCE_MS);
    } catch {
      this.#pending.delete(id);
      this.#silent();
      queueMicrotask(() => this.#reply(id, { error: NO_ANSWER }));
    }
  }

  #fromKernel(message: Message): void {
    if (this.#server || !message) return;
    if ("id" in message) {
      clearTimeout(this.#pending.get(message.id)?.silence);
      this.#pending.delete(message.id);
    }
    this.#become("live");
    this.#listeners.tell("msg:custom", message);
  }

  #silent(): void {
    if (this.#server || this.#own.connection === "lost") return;
    this.#wait_ms = FIRST_WAIT_MS;
    this.#become("lost");
    this.#probeLater();
  }

  #reply(id: string, reply: Reply): void {
    this.#listeners.tell("msg:custom", { id, ...reply });
  }

  #become(connection: Connection): void {
    if (connection === "live") clearTimeout(this.#timer);
    this.set("connection", connection);
  }
}

function isOwn(key: Key): key is "connection" | "tab" {
  return key === "connection" || key === "tab";
}

/** Whether the page's server runs this lab. */
async function runs(page: PageServer, lab: string): Promise<boolean> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), PROBE_MS);
  try {
    const response = await page.request(HEALTH, { method: "GET", signal: late.signal });
    return response.ok && ((await response.json()) as { lab?: unknown }).lab === lab;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
  }
}
