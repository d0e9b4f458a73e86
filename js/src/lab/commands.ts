/** The panel's commands: for the palette, the launcher, shortcuts and other extensions. */

import type { JupyterFrontEnd } from "@jupyterlab/application";
import type { ICommandPalette } from "@jupyterlab/apputils";
import type { ILauncher } from "@jupyterlab/launcher";
import type { TranslationBundle } from "@jupyterlab/translation";
import { openJob, openTab } from "../panel";
import { labIcon } from "./icon";
import type { CloudPanel } from "./panel";

export const OPEN = "simpletuner-lab:open";
export const SUBMIT = "simpletuner-lab:submit";
export const OPEN_JOB = "simpletuner-lab:open-job";

interface Disposable {
  dispose(): void;
}

/** Adds them; what comes back takes each away again. */
export function addCommands(app: JupyterFrontEnd, panel: CloudPanel, trans: TranslationBundle): Disposable[] {
  const { commands, shell } = app;
  const show = () => shell.activateById(panel.id);
  return [
    commands.addCommand(OPEN, {
      label: trans.__("Cloud training jobs"),
      caption: trans.__("Show the list of training jobs"),
      icon: labIcon,
      describedBy: { args: { type: "object", properties: {} } },
      execute: () => {
        openJob(panel.model, "");
        show();
      },
    }),
    commands.addCommand(SUBMIT, {
      label: trans.__("New training job"),
      caption: trans.__("Train a model here or on a GPU elsewhere"),
      icon: labIcon,
      describedBy: { args: { type: "object", properties: {} } },
      execute: () => {
        openTab(panel.model, "new");
        show();
      },
    }),
    commands.addCommand(OPEN_JOB, {
      label: trans.__("Open a training job"),
      describedBy: {
        args: {
          type: "object",
          properties: { job_id: { type: "string", description: trans.__("Id of the job") } },
          required: ["job_id"],
        },
      },
      isEnabled: ({ job_id }) => typeof job_id === "string",
      execute: ({ job_id }) => {
        openJob(panel.model, String(job_id));
        show();
      },
    }),
  ];
}

/** Where people find them. A card of the launcher stands under a heading of JupyterLab's own, in its words. */
export function offerCommands(
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  trans: TranslationBundle,
  jupyterlab: TranslationBundle,
): Disposable[] {
  const category = trans.__("Cloud Training");
  const offered: Disposable[] = [];
  for (const command of [OPEN, SUBMIT]) {
    if (palette) offered.push(palette.addItem({ command, category }));
  }
  if (launcher) offered.push(launcher.add({ command: SUBMIT, category: jupyterlab.__("Other"), rank: 20 }));
  return offered;
}
