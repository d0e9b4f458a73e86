/** What to train and how: the options that most people set, and all of them as JSON. */

import type { SubmitRequest } from "../../contract";
import { useUniqueId } from "../../hooks";
import { useWords } from "../../words";
import { type Entry, isImages, option, withOption } from "./draft";
import { Choice, Input, Section } from "./fields";
import { JsonEditor } from "./JsonEditor";
import type { ConfigField } from "./problems";

interface TrainingProps {
  draft: SubmitRequest;
  change: (part: Partial<SubmitRequest>) => void;
}

/** The trainer's own defaults (docs/config.md), shown in the fields that are left empty. */
const DEFAULTS = { lora_rank: "16", learning_rate: "0.0001", train_batch_size: "4" };

export function Training({ draft, change }: TrainingProps) {
  const t = useWords();
  const bases = useUniqueId();
  const bind = (name: ConfigField) => ({
    place: `config.${name}`,
    value: option(draft.config, name),
    change: (value: unknown) =>
      change({ config: withOption(draft.config, name, value || value === 0 ? value : undefined) }),
  });
  const kind = String(option(draft.config, "model_type") ?? "lora");
  return (
    <Section
      title={t("Training")}
      note={t("Fields left empty take the value shown in them. Required ones are marked.")}
    >
      <Input
        {...bind("pretrained_model_name_or_path")}
        label={t("Base model")}
        required
        list={bases}
        hint={t("A Hugging Face Hub id, a folder, or builtin:tiny, the small base that ships with the trainer.")}
      />
      <datalist id={bases}>
        <option value="builtin:tiny" />
        <option value="stable-diffusion-v1-5/stable-diffusion-v1-5" />
      </datalist>
      <div class="stc-grid">
        <Choice
          {...bind("model_type")}
          value={kind}
          label={t("What is trained")}
          options={[
            ["lora", t("A LoRA")],
            ["full", t("The full model")],
          ]}
        />
        {kind !== "full" && (
          <Input {...bind("lora_rank")} kind="number" label={t("LoRA rank")} placeholder={DEFAULTS.lora_rank} />
        )}
        <Input {...bind("max_train_steps")} kind="number" label={t("Steps")} required />
        <Input
          {...bind("learning_rate")}
          kind="number"
          label={t("Learning rate")}
          placeholder={DEFAULTS.learning_rate}
        />
        <Input
          {...bind("train_batch_size")}
          kind="number"
          label={t("Batch size")}
          placeholder={DEFAULTS.train_batch_size}
        />
        <Input {...bind("resolution")} kind="number" label={t("Resolution")} placeholder={t("the base's own")} />
      </div>
      <Input
        {...bind("validation_prompt")}
        kind="lines"
        label={t("Validation prompts")}
        hint={t("One a line. A picture of each is made on the way.")}
      />
      <Input
        label={t("Name of the job")}
        place="name"
        value={draft.config_name}
        change={(name) => change({ config_name: String(name) })}
        placeholder={draft.dataloader_config
          .filter(isImages)
          .map((entry) => String(option(entry, "id") ?? ""))
          .join("-")}
      />
    </Section>
  );
}

interface AllOptionsProps extends TrainingProps {
  broken: (place: string, broken: boolean) => void;
}

/** The same objects that the fields edit, whole. */
export function AllOptions({ draft, change, broken }: AllOptionsProps) {
  const t = useWords();
  return (
    <details class="stc-all">
      <summary>{t("All options")}</summary>
      <div class="stc-stack">
        <JsonEditor<Entry>
          label={t("Configuration")}
          hint={t("Every option of the trainer, as one JSON object.")}
          place="config"
          value={draft.config}
          change={(config) => change({ config })}
          check={(value) => (isObject(value) ? "" : t("The configuration is one JSON object: { … }."))}
          broken={(is) => broken("config", is)}
        />
        <JsonEditor<Entry[]>
          label={t("Data sets")}
          hint={t("Every option of each data set, as a JSON list of objects.")}
          place="dataloader"
          value={draft.dataloader_config}
          change={(dataloader_config) => change({ dataloader_config })}
          check={(value) =>
            Array.isArray(value) && value.every(isObject) ? "" : t("Data sets are a JSON list of objects: [{ … }].")
          }
          broken={(is) => broken("dataloader", is)}
        />
      </div>
    </details>
  );
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
