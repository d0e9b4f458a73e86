/** Each verb as a request to REST (docs/rest.md). */

import type { Gives, Takes, Verb } from "../verbs";

export interface Call {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  body?: unknown;
  /** The answer's part that the verb gives; without it the whole. */
  part?: string;
  /** How long it may take; reading a large data set for the first time takes minutes. */
  patience_ms?: number;
}

/** Who asks, for the record of a submit. */
export type Entry = "widget" | "panel";

export const LONG_MS = 300_000;

/** Verbs whose answer is an address of the server alone. */
export type Addressed = "picture" | "archive";

/** Verbs about how the lab is set up, which the panel alone asks: `setup.ts` has their routes, and no widget carries them. */
export type OfThePanel =
  | "receiving"
  | "test_receiving"
  | "provider"
  | "set_provider"
  | "set_token"
  | "delete_token"
  | "validate"
  | "billing"
  | "test_webhook";

/** Verbs about money: `spending.ts` has their routes. */
export type OfSpending = "spend" | "limits" | "set_limits";

/** Verbs that a request answers. */
export type Routed = Exclude<Verb, Addressed>;

export type Routes<V extends Routed> = { [R in V]: (args: Takes<R>, entry: Entry) => Call };

export const ROUTES: Routes<Exclude<Routed, OfThePanel | OfSpending>> = {
  plan: ({ request }) => ({ method: "POST", path: "/jobs/plan", body: request, patience_ms: LONG_MS }),
  submit: ({ request, approve, key }, entry) => ({
    method: "POST",
    path: "/jobs/submit",
    body: { ...request, approve, idempotency_key: key, entry },
    part: "job",
    patience_ms: LONG_MS,
  }),
  jobs: ({ states, ...rest }) => get(`/jobs${query({ status: states?.join(",") || undefined, ...rest })}`),
  job: ({ job_id }) => get(`${job(job_id)}?only=job`, "job"),
  detail: ({ job_id }) => get(job(job_id)),
  events: ({ job_id: id, ...rest }) => get(`${id ? job(id) : ""}/events${query(rest)}`, "events"),
  log: ({ job_id, ...rest }) => get(`${job(job_id)}/logs${query(rest)}`),
  metrics: ({ job_id, ...rest }) => get(`${job(job_id)}/metrics${query(rest)}`),
  outputs: ({ job_id }) => get(`${job(job_id)}/outputs`),
  push: ({ job_id, destination }, entry) => ({
    method: "POST",
    path: `${job(job_id)}/push`,
    body: { destination, entry },
  }),
  deliveries: ({ job_id }) => get(`${job(job_id)}/push`, "deliveries"),
  give_up: ({ job_id, id }, entry) => ({
    method: "DELETE",
    path: `${job(job_id)}/push${query({ id, entry })}`,
    part: "deliveries",
  }),
  destination: () => get("/destination"),
  set_destination: ({ destination }) => ({ method: "PUT", path: "/destination", body: destination }),
  publishing: () => get("/publishing/status"),
  cancel: ({ job_id }) => ({ method: "POST", path: `${job(job_id)}/cancel`, part: "job" }),
  resolve: ({ job_id, action }, entry) => ({
    method: "POST",
    path: `${job(job_id)}/resolve`,
    body: { action, entry },
    part: "job",
  }),
  delete: ({ job_id, outputs }) => ({ method: "DELETE", path: `${job(job_id)}${outputs ? "?outputs=1" : ""}` }),
  sync: (body) => ({ method: "POST", path: "/jobs/sync", body, patience_ms: LONG_MS }),
  providers: () => get("/providers", "providers"),
  consent: () => get("/data-consent/setting"),
  set_consent: ({ mode }) => ({ method: "PUT", path: "/data-consent/setting", body: { consent: mode } }),
};

/** The paths of delivered files: of one, and of all as a zip. */
export const ADDRESSES: { [V in Addressed]: (args: Takes<V>) => string } = {
  picture: ({ job_id, path }) => `${job(job_id)}/outputs/${path.split("/").map(encodeURIComponent).join("/")}`,
  archive: ({ job_id }) => `${job(job_id)}/outputs.zip`,
};

/** What a verb gives, from the route's answer. */
export function part<V extends Routed>(call: Call, answer: unknown): Gives<V> {
  const found = call.part ? (answer as Record<string, unknown>)[call.part] : answer;
  return found as Gives<V>;
}

export function get(path: string, of?: string): Call {
  return of === undefined ? { method: "GET", path } : { method: "GET", path, part: of };
}

function job(job_id: string): string {
  return `/jobs/${encodeURIComponent(job_id)}`;
}

function query(values: Record<string, string | number | undefined>): string {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}
