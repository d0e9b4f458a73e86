/** The form: a request to fill in, and what was wrong with it, each at its field and all together. */

import type { RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { LabError } from "../../ask";
import type { Destination, ProviderView, SubmitRequest } from "../../contract";
import { useWords } from "../../words";
import { Button } from "../atoms";
import { Remember } from "../destination/Default";
import { DestinationFields } from "../destination/DestinationFields";
import { DataSets } from "./DataSets";
import type { Entry } from "./draft";
import { Check, Problems, Reading, Section } from "./fields";
import { Providers } from "./Providers";
import { type Placed, placed } from "./problems";
import { AllOptions, Training } from "./Training";

interface FormProps {
  draft: SubmitRequest;
  providers: ProviderView[] | null;
  chosen: ProviderView | undefined;
  /** Where models go unless the request says otherwise. */
  fallback: Destination;
  error: LabError | null;
  /** Seconds that the plan has been asked for; null: it is not. */
  reading: number | null;
  /** Whether the person who looks asked for what is shown, so that the focus may follow. */
  asked: boolean;
  change: (part: Partial<SubmitRequest>) => void;
  review: () => void;
}

export function Form({ draft, providers, chosen, fallback, error, reading, asked, change, review }: FormProps) {
  const t = useWords();
  const form = useRef<HTMLFormElement>(null);
  const { all, done, mend } = useProblems(error, draft.dataloader_config);
  const [broken, setBroken] = useState<Record<string, boolean>>({});
  const tell = useCallback((place: string, is: boolean) => setBroken((old) => ({ ...old, [place]: is })), []);
  const anyBroken = Object.values(broken).some(Boolean);
  const unusable = chosen && !chosen.configured;
  const send = (event: Event) => {
    event.preventDefault();
    if (!anyBroken && !unusable) review();
  };
  return (
    <Problems.Provider value={{ problems: all.filter((problem) => !done(problem)), mend }}>
      <form class="stc-form" ref={form} noValidate onSubmit={send} aria-label={t("New training job")}>
        <h2 tabIndex={-1} data-place="form">
          {t("New training job")}
        </h2>
        {error && <Summary error={error} problems={all} done={done} form={form} focus={asked} />}
        <Providers draft={draft} providers={providers} chosen={chosen} change={change} />
        <fieldset class="stc-plain" disabled={broken.dataloader}>
          <DataSets entries={draft.dataloader_config} change={(dataloader_config) => change({ dataloader_config })} />
          <Check
            label={t("Take out of the pictures what they tell beside their pixels: place, camera, comments")}
            value={draft.strip_exif}
            change={(strip_exif) => change({ strip_exif })}
          />
        </fieldset>
        <fieldset class="stc-plain" disabled={broken.config}>
          <Training draft={draft} change={change} />
        </fieldset>
        <Section title={t("Where the model goes")}>
          <DestinationFields
            value={draft.destination ?? fallback}
            change={(destination) => {
              mend("destination.");
              change({ destination });
            }}
          />
          <Remember value={draft.destination ?? fallback} />
        </Section>
        <AllOptions draft={draft} change={change} broken={tell} />
        <div class="stc-review">
          <div class="stc-row">
            <Button kind="primary" type="submit" disabled={anyBroken || unusable}>
              {t("Review the plan")}
            </Button>
            <span class="stc-faint" role="status">
              {anyBroken
                ? t("Mend the JSON under “All options” first.")
                : reading !== null && <Reading seconds={reading} />}
            </span>
          </div>
          <p class="stc-faint">
            {t("The plan says what would be sent, where to and for how much. Nothing is sent by looking at it.")}
          </p>
        </div>
      </form>
    </Problems.Provider>
  );
}

/** An error's problems by place, and which of them were edited since. A place that ends in a dot means all below it. */
function useProblems(error: LabError | null, entries: Entry[]) {
  const [edited, setEdited] = useState<string[]>([]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: indices count in the data sets that were asked about
  const all = useMemo(() => placed(error?.problems ?? [], entries), [error]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another error begins anew
  useEffect(() => setEdited([]), [error]);
  const done = ({ place }: Placed) =>
    edited.some((one) => place === one || (one.endsWith(".") && place.startsWith(one)));
  const mend = (place: string) => {
    if (all.length > 0 && !edited.includes(place)) setEdited([...edited, place]);
  };
  return { all, done, mend };
}

interface SummaryProps {
  error: LabError;
  problems: Placed[];
  done: (problem: Placed) => boolean;
  form: RefObject<HTMLFormElement | null>;
  focus: boolean;
}

/** All that is wrong, each entry leading to its field. What was edited since stays, so that nothing moves, but faint. */
function Summary({ error, problems, done, form, focus }: SummaryProps) {
  const t = useWords();
  const box = useRef<HTMLDivElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: once for each error
  useEffect(() => {
    if (focus) box.current?.focus();
  }, [error]);
  const [names, setNames] = useState<Record<string, string>>({});
  // biome-ignore lint/correctness/useExhaustiveDependencies: once for each error, when its fields are there
  useLayoutEffect(() => {
    const nameOf = ({ place }: Placed) => fieldAt(form, place)?.dataset.label ?? "";
    setNames(Object.fromEntries(problems.map((problem) => [problem.path, nameOf(problem)])));
  }, [error]);
  const jump = (place: string) => {
    const field = fieldAt(form, place);
    const folded = field?.closest("details");
    if (folded) folded.open = true;
    field?.focus();
  };
  return (
    <div class="stc-banner" role="alert" tabIndex={-1} ref={box} data-code={error.code}>
      <div>
        <strong>{problems.length > 1 ? t("There is something to mend") : error.message}</strong>
        {problems.length === 0 && error.hint && <div>{error.hint}</div>}
        {problems.length > 0 && (
          <ul class="stc-summary">
            {problems.map((problem) => (
              <li key={`${problem.path} ${problem.message}`} data-done={done(problem) || undefined}>
                {problem.place ? (
                  <button type="button" class="stc-link" onClick={() => jump(problem.place)}>
                    {names[problem.path] || problem.path}
                  </button>
                ) : (
                  <code>{problem.path}</code>
                )}{" "}
                {problem.message}
                {problem.hint && ` (${problem.hint})`}
              </li>
            ))}
          </ul>
        )}
      </div>
    </div>
  );
}

function fieldAt(form: RefObject<HTMLFormElement | null>, place: string): HTMLElement | null {
  return form.current?.querySelector<HTMLElement>(`[data-place="${place}"]`) ?? null;
}
