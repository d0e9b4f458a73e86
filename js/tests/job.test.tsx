/** One job: how it stands, why it waits or failed, its end, and that nothing older or foreign is shown. */

import { expect, test, vi } from "vitest";
import { page, userEvent } from "vitest/browser";
import { JobPanel } from "../src/components/job/JobPanel";
import type { JobView } from "../src/contract";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import type { State } from "../src/model";
import { NO_PROGRESS, sampleEvent, sampleJob, samplePlan, sampleProvider, sampleProviders } from "./samples";
import { stage } from "./stage";

const ID = sampleJob().job_id;

/** A lab with one job, which a test may put another in the place of. */
function lab(job: JobView, answers: Answers = {}, state: Partial<State> = {}) {
  const held = { job };
  const model = new MemoryModel(state, {
    job: () => held.job,
    providers: () => [sampleProvider()],
    metrics: () => ({ job_id: ID, total: 2, step: [1, 2], loss: [0.5, 0.4], lr: [1e-4, 1e-4], grad_norm: [1, 1] }),
    events: () => [],
    log: ({ offset }) => ({ job_id: ID, logs: "", offset, next_offset: offset, ended: false }),
    outputs: () => ({ job_id: ID, folder: "/out", verified: false, outputs: [] }),
    detail: () => ({ job: held.job, plan: samplePlan(), events: [], deliveries: [], charges: [] }),
    ...answers,
  });
  return { model, held };
}

function missing(): never {
  throw new Refusal("job_not_found", `there is no job ${ID}`, "list the jobs");
}

const figureOf = (name: string) =>
  [...document.querySelectorAll(".stc-job-figures > div")].find((one) => one.children[0].textContent === name)
    ?.children[1].textContent;

test("how far it is, in figures", async () => {
  const { model } = lab(sampleJob({ attempt: 2, cost_usd: 0.42 }));
  stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByRole("heading", { name: "cats" })).toBeVisible();
  const shown = ["Step", "Epoch", "Loss", "Learning rate", "Images / s", "Memory", "Left"].map(figureOf);
  expect(shown).toEqual(["200 / 400", "8.33", "0.1234", "1.00e-4", "4", "5.1 GB", "50 s"]);
  const head = page.getByRole("banner").or(page.getByRole("article"));
  for (const words of ["This machine", "CPU, 16 cores", "Attempt 2", "Cost so far: $0.42", ID, "Training", "50 %"]) {
    await expect.element(head).toHaveTextContent(words);
  }
});

test("what it is busy with before the first step, and why it waits, where figures do not jump", async () => {
  const caching = { ...NO_PROGRESS, stage: "cache", stage_label: "encoding images", stage_done: 12, stage_total: 96 };
  const { model, held } = lab(sampleJob({ progress: caching }));
  const { find } = stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByText("Encoding images and captions")).toBeVisible();
  await expect.element(page.getByText("12 of 96")).toBeVisible();
  const top = find(".stc-job-figures").getBoundingClientRect().top;
  const waiting = "goes on from step 200: the machine was taken away";
  held.job = sampleJob({ status: "queued", attempt: 2, waiting, version: 8 });
  model.news({ job_id: ID });
  await expect.element(page.getByText(waiting)).toBeVisible();
  expect(find(".stc-job-figures").getBoundingClientRect().top).toBe(top);
});

test("why it failed: message, hint, code, and the way to the log", async () => {
  const error = { code: "out_of_memory", message: "CUDA out of memory", hint: "lower train_batch_size" };
  const { model } = lab(sampleJob({ status: "failed", error, uncertain: true }));
  stage(model, <JobPanel job_id={ID} />);
  const wrong = page.getByRole("region", { name: "What is wrong" });
  for (const words of Object.values(error)) await expect.element(wrong).toHaveTextContent(words);
  await expect.element(page.getByText(/did not say whether this run was started/)).toBeVisible();
  await wrong.getByRole("button", { name: "Open the log" }).click();
  await expect.element(page.getByRole("tab", { name: "Logs" })).toHaveAttribute("aria-selected", "true");
});

test("an uncertain start waits for a decision, each after one more question", async () => {
  const error = { code: "uncertain", message: "whether a run was started cannot be told", hint: "look there" };
  const { model, held } = lab(sampleJob({ status: "queued", error, uncertain: true }), {
    resolve: () => {
      held.job = sampleJob({ status: "queued", version: 8 });
      return held.job;
    },
  });
  stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByText("Waiting for your decision")).toBeVisible();
  await expect.element(page.getByText("Needs you")).toBeVisible();
  expect(page.getByText("Queued").query()).toBeNull();
  await page.getByRole("button", { name: "Give cats up" }).click();
  await page.getByRole("button", { name: "Wait" }).click();
  expect(model.asked.filter((one) => one.verb === "resolve")).toEqual([]);
  await page.getByRole("button", { name: "Send cats again" }).click();
  await page.getByRole("button", { name: "Start a run" }).click();
  await expect.element(page.getByText(/did not say whether this run was started/)).not.toBeInTheDocument();
  const decided = model.asked.filter((one) => one.verb === "resolve").map((one) => one.args);
  expect(decided).toEqual([{ job_id: ID, action: "resend" }]);
});

