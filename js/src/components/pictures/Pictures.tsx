/** What the model paints, step by step. */

import type { ComponentChildren } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import type { JobView } from "../../contract";
import { useLab } from "../../hooks";
import { count, useWords } from "../../words";
import { Button } from "../atoms";
import { useSeen } from "../seen";
import { Frame } from "./Frame";
import type { Picture, Stage } from "./series";
import { Sources } from "./sources";
import { useStages } from "./useStages";

export function Pictures({ job }: { job: JobView }) {
  return <PicturesOf key={job.job_id} job={job} />;
}

function PicturesOf({ job }: { job: JobView }) {
  const t = useWords();
  const { desk } = useLab();
  const root = useRef<HTMLDivElement>(null);
  const stages = useStages(job, useSeen(root));
  const sources = useMemo(() => new Sources(desk, job.job_id), [desk, job.job_id]);
  /** The step that a person chose; null: the newest, whichever it is. */
  const [chosen, setChosen] = useState<number | null>(null);
  const [comparing, setComparing] = useState(false);
  if (!stages?.length) {
    return (
      <div class="stc-pictures" ref={root}>
        <p class="stc-pictures-empty stc-faint" role="status">
          {stages ? emptyWord() : t("Looking for pictures")}
        </p>
      </div>
    );
  }
  const found = stages.findIndex((stage) => stage.step === chosen);
  const at = found < 0 ? stages.length - 1 : found;
  const choose = (index: number) => setChosen(index >= stages.length - 1 ? null : stages[index].step);
  return (
    <div class="stc-pictures" ref={root}>
      <Stepper
        stages={stages}
        at={at}
        choose={choose}
        newest={found < 0}
        follow={(newest) => setChosen(newest ? null : stages[at].step)}
      >
        <Button
          kind="quiet"
          aria-pressed={comparing}
          disabled={stages.length < 2}
          onClick={() => setComparing(!comparing)}
        >
          {t("Beside the first")}
        </Button>
      </Stepper>
      <ul class="stc-pictures-grid" data-comparing={comparing || undefined}>
        {stages[at].pictures.map((picture) => (
          <li key={picture.index}>
            <Shot picture={picture} first={comparing ? sameIn(stages[0], picture) : undefined} sources={sources} />
          </li>
        ))}
      </ul>
    </div>
  );

  function emptyWord(): string {
    if (job.is_terminal) return t("This run painted no validation images.");
    return t("No validation images yet. A run with a validation prompt paints some as it goes.");
  }
}

/** The picture of the same prompt at another step; null: there is none. */
function sameIn(stage: Stage, { index }: Picture): Picture | null {
  return stage.pictures.find((picture) => picture.index === index) ?? null;
}

interface ShotProps {
  picture: Picture;
  /** Shown beside it; undefined: nothing is. */
  first: Picture | null | undefined;
  sources: Sources;
}

function Shot({ picture, first, sources }: ShotProps) {
  const t = useWords();
  const labelOf = (one: Picture | null) => (one ? t("Step {step}", { step: count(one.step) }) : t("None"));
  return (
    <figure class="stc-picture">
      <div class="stc-picture-pair">
        {first !== undefined && <Frame picture={first} sources={sources} label={labelOf(first)} />}
        <Frame picture={picture} sources={sources} label={first === undefined ? "" : labelOf(picture)} />
      </div>
      <figcaption title={picture.prompt}>
        {picture.prompt || t("Prompt {number}", { number: picture.index + 1 })}
      </figcaption>
    </figure>
  );
}

interface StepperProps {
  stages: Stage[];
  at: number;
  choose: (index: number) => void;
  /** The newest is on show, and the next one will be. */
  newest: boolean;
  follow: (newest: boolean) => void;
  children: ComponentChildren;
}

function Stepper({ stages, at, choose, newest, follow, children }: StepperProps) {
  const t = useWords();
  const step = t("Step {step}", { step: count(stages[at].step) });
  const last = stages.length - 1;
  return (
    <div class="stc-pictures-tools">
      <Button kind="quiet" aria-label={t("Earlier pictures")} disabled={at === 0} onClick={() => choose(at - 1)}>
        ←
      </Button>
      <input
        type="range"
        min={0}
        max={last}
        step={1}
        value={at}
        disabled={last === 0}
        aria-label={t("Step")}
        aria-valuetext={step}
        onInput={(event) => choose(Number(event.currentTarget.value))}
        onKeyDown={(event) => event.stopPropagation()}
      />
      <Button kind="quiet" aria-label={t("Later pictures")} disabled={at === last} onClick={() => choose(at + 1)}>
        →
      </Button>
      <span class="stc-pictures-step stc-number">
        <strong>{step}</strong>{" "}
        <span class="stc-faint">{t("{at} of {total}", { at: count(at + 1), total: count(stages.length) })}</span>
      </span>
      <Button kind="quiet" aria-pressed={newest} onClick={() => follow(!newest)}>
        {t("Newest")}
      </Button>
      {children}
    </div>
  );
}
