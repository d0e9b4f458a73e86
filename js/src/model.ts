/**
 * All that components see: a model with anywidget's six methods. Whatever has them can host the components: a cell
 * (`hosts/cell.ts`), JupyterLab's side panel and pages with a server (`hosts/server.ts`), tests (`hosts/memory.ts`).
 *
 * State is read with `get` and followed with `on("change:KEY")`. Everything else is asked for: `send({id, verb, args})`
 * is answered by `msg:custom` with `{id, value}` or `{id, error}` (see `ask.ts`). A host also sends `{news}` whenever
 * it hears that something changed; components then ask again for what they show. News may be dropped or merged.
 */

import type { ErrorView, JobView, MetricsView, SubmitRequest } from "./contract";

/** One job alone, or the list and what is chosen in it. */
export type View = "job" | "jobs";

export type PanelTab = "jobs" | "new" | "spend" | "settings";

/** `lost`: no answer from the lab, tried again by itself. `denied`: the login is gone, only the user can mend it. */
export type Connection = "live" | "lost" | "denied";

/** What a model holds. In a cell these are traits that Python sees too, but for `connection` and `tab`. */
export interface State {
  view: View;
  /** The job that is shown; empty: none. */
  job_id: string;
  /** What the submit form begins with; null: an empty form. */
  request: SubmitRequest | null;
  /** Idempotency key of the form's next submit: a second click is the same job. */
  key: string;
  /** Digest of the plan on show. */
  digest: string;
  /** The job as last known: the first paint, and what a saved notebook shows. */
  job: JobView | null;
  /** Its curve, thinned, as last known. */
  curve: MetricsView | null;
  connection: Connection;
  /** Of the side panel. */
  tab: PanelTab;
  /** Words of another language for the English ones. */
  catalogue: Record<string, string>;
}

export type Key = keyof State;

/** Something changed about a job; `job_id` null: anything may have. */
export interface News {
  job_id: string | null;
  version: number;
}

export interface Question {
  id: string;
  verb: string;
  args: unknown;
}

export type Message = { id: string; value: unknown } | { id: string; error: ErrorView } | { news: News };

// biome-ignore lint/suspicious/noExplicitAny: a listener's arguments depend on the event's name
export type Listener = (...args: any[]) => void;

/** anywidget's model, typed. */
export interface Model {
  get<K extends Key>(key: K): State[K];
  set<K extends Key>(key: K, value: State[K]): void;
  on(name: string, listener: Listener): void;
  off(name?: string | null, listener?: Listener | null): void;
  save_changes(): void;
  send(content: Question): void;
}

export const EMPTY: State = {
  view: "jobs",
  job_id: "",
  request: null,
  key: "",
  digest: "",
  job: null,
  curve: null,
  connection: "live",
  tab: "jobs",
  catalogue: {},
};