test("a start whose answer was lost waits for no turn: it has its slot", async () => {
  const waiting = "the answer to its start was lost; the run is being looked for: Replicate answered 500";
  const { model, held } = lab(sampleJob({ status: "queued", progress: NO_PROGRESS, waiting }));
  stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByText("Waiting to begin")).toBeVisible();
  await expect.element(page.getByText(waiting)).toBeVisible();
  held.job = sampleJob({ status: "queued", progress: NO_PROGRESS, queue_position: 2, attempt: 2, version: 8 });
  model.news({ job_id: ID, version: 8 });
  await expect.element(page.getByText("Waiting for its turn")).toBeVisible();
});

test("cancel by keyboard alone", async () => {
  const { model, held } = lab(sampleJob(), {
    cancel: () => {
      held.job = sampleJob({ cancel_requested: true, version: 8 });
      return held.job;
    },
  });
  stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByRole("button", { name: "Cancel cats" })).toBeVisible();
  for (let tries = 0; tries < 20 && document.activeElement?.textContent !== "Cancel"; tries += 1) {
    await userEvent.keyboard("{Tab}");
  }
  await userEvent.keyboard("{Enter}");
  await expect.element(page.getByRole("group", { name: "End this run?" })).toBeVisible();
  await expect.element(page.getByRole("button", { name: "Keep it" })).toHaveFocus();
  await userEvent.keyboard("{Tab}{Enter}");
  await expect.element(page.getByRole("button", { name: "Cancelling…" })).toHaveFocus();
  expect(model.asked.filter((one) => one.verb === "cancel").map((one) => one.args)).toEqual([{ job_id: ID }]);
});

test("delete, with its files, and back to the list", async () => {
  const back = vi.fn();
  const { model } = lab(sampleJob({ status: "completed" }), { delete: () => ({}) });
  stage(model, <JobPanel job_id={ID} back={back} />);
  await page.getByRole("button", { name: "Delete cats" }).click();
  await page.getByRole("checkbox", { name: "Its received files too" }).click();
  await page.getByRole("button", { name: "Delete the job" }).click();
  await expect.poll(() => back.mock.calls.length).toBe(1);
  expect(model.asked.find((one) => one.verb === "delete")?.args).toEqual({ job_id: ID, outputs: true });
  await expect.element(page.getByText(/This job was deleted/)).toBeVisible();
});

test("a delete that is refused says why, and can be left", async () => {
  const refuse = () => {
    throw new Refusal("job_active", "the data are still with the provider", "try again in a moment");
  };
  const { model } = lab(sampleJob({ status: "failed" }), { delete: refuse });
  stage(model, <JobPanel job_id={ID} />);
  await page.getByRole("button", { name: "Delete cats" }).click();
  await page.getByRole("button", { name: "Delete the job" }).click();
  await expect.element(page.getByRole("alert")).toHaveTextContent("the data are still with the provider");
  await page.getByRole("button", { name: "Keep it" }).click();
  expect(page.getByRole("group").query()).toBeNull();
});

test("deleted in another tab: it says so, shows what was known, and offers nothing to do with it", async () => {
  let gone = false;
  const { model } = lab(sampleJob({ status: "completed" }), { job: () => (gone ? missing() : sampleJob()) });
  stage(model, <JobPanel job_id={ID} back={() => {}} />);
  await expect.element(page.getByRole("heading", { name: "cats" })).toBeVisible();
  gone = true;
  model.news({ job_id: ID });
  await expect.element(page.getByText(/This job was deleted/)).toBeVisible();
  await expect.element(page.getByRole("heading", { name: "cats" })).toBeVisible();
  expect(
    page
      .getByRole("button")
      .elements()
      .map((one) => one.textContent),
  ).toEqual(["All jobs", "Copy"]);
});

test("no job chosen, and one that there is not", async () => {
  const { model } = lab(sampleJob(), { job: missing });
  const { show } = stage(model, <JobPanel job_id="" />);
  await expect.element(page.getByText("No job is chosen.")).toBeVisible();
  show(<JobPanel job_id={ID} />);
  await expect.element(page.getByText(`There is no job ${ID}. It may have been deleted.`)).toBeVisible();
});

