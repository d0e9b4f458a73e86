/** A server and an event bus that tests turn off and on, and what a model says to its listeners. */

import { type Events, JOB_EVENT } from "../src/hosts/follower";
import type { Message, Model } from "../src/model";

export interface Asked {
  method: string;
  path: string;
  body: unknown;
}

type Answer = (asked: Asked) => Response | Promise<Response>;

export class FakeServer {
  readonly asked: Asked[] = [];
  /** `down`: no connection. `gateway`: a proxy answers for it. `denied`: nobody is logged in. `mute`: it hangs. */
  mode: "up" | "down" | "gateway" | "denied" | "mute" = "up";
  lab = "0123456789abcdef";
  seq = 1;
  events: unknown[] = [];
  answers: Record<string, Answer> = {};

  request = (path: string, init: RequestInit): Promise<Response> => {
    const asked = { method: init.method ?? "GET", path, body: init.body ? JSON.parse(String(init.body)) : undefined };
    this.asked.push(asked);
    if (this.mode === "mute") {
      return new Promise((_, reject) => init.signal?.addEventListener("abort", () => reject(new Error("aborted"))));
    }
    return this.#answer(asked);
  };

  urlOf = (path: string): string => `/base/api/cloud${path}`;

  paths(part: string): string[] {
    return this.asked.map(({ path }) => path).filter((path) => path.includes(part));
  }

  async #answer(asked: Asked): Promise<Response> {
    if (this.mode === "down") throw new TypeError("Failed to fetch");
    if (this.mode === "gateway") return new Response("<h1>Bad gateway</h1>", { status: 502 });
    if (this.mode === "denied") return json({ message: "Forbidden", detail: "Forbidden", code: "http_403" }, 403);
    const { path } = asked;
    if (path === "/health/live") return json({ status: "alive", lab: this.lab });
    const own = this.answers[path.split("?")[0]];
    if (own) return own(asked);
    if (path.startsWith("/events")) return json({ events: this.events, seq: this.seq });
    return json({ detail: "there is no such route", code: "not_found", hint: "", problems: [] }, 404);
  }
}

export function json(body: unknown, status = 200): Response {
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
}

/** Jupyter's event bus, as one socket. */
export class FakeBus implements Events {
  connected = 0;
  #heard: (event: unknown) => void = () => undefined;
  #state: (open: boolean) => void = () => undefined;

  connect(heard: (event: unknown) => void, state: (open: boolean) => void): () => void {
    this.connected += 1;
    this.#heard = heard;
    this.#state = state;
    return () => {
      this.connected -= 1;
    };
  }

  turn(open: boolean): void {
    this.#state(open);
  }

  emit(event: Record<string, unknown>): void {
    this.#heard({ schema_id: JOB_EVENT, job_id: "j1", status: "running", version: 2, is_terminal: false, ...event });
  }
}

/** Asks over a model's own messages, without the desk's patience. */
export function ask(model: Model, verb: string, args: unknown, id = `${verb}-${Math.random()}`): Promise<Message> {
  return new Promise((resolve) => {
    const listen = (message: Message) => {
      if (!("id" in message) || message.id !== id) return;
      model.off("msg:custom", listen);
      resolve(message);
    };
    model.on("msg:custom", listen);
    model.send({ id, verb, args });
  });
}

/** News that a model tells, as job ids. */
export function newsOf(model: Model): (string | null)[] {
  const told: (string | null)[] = [];
  model.on("msg:custom", (message: Message) => {
    if ("news" in message) told.push(message.news.job_id);
  });
  return told;
}
