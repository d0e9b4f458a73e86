/** A provider's settings as a form, drawn from what the lab says of each: its kind, its default, what it is for. */

import { useState } from "preact/hooks";
import type { Problem } from "../../contract";
import { useAct, useLab } from "../../hooks";
import type { ProviderConfig, SettingField } from "../../setup";
import { useWords } from "../../words";
import { ErrorBanner, Note } from "../atoms";
import { Choice, Input, Problems } from "../submit/fields";
import type { Placed } from "../submit/problems";
import { Saving } from "./Saving";

type Values = Record<string, unknown>;

interface SettingsFormProps {
  config: ProviderConfig;
  /** The lab has taken them. */
  saved: (config: ProviderConfig) => void;
}

/** Only what was changed is sent, and refused or in force as a whole. */
export function SettingsForm({ config, saved }: SettingsFormProps) {
  const t = useWords();
  const { desk } = useLab();
  const [edited, edit] = useState<Values>({});
  const [mended, mend] = useState<string[]>([]);
  const [said, say] = useState(false);
  const values: Values = { ...config.config, ...edited };
  const changed = Object.fromEntries(Object.entries(edited).filter(([key, value]) => !same(value, config.config[key])));
  const save = useAct(async () => {
    mend([]);
    const next = await desk.ask("set_provider", { provider: config.provider, config: changed });
    say(true);
    saved(next);
  });
  const problems = (save.error?.problems ?? []).map(placed).filter((one) => !mended.includes(one.place));
  const placeless = save.error && !save.error.problems.map(placed).every(({ place }) => place in config.config);
  return (
    <form
      class="stc-stack"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        save.act();
      }}
    >
      {values.verify_tls === false && (
        <Note tone="warn">
          {t(
            "Certificates are not checked: anybody on the way can read and change what is sent, your token and your data included.",
          )}
        </Note>
      )}
      <Problems.Provider value={{ problems, mend: (place) => mend([...mended, place]) }}>
        <div class="stc-grid">
          {config.fields.map((field) => (
            <Setting
              key={field.name}
              field={field}
              value={values[field.name]}
              change={(value) => {
                say(false);
                edit((old) => ({ ...old, [field.name]: value }));
              }}
            />
          ))}
        </div>
      </Problems.Provider>
      {save.error && (placeless || save.error.problems.length === 0) && <ErrorBanner error={save.error} />}
      <Saving label={t("Save the settings")} disabled={save.busy || Object.keys(changed).length === 0} said={said} />
    </form>
  );
}

interface SettingProps {
  field: SettingField;
  value: unknown;
  change: (value: unknown) => void;
}

function Setting({ field, value, change }: SettingProps) {
  const t = useWords();
  const { name, kind, choices } = field;
  const standard = t("Default: {value}", { value: told(field.default) });
  const hint = same(value, field.default) ? field.doc : `${field.doc} ${standard}`;
  const shared = { label: name, place: name, hint };
  if (kind === "flag") return <Flag {...shared} value={value === true} change={change} />;
  if (choices.length > 0) {
    const options = choices.map((choice): [string, string] => [choice, choice]);
    return <Choice {...shared} value={String(value)} change={change} options={options} />;
  }
  if (kind === "list") {
    const lines = Array.isArray(value) && value.length < 2 ? value[0] : value;
    return <Input {...shared} kind="lines" value={lines} change={(next) => change(listed(next))} />;
  }
  if (kind === "number")
    return <Input {...shared} kind="number" value={value} change={(next) => change(next ?? null)} />;
  return <Input {...shared} value={value} change={(text) => change(String(text).trim())} />;
}

function Flag({
  label,
  hint,
  value,
  change,
}: { label: string; hint: string; value: boolean } & Pick<SettingProps, "change">) {
  return (
    <label class="stc-check">
      <input type="checkbox" checked={value} onChange={(event) => change(event.currentTarget.checked)} />
      <span>
        {label}
        <span class="stc-faint stc-flag-hint">{hint}</span>
      </span>
    </label>
  );
}

/** What a box of lines holds, as the list that the lab takes. */
function listed(value: unknown): unknown[] {
  if (value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map((line) => String(line).trim());
}

function told(value: unknown): string {
  if (value === "" || value === null || (Array.isArray(value) && value.length === 0)) return "—";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

/** A problem's path may begin with where the settings were: their name is what counts. */
function placed(problem: Problem): Placed {
  return { ...problem, place: problem.path.replace(/^settings\./, "").split(/[.[]/)[0] };
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
