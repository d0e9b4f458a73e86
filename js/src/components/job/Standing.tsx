/** How far the run is: one bar, what it is busy with, and figures that keep their places (SPEC J9). */

import type { JobView } from "../../contract";
import { bytes, count, duration, figure, type Translate, useWords } from "../../words";
import { Bar, needsYou } from "../atoms";
import { useNow } from "../clock";
import { stageWord } from "./sentences";

/** `page`: where the job's provider says how things stand there; empty: nowhere. */
export function Standing({ job, page }: { job: JobView; page: string }) {
  const t = useWords();
  const { stage_done, stage_total } = job.progress;
  const part = share(job);
  const counted = job.status === "running" && stage_total > 0;
  return (
    <section class="stc-job-standing" aria-label={t("Progress")}>
      <div class="stc-job-stage">
        <strong>{standing(t, job)}</strong>
        <span class="stc-number stc-faint">
          {counted ? (
            t("{done} of {total}", { done: count(stage_done), total: count(stage_total) })
          ) : (
            <Waits job={job} page={page} />
          )}
        </span>
        <span class="stc-number">{part === null ? "" : t("{percent} %", { percent: percent(part) })}</span>
      </div>
      <Bar part={part ?? 0} state={job.status} label={t("Progress")} />
      <Figures job={job} />
    </section>
  );
}

/** Why it does not go on. */
function Waits({ job, page }: { job: JobView; page: string }) {
  const t = useWords();
  if (!job.waiting) return null;
  return (
    <>
      {job.waiting}{" "}
      {page && (
        <a class="stc-link" href={page} target="_blank" rel="noreferrer">
          {t("Status page")}
        </a>
      )}
    </>
  );
}

/** Share of the steps; before the first one, of what the run is busy with; null where neither is known. */
function share(job: JobView): number | null {
  const { step, total_steps, stage_done, stage_total } = job.progress;
  if (total_steps > 0) return step / total_steps;
  return stage_total > 0 ? stage_done / stage_total : null;
}

/** Never 100 before the last step. */
function percent(part: number): number {
  return Math.floor(Math.min(1, part) * 100);
}

function standing(t: Translate, job: JobView): string {
  if (needsYou(job)) return t("Waiting for your decision");
  if (job.queue_position) return t("Waiting for its turn");
  switch (job.status) {
    case "pending":
      return t("Packing the data");
    case "uploading":
      return job.job_type === "cloud" ? t("Sending the data") : t("Handing over the data");
    case "queued":
      return job.attempt > 1 ? t("Waiting to go on") : t("Waiting to begin");
    case "running":
      return stageWord(t, job.progress.stage, job.progress.stage_label) || t("Starting");
    case "completed":
      return t("Finished; the result is here");
    case "failed":
      return t("Ended by an error");
    case "cancelled":
      return t("Ended on request");
  }
}

function Figures({ job }: { job: JobView }) {
  const t = useWords();
  const { progress } = job;
  const steps = { step: count(progress.step), total: count(progress.total_steps) };
  return (
    <dl class="stc-job-figures">
      <Figure name={t("Step")}>{progress.total_steps > 0 ? t("{step} / {total}", steps) : "—"}</Figure>
      <Figure name={t("Epoch")}>{progress.total_steps > 0 ? figure(progress.epoch) : "—"}</Figure>
      <Figure name={t("Loss")}>{figure(progress.loss)}</Figure>
      <Figure name={t("Learning rate")}>{figure(progress.lr)}</Figure>
      <Figure name={t("Images / s")}>{figure(progress.images_per_s)}</Figure>
      <Figure name={t("Memory")}>{progress.memory_mb ? bytes(t, progress.memory_mb * 1e6) : "—"}</Figure>
      <Elapsed job={job} />
      <Figure name={t("Left")}>{job.is_terminal ? "—" : duration(t, progress.eta_s)}</Figure>
    </dl>
  );
}

function Figure({ name, children }: { name: string; children: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="stc-number">{children}</dd>
    </div>
  );
}

/** Goes on each second while the run does. */
function Elapsed({ job }: { job: JobView }) {
  const t = useWords();
  const running = job.status === "running" && job.started_at !== null;
  const now = useNow(running ? 1000 : null);
  const since = running ? (now - Date.parse(job.started_at ?? "")) / 1000 : 0;
  const seconds = running ? Math.max(job.duration_seconds ?? 0, since) : job.duration_seconds;
  return <Figure name={t("Elapsed")}>{duration(t, seconds)}</Figure>;
}
