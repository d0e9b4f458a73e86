/** The JupyterLab plugin: the side panel, its commands, its settings, and a word when a job has ended. No kernel. */

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import { ILauncher } from "@jupyterlab/launcher";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { IStateDB } from "@jupyterlab/statedb";
import { ITranslator, nullTranslator, type TranslationBundle } from "@jupyterlab/translation";
import { shareWords } from "../hosts/page";
import { ServerModel } from "../hosts/server";
import { addCommands, OPEN_JOB, offerCommands } from "./commands";
import { type Kept, keep, recall } from "./kept";
import { Notices } from "./notices";
import { CloudPanel } from "./panel";
import { labPlace } from "./place";

const ID = "simpletuner-lab:plugin";

const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Train diffusion models on a GPU elsewhere, or here: jobs, consent and live loss in a side panel.",
  autoStart: true,
  optional: [ISettingRegistry, ICommandPalette, ILauncher, ILayoutRestorer, ITranslator, IStateDB],
  activate,
};

export default plugin;

function activate(
  app: JupyterFrontEnd,
  settings: ISettingRegistry | null,
  palette: ICommandPalette | null,
  launcher: ILauncher | null,
  restorer: ILayoutRestorer | null,
  translator: ITranslator | null,
  states: IStateDB | null,
): void {
  const words = translator ?? nullTranslator;
  const trans = words.load("simpletuner_lab");
  const catalogue = catalogueOf(trans);
  shareWords(catalogue);
  const model: ServerModel = new ServerModel({
    ...labPlace(app.serviceManager),
    state: { catalogue },
    save: (state) => keep(states, state),
    ended: (job_id) => notices.ended(job_id),
  });
  const notices = new Notices(model, trans, (job_id) => void app.commands.execute(OPEN_JOB, { job_id }));
  const panel = new CloudPanel(model, { title: trans.__("Cloud training") });
  app.shell.add(panel, "left", { rank: 900, type: "Cloud Training" });
  restorer?.add(panel, panel.id);

  const offered = offerCommands(palette, launcher, trans, words.load("jupyterlab"));
  const added = [...addCommands(app, panel, trans), ...offered, notices];
  panel.disposed.connect(() => {
    for (const each of added) each.dispose();
  });
  void recall(states).then((kept) => restore(model, kept));
  void follow(settings, (wishes) => {
    notices.wanted = wishes.notifyOnEnd;
  }).then((wishes) => {
    if (wishes?.openOnStart) void app.restored.then(() => app.shell.activateById(panel.id));
  });
}

/** What was on show before the page was loaded again, unless something is chosen already. */
function restore(model: ServerModel, { tab, job_id }: Kept): void {
  if (model.get("tab") !== "jobs" || model.get("job_id")) return;
  model.set("tab", tab);
  model.set("job_id", job_id);
}

interface Wishes {
  notifyOnEnd: boolean;
  openOnStart: boolean;
}

/** Tells the settings now and whenever they change; gives the first ones, or null where there are none. */
async function follow(registry: ISettingRegistry | null, apply: (wishes: Wishes) => void): Promise<Wishes | null> {
  if (!registry) return null;
  const settings = await registry.load(ID);
  const read = (): Wishes => ({
    notifyOnEnd: settings.get("notifyOnEnd").composite !== false,
    openOnStart: settings.get("openOnStart").composite === true,
  });
  settings.changed.connect(() => apply(read()));
  apply(read());
  return read();
}

/** The words of the language that JupyterLab speaks, looked up one by one and once each. */
function catalogueOf(trans: TranslationBundle): Record<string, string> {
  const find = (known: Record<string, string>, english: string | symbol) => {
    if (typeof english !== "string") return undefined;
    known[english] ??= trans.gettext(english);
    return known[english];
  };
  return new Proxy<Record<string, string>>(Object.create(null), { get: find });
}
