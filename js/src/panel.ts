/** Where the side panel is, and how one gets elsewhere in it: used by its tabs, and by commands from outside. */

import type { Model, PanelTab } from "./model";

/** Turns to a tab. A new job begins without the one on show. */
export function openTab(model: Model, tab: PanelTab): void {
  if (tab === "new") model.set("job_id", "");
  model.set("tab", tab);
  model.save_changes();
}

/** Shows a job, or with an empty id the list. */
export function openJob(model: Model, job_id: string): void {
  model.set("tab", "jobs");
  model.set("job_id", job_id);
  model.save_changes();
}

/** The form has become a job: that is shown, and the next form is a new one with a key of its own. */
export function submitted(model: Model): void {
  model.set("tab", "jobs");
  model.set("request", null);
  model.set("digest", "");
  model.set("key", "");
  model.save_changes();
}
