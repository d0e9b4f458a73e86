/** What the list shows: filter, order and page, and the question that asks for it. */

import type { JobState } from "../../contract";
import type { JobsQuery } from "../../verbs";

export const STATES: JobState[] = ["pending", "uploading", "queued", "running", "completed", "failed", "cancelled"];
export const SIZES = [25, 50, 100, 500];
/** The most jobs that one question may ask for. */
const MOST = 500;

export type SortKey =
  | "created_at"
  | "updated_at"
  | "config_name"
  | "status"
  | "provider"
  | "cost_usd"
  | "duration_seconds"
  | "loss";

export interface Query {
  states: JobState[];
  provider: string;
  text: string;
  /** A `SortKey`; a minus before it turns the order round. */
  sort: string;
  size: number;
  page: number;
}

export const FIRST: Query = { states: [], provider: "", text: "", sort: "-created_at", size: 50, page: 0 };

/** `more` rows beyond the page: those that new jobs in front have pushed off it. */
export function question(query: Query, more = 0): JobsQuery {
  const asked: JobsQuery = {
    sort: query.sort,
    limit: Math.min(MOST, query.size + more),
    offset: query.page * query.size,
  };
  if (query.states.length > 0) asked.states = query.states;
  if (query.provider) asked.provider = query.provider;
  if (query.text) asked.text = query.text;
  return asked;
}

export function isFiltered(query: Query): boolean {
  return query.states.length > 0 || query.provider !== "" || query.text !== "";
}

export function sortKey(sort: string): SortKey {
  return sort.replace(/^-/, "") as SortKey;
}

/** The order after a click on a column: its natural one first, then the other way round. */
export function turned(sort: string, key: SortKey): string {
  if (sortKey(sort) === key) return sort.startsWith("-") ? key : `-${key}`;
  return NATURAL[key];
}

/** Newest, dearest and longest first; the rest from small to large. */
export const NATURAL: Record<SortKey, string> = {
  created_at: "-created_at",
  updated_at: "-updated_at",
  config_name: "config_name",
  status: "status",
  provider: "provider",
  cost_usd: "-cost_usd",
  duration_seconds: "-duration_seconds",
  loss: "loss",
};
