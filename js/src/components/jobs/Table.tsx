/** The rows with their column heads; a click on a head sorts by it. */

import type { JobView } from "../../contract";
import { type Translate, useWords } from "../../words";
import { type SortKey, sortKey, turned } from "./query";
import { Row } from "./Row";

interface TableProps {
  rows: JobView[];
  gone: Set<string>;
  sort: string;
  order: (sort: string) => void;
  nameOf: (provider: string) => string;
  choose: (job_id: string) => void;
  again: () => void;
}

export function Table({ rows, gone, sort, order, nameOf, choose, again }: TableProps) {
  const t = useWords();
  return (
    <table class="stc-jobs-table" aria-label={t("Training jobs")}>
      <thead>
        <tr>
          {heads(t).map(([place, key, words]) => (
            <Head key={place} place={place} by={key} words={words} sort={sort} order={order} />
          ))}
          <th class="stc-jobs-act" scope="col">
            <span class="stc-hidden">{t("Actions")}</span>
          </th>
        </tr>
      </thead>
      <tbody onKeyDown={walk}>
        {rows.map((job) => (
          <Row
            key={job.job_id}
            job={job}
            provider={nameOf(job.provider)}
            gone={gone.has(job.job_id)}
            t={t}
            choose={choose}
            again={again}
          />
        ))}
      </tbody>
    </table>
  );
}

function heads(t: Translate): [place: string, key: SortKey | null, words: string][] {
  return [
    ["name", "config_name", t("Name")],
    ["state", "status", t("State")],
    ["provider", "provider", t("Provider")],
    ["progress", null, t("Progress")],
    ["loss", "loss", t("Loss")],
    ["cost", "cost_usd", t("Cost")],
    ["time", "duration_seconds", t("Time")],
    ["created", "created_at", t("Age")],
    ["updated", "updated_at", t("Changed")],
  ];
}

interface HeadProps {
  place: string;
  by: SortKey | null;
  words: string;
  sort: string;
  order: (sort: string) => void;
}

function Head({ place, by, words, sort, order }: HeadProps) {
  if (by === null) {
    return (
      <th class={`stc-jobs-${place}`} scope="col">
        {words}
      </th>
    );
  }
  const direction = sort.startsWith("-") ? "descending" : "ascending";
  return (
    <th class={`stc-jobs-${place}`} scope="col" aria-sort={sortKey(sort) === by ? direction : "none"}>
      <button type="button" onClick={() => order(turned(sort, by))}>
        {words}
      </button>
    </th>
  );
}

/** Arrows go from row to row. */
function walk(event: KeyboardEvent) {
  const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1 };
  if (!(event.key in steps) || !(event.target instanceof HTMLElement)) return;
  if (!event.target.matches(".stc-jobs-open")) return;
  event.preventDefault();
  event.stopPropagation();
  const body = event.currentTarget as HTMLElement;
  const names = [...body.querySelectorAll<HTMLElement>(".stc-jobs-open")];
  names[names.indexOf(event.target) + steps[event.key]]?.focus();
}
