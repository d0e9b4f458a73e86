/** The line to a server's REST API: requests with an end, and whether the server answers at all. */

import { NO_ANSWER } from "../ask";
import type { ErrorView } from "../contract";
import type { Connection } from "../model";
import type { Call } from "./routes";

export type Request = (path: string, init: RequestInit) => Promise<Response>;
export type Reply = { value: unknown } | { error: ErrorView };

export const HEALTH = "/health/live";

const PATIENCE_MS = 30_000;
const PROBE_MS = 3_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;

/**
 * Asks, and notices when nobody answers. It is then `lost` and tries again by itself; questions fail at once
 * meanwhile. `denied` when the server answers, but to nobody who is not logged in.
 */
export class Line {
  #request: Request;
  #changed: (connection: Connection) => void;
  #state: Connection = "live";
  #wait_ms = FIRST_WAIT_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #gone = new AbortController();
  #hoping = new Set<(back: boolean) => void>();

  constructor(request: Request, changed: (connection: Connection) => void) {
    this.#request = request;
    this.#changed = changed;
  }

  async call({ method, path, body, patience_ms = PATIENCE_MS }: Call): Promise<Reply> {
    if (this.#state === "lost" || this.#gone.signal.aborted) return { error: NO_ANSWER };
    const init: RequestInit = { method };
    if (body !== undefined) {
      init.body = JSON.stringify(body);
      init.headers = { "Content-Type": "application/json" };
    }
    const answer = await this.#fetch(path, init, patience_ms);
    if (this.#gone.signal.aborted) return { error: NO_ANSWER };
    if (!answer || (answer.body === undefined && answer.status >= 502 && answer.status <= 504)) {
      this.#become("lost");
      return { error: NO_ANSWER };
    }
    if (answer.ok && answer.body !== undefined) {
      this.#become("live");
      return { value: answer.body };
    }
    const error = errorOf(answer);
    if (answer.ok || error.code === "http_401" || error.code === "http_403") this.#become(await this.#probe());
    return { error };
  }

  /** True as soon as the server answers, false when it does not within this time. */
  back(patience_ms: number): Promise<boolean> {
    if (this.#state !== "lost") return Promise.resolve(!this.#gone.signal.aborted);
    return new Promise((resolve) => {
      const told = (back: boolean) => {
        clearTimeout(timer);
        this.#hoping.delete(told);
        resolve(back);
      };
      const timer = setTimeout(told, patience_ms, false);
      this.#hoping.add(told);
    });
  }

  dispose(): void {
    this.#gone.abort();
    clearTimeout(this.#timer);
    for (const told of [...this.#hoping]) told(false);
  }

  #become(state: Connection): void {
    if (this.#gone.signal.aborted) return;
    const before = this.#state;
    this.#state = state;
    if (state === "live") {
      clearTimeout(this.#timer);
      for (const told of [...this.#hoping]) told(true);
    } else if (before === "live") {
      this.#wait_ms = FIRST_WAIT_MS;
      this.#again();
    }
    if (state !== before) this.#changed(state);
  }

  #again(): void {
    this.#timer = setTimeout(async () => {
      const state = await this.#probe();
      this.#wait_ms = Math.min(LONGEST_WAIT_MS, this.#wait_ms * 2);
      if (this.#state !== "live" && !this.#gone.signal.aborted && state !== "live") this.#again();
      this.#become(state);
    }, this.#wait_ms);
  }

  /** Whether a refusal was one of a login that is gone, or of this one thing. */
  async #probe(): Promise<Connection> {
    const answer = await this.#fetch(HEALTH, { method: "GET" }, PROBE_MS);
    if (!answer) return "lost";
    if (answer.ok && (answer.body as { status?: unknown } | undefined)?.status === "alive") return "live";
    return answer.ok || answer.status === 401 || answer.status === 403 ? "denied" : "lost";
  }

  /** Status and JSON; a body that is not JSON is undefined. Null: no answer came. */
  async #fetch(path: string, init: RequestInit, patience_ms: number): Promise<Fetched | null> {
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), patience_ms);
    try {
      const signal = AbortSignal.any([late.signal, this.#gone.signal]);
      const response = await this.#request(path, { ...init, signal });
      return { ok: response.ok, status: response.status, body: parsed(await response.text()) };
    } catch {
      return null;
    } finally {
      clearTimeout(timer);
    }
  }
}

interface Fetched {
  ok: boolean;
  status: number;
  body: unknown;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The lab's own words where there are some; a proxy's page has none. */
function errorOf({ status, body }: Fetched): ErrorView {
  const told = (typeof body === "object" && body !== null ? body : {}) as Partial<ErrorView> & { message?: string };
  return {
    code: told.code ?? `http_${status}`,
    detail: told.detail ?? told.message ?? `the server answered ${status} without a word from the lab`,
    hint: told.hint ?? "",
    problems: told.problems ?? [],
  };
}