test("an answer that is older than what is shown is dropped", async () => {
  const { model, held } = lab(sampleJob({ version: 7 }));
  stage(model, <JobPanel job_id={ID} />);
  await expect.poll(() => figureOf("Step")).toBe("200 / 400");
  const asked = () => model.asked.filter((one) => one.verb === "job").length;
  const before = asked();
  held.job = sampleJob({ version: 6, progress: { ...sampleJob().progress, step: 10 } });
  model.news({ job_id: ID });
  await expect.poll(asked).toBe(before + 1);
  await new Promise(requestAnimationFrame);
  expect(figureOf("Step")).toBe("200 / 400");
  held.job = sampleJob({ version: 8, progress: { ...sampleJob().progress, step: 210 } });
  model.news({ job_id: ID });
  await expect.poll(() => figureOf("Step")).toBe("210 / 400");
});

test("the first paint is the saved job, though the lab never answers", () => {
  const never = () => new Promise<never>(() => undefined);
  const model = new MemoryModel({ job: sampleJob(), job_id: ID }, { job: never, providers: never, metrics: never });
  const { element } = stage(model, <JobPanel job_id={ID} />);
  expect(element.querySelector("h2")?.textContent).toBe("cats");
  expect(figureOf("Step")).toBe("200 / 400");
});

test("another job than the saved one is not painted with its facts", async () => {
  const other = sampleJob({ job_id: "250301-ffffffffff", config_name: "dogs" });
  const { model } = lab(other, {}, { job: sampleJob() });
  const { element } = stage(model, <JobPanel job_id={other.job_id} />);
  expect(element.querySelector("h2")).toBeNull();
  await expect.element(page.getByRole("heading", { name: "dogs" })).toBeVisible();
});

test("its end is said once, and only to who was there", async () => {
  const { model, held } = lab(sampleJob());
  const { all } = stage(model, <JobPanel job_id={ID} />);
  const said = () =>
    all("[role=status]")
      .map((one) => one.textContent)
      .filter((words) => words?.includes("has ended"));
  await expect.element(page.getByRole("heading", { name: "cats" })).toBeVisible();
  held.job = sampleJob({ status: "completed", version: 8 });
  model.news({ job_id: ID });
  await expect.poll(said).toEqual(["cats has ended: Completed"]);
  const late = stage(lab(sampleJob({ status: "completed" })).model, <JobPanel job_id={ID} />);
  await expect.poll(() => late.all("h2").length).toBe(1);
  expect(late.all("[role=status]").filter((one) => one.textContent?.includes("has ended"))).toEqual([]);
});

test("an error that is not about this job's being there can be tried again", async () => {
  let broken = true;
  const { model } = lab(sampleJob(), {
    job: () => {
      if (broken) throw new Refusal("http_500", "the store cannot be read");
      return sampleJob();
    },
  });
  stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByRole("alert")).toHaveTextContent("the store cannot be read");
  broken = false;
  await page.getByRole("button", { name: "Try again" }).click();
  await expect.element(page.getByRole("heading", { name: "cats" })).toBeVisible();
  await expect.poll(() => document.querySelector("[role=alert]")).toBeNull();
});

test("HTML in a name, an error or an event is text", async () => {
  const evil = '<img src=x onerror="window.owned=1">';
  const error = { code: evil, message: evil, hint: evil };
  const { model } = lab(sampleJob({ config_name: evil, status: "failed", error }), {
    events: ({ after }) => (after ? [] : [sampleEvent(1, "image", { step: 1, prompt: evil })]),
  });
  const { element } = stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByRole("heading", { name: evil })).toBeVisible();
  await page.getByRole("tab", { name: "Timeline" }).click();
  await expect.element(page.getByRole("listitem").last()).toHaveTextContent(evil);
  expect(element.querySelector("img")).toBeNull();
});

test("what waits for its provider says why, with the way to its status page, and the cost so far", async () => {
  const waiting = "Replicate has not begun it: it waits for a machine";
  const queued = sampleJob({ status: "queued", progress: NO_PROGRESS, waiting, provider: "replicate", cost_usd: 0.12 });
  const { model } = lab(queued, { providers: () => sampleProviders() });
  stage(model, <JobPanel job_id={ID} />, { width: 300 });
  await expect.element(page.getByText(waiting)).toBeVisible();
  const link = page.getByRole("link", { name: "Status page" });
  await expect.element(link).toHaveAttribute("href", "https://status.replicate.example");
  await expect.element(page.getByText("Cost so far: $0.12")).toBeVisible();
});
