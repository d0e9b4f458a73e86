/** A word in JupyterLab's corner when a job has ended, with a way to it. */

import { Notification } from "@jupyterlab/apputils";
import type { TranslationBundle } from "@jupyterlab/translation";
import { Desk } from "../ask";
import type { JobView } from "../contract";
import type { Model } from "../model";

const SHOWN_MS = 15_000;

export class Notices {
  wanted = true;
  #desk: Desk;
  #trans: TranslationBundle;
  #open: (job_id: string) => void;
  /** The end of a job may be heard twice. */
  #told = new Set<string>();

  constructor(model: Model, trans: TranslationBundle, open: (job_id: string) => void) {
    this.#desk = new Desk(model);
    this.#trans = trans;
    this.#open = open;
  }

  ended(job_id: string): void {
    if (!this.wanted || this.#told.has(job_id)) return;
    this.#told.add(job_id);
    this.#desk.ask("job", { job_id }).then(
      (job) => this.#tell(job),
      () => this.#told.delete(job_id),
    );
  }

  dispose(): void {
    this.#desk.close();
  }

  #tell(job: JobView): void {
    const { job_id, config_name, status, error_message } = job;
    const name = config_name || job_id;
    const trans = this.#trans;
    const actions = [{ label: trans.__("Open"), callback: () => this.#open(job_id) }];
    if (status === "completed") {
      Notification.success(trans.__("%1 is trained.", name), { autoClose: SHOWN_MS, actions });
    } else if (status === "failed") {
      Notification.error(trans.__("%1 failed: %2", name, error_message ?? ""), { autoClose: false, actions });
    } else {
      Notification.info(trans.__("%1 was cancelled.", name), { autoClose: SHOWN_MS, actions });
    }
  }
}
