/** What the panel keeps over a reload of the page: where one was, and nothing of what was typed. */

import type { IStateDB } from "@jupyterlab/statedb";
import type { PanelTab, State } from "../model";

export interface Kept {
  tab: PanelTab;
  job_id: string;
}

const KEY = "simpletuner-lab:panel";
const TABS: readonly unknown[] = ["jobs", "new", "spend", "settings"] satisfies PanelTab[];

export function keep(states: IStateDB | null, { tab, job_id }: State): void {
  void states?.save(KEY, { tab, job_id });
}

export async function recall(states: IStateDB | null): Promise<Kept> {
  const found = ((await states?.fetch(KEY)) ?? {}) as Partial<Record<keyof Kept, unknown>>;
  return {
    tab: TABS.includes(found.tab) ? (found.tab as PanelTab) : "jobs",
    job_id: typeof found.job_id === "string" ? found.job_id : "",
  };
}
