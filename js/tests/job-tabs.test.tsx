/** Timeline, files and plan of a job. */

import { expect, test, vi } from "vitest";
import { page } from "vitest/browser";
import { Files } from "../src/components/job/Files";
import { PlanTab } from "../src/components/job/PlanTab";
import { sentence } from "../src/components/job/sentences";
import { Timeline } from "../src/components/job/Timeline";
import type { ChargeView, EventView, OutputView } from "../src/contract";
import { MemoryModel, Refusal } from "../src/hosts/memory";
import { translator } from "../src/words";
import { sampleCloudPlan, sampleEvent, sampleJob, sampleOutput, samplePlan, sampleProvider } from "./samples";
import { stage } from "./stage";

const ID = sampleJob().job_id;
const t = translator({});

/** Each kind of `simpletuner_lab/core/event.py` with the data that the lab puts into it. */
const TOLD: [string, EventView["data"], string][] = [
  [
    "created",
    { files: 96, bytes: 512_000, withheld: 2, datasets: 1 },
    "Submitted. Files: 96, 512.0 kB. Left where they are: 2.",
  ],
  ["consented", { digest: "d1", entry: "panel", mode: "ask" }, "You agreed to this plan in the side panel."],
  ["consented", { digest: "d1", entry: "airflow", mode: "ask" }, "You agreed to this plan."],
  ["consented", { digest: "d1", entry: "cli", mode: "allow" }, "Your settings allow every plan, this one too."],
  ["state", { from: "pending", to: "uploading", attempt: 1 }, "The data are packed."],
  ["state", { from: "uploading", to: "queued", attempt: 1 }, "Ready to run."],
  ["state", { from: "queued", to: "running", attempt: 1 }, "The run has begun."],
  ["state", { from: "running", to: "queued", attempt: 2 }, "The run was interrupted; attempt 2 goes on."],
  ["state", { from: "running", to: "completed", attempt: 2 }, "Completed."],
  ["state", { from: "running", to: "cancelled", attempt: 2 }, "Cancelled."],
  ["state", { from: "running", to: "failed", attempt: 1, code: "out_of_memory", message: "no memory" }, "no memory"],
  [
    "sent",
    { to: "https://a.example", bytes: 500_000, files: 96, sha256: "e" },
    "Sent to https://a.example. Files: 96, 500.0 kB.",
  ],
  [
    "sent",
    { to: "https://a.example", bytes: 250_000, files: 96, sha256: "e", problem: "it broke off" },
    "it broke off",
  ],
  ["discarded", { data_left: false }, "Copies of the data that were made for the run are gone."],
  ["discarded", { data_left: true }, "It could not be shown that the provider's copy of the data is gone."],
  ["started", { attempt: 2 }, "Attempt 2 was started."],
  ["resumed", { step: 100 }, "Training goes on from step 100."],
  ["stage", { stage: "load_base", label: "loading tiny" }, "Loading the base model"],
  ["stage", { stage: "polish", label: "polishing" }, "polishing"],
  [
    "checkpoint",
    { step: 100, key: "c", bytes: 3_000_000, sha256: "s", delivered: true, verified: true },
    "Checkpoint at step 100, 3.0 MB, has arrived and was verified.",
  ],
  [
    "checkpoint",
    { step: 100, key: "c", bytes: 3_000_000, sha256: "s", delivered: false },
    "Checkpoint at step 100, 3.0 MB.",
  ],
  [
    "checkpoint",
    { step: 100, key: "c", bytes: 1, sha256: "s", verified: false, problem: "a file is missing" },
    "Checkpoint at step 100: a file is missing",
  ],
  ["image", { step: 50, index: 0, prompt: "a cat", key: "k" }, "Validation image at step 50: a cat"],
  [
    "artifact",
    { sha256: "f", files: 4, bytes: 6_600_000 },
    "The result has arrived and was verified. Files: 4, 6.6 MB.",
  ],
  ["claimed", { waited_s: 200.4 }, "It has a slot, after 3 min 20 s."],
  ["prioritised", { priority: 40, previous: 10, entry: "cli" }, "Its priority is 40 now; it was 10."],
  ["pushed", { what: "result", to: "hub:ann/neon", revision: "c0" }, "The result has arrived at hub:ann/neon."],
  ["pushed", { what: "checkpoint", to: "s3://b/x/" }, "A checkpoint has arrived at s3://b/x/."],
  ["pushed", { what: "result", to: "hub:ann/neon", problem: "not looked at" }, "not looked at"],
  ["spend_limit", { code: "spend_limit", message: "it has passed $5.00 a job" }, "it has passed $5.00 a job"],
  ["cancel_requested", {}, "Cancel was asked for."],
  ["problem", { code: "provider_unavailable", message: "it does not answer" }, "it does not answer"],
];

test.each(TOLD)("%s %o is told as a sentence", (kind, data, words) => {
  expect(sentence(t, sampleEvent(1, kind, data)).words).toBe(words);
});

test("a kind that is not known here is told by its name and data", () => {
  expect(sentence(t, sampleEvent(1, "moved", { to: "mars" }))).toEqual({ words: "moved", proof: "to mars" });
});

const lines = () =>
  [...document.querySelectorAll(".stc-job-timeline > li")].map((line) => line.children[2].textContent);

test("events come in order, once, with only the new ones asked for", async () => {
  const events = [
    sampleEvent(3, "created", { files: 1, bytes: 1, withheld: 0 }, 0),
    sampleEvent(5, "started", { attempt: 1 }, 65),
  ];
  const model = new MemoryModel(
    {},
    { events: ({ after, limit = 0 }) => events.filter((one) => one.seq > after).slice(0, Math.min(limit, 1)) },
  );
  stage(model, <Timeline job={sampleJob()} />);
  await expect.poll(() => lines().length).toBe(2);
  await expect.element(page.getByText("+1 min 5 s")).toBeVisible();
  events.push(sampleEvent(9, "cancel_requested"));
  model.news({ job_id: ID });
  await expect
    .poll(lines)
    .toEqual([
      "Submitted. Files: 1, 1 bytes. Left where they are: 0.",
      "Attempt 1 was started.",
      "Cancel was asked for.",
    ]);
  const after = model.asked.map((one) => (one.args as { after: number }).after);
  expect(new Set(after)).toEqual(new Set([0, 3, 5, 9]));
});

test("a stage is told once an attempt, the images of a step as one", async () => {
  const events = [
    sampleEvent(1, "started", { attempt: 1 }),
    sampleEvent(2, "stage", { stage: "train", label: "" }),
    sampleEvent(3, "stage", { stage: "validate", label: "" }),
    sampleEvent(4, "image", { step: 50, index: 0, prompt: "a cat", key: "k" }),
    sampleEvent(5, "image", { step: 50, index: 1, prompt: "a dog", key: "k" }),
    sampleEvent(6, "stage", { stage: "train", label: "" }),
    sampleEvent(7, "started", { attempt: 2 }),
    sampleEvent(8, "stage", { stage: "train", label: "" }),
  ];
  stage(new MemoryModel({}, { events: ({ after }) => (after ? [] : events) }), <Timeline job={sampleJob()} />);
  await expect
    .poll(lines)
    .toEqual([
      "Attempt 1 was started.",
      "Training",
      "Making validation images",
      "Validation images at step 50: 2",
      "Attempt 2 was started.",
      "Training",
    ]);
});

test("files: none yet, then each with its size, verified, and more on request", async () => {
  const files = { job_id: ID, folder: "/home/ann/out", verified: false, outputs: [] as OutputView[] };
  const model = new MemoryModel({}, { outputs: () => files });
  const { show } = stage(model, <Files job={sampleJob()} />);
  await expect.element(page.getByText("No file has arrived yet.")).toBeVisible();
  const outputs = [...Array(250).keys()].map((at) => sampleOutput(`f${at}`, { bytes: 1500 }));
  const full = new MemoryModel({}, { outputs: () => ({ ...files, verified: true, outputs }) });
  show(null);
  stage(full, <Files job={sampleJob({ status: "completed" })} />);
  await expect.element(page.getByText(/^Verified:/)).toBeVisible();
  await expect.element(page.getByText("/home/ann/out")).toBeVisible();
  expect(document.querySelectorAll(".stc-job-files > li").length).toBe(50);
  expect(document.querySelector(".stc-job-files > li")?.textContent).toContain("1.5 kB");
  await page.getByRole("button", { name: "Show all 250 files" }).click();
  await expect.poll(() => document.querySelectorAll(".stc-job-files > li").length).toBe(250);
});

test("a download goes to the address that the lab names, unless that would run something", async () => {
  const clicked: string[] = [];
  const click = vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    clicked.push(`${this.download} ${this.href}`);
  });
  const src: Record<string, string> = {
    "a/lora.safetensors": "https://lab.example/x",
    "b.png": "javascript:alert(1)",
    "c.png": "",
  };
  const model = new MemoryModel(
    {},
    {
      outputs: () => ({
        job_id: ID,
        folder: "/out",
        verified: false,
        outputs: Object.keys(src).map((path) => sampleOutput(path)),
      }),
      picture: ({ path }) => {
        if (!src[path]) throw new Refusal("output_not_found", "it is gone");
        return { src: src[path] };
      },
    },
  );
  stage(model, <Files job={sampleJob()} />);
  for (const path of Object.keys(src)) await page.getByRole("button", { name: `Download ${path}` }).click();
  await expect.poll(() => [...document.querySelectorAll("[role=alert]")].map((one) => one.textContent)).toHaveLength(2);
  await expect.element(page.getByText("it is gone")).toBeVisible();
  expect(clicked).toEqual(["lora.safetensors https://lab.example/x"]);
  click.mockRestore();
});

test("the plan is asked for once, and shown as it was agreed to", async () => {
  const model = new MemoryModel(
    {},
    {
      detail: () => ({ job: sampleJob(), plan: samplePlan(), events: [], deliveries: [], charges: [] }),
      providers: () => [sampleProvider()],
    },
  );
  stage(model, <PlanTab job={sampleJob()} />);
  await expect.element(page.getByText(samplePlan().digest)).toBeVisible();
  await expect.element(page.getByRole("button", { name: "Copy the configuration" })).toBeVisible();
  model.news({ job_id: ID });
  await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  expect(model.asked.filter((one) => one.verb === "detail").length).toBe(1);
});

test("what each run has cost, and all of them, stands before the plan of what ran elsewhere", async () => {
  const charge: ChargeView = {
    ...{ attempt: 1, hardware: "gpu-l40s", metered_s: 1620, cost_usd: 1.58, usd_per_hour: 3.51 },
    ...{ as_of: "2026-01-05", final: true },
  };
  const charges = [charge, { ...charge, attempt: 2, metered_s: 60, cost_usd: null, final: false }];
  const told = { job: sampleJob(), plan: sampleCloudPlan(), events: [], deliveries: [], charges };
  const answers = { detail: () => told, providers: () => [sampleProvider()] };
  const { all, show } = stage(new MemoryModel({}, answers), <PlanTab job={sampleJob({ cost_usd: null })} />);
  const cells = () => all(".stc-table tr").map((row) => [...row.children].map((cell) => cell.textContent?.trim()));
  await expect.poll(cells).toEqual([
    ["Attempt", "Hardware", "Time", "Cost"],
    ["1", "gpu-l40s", "27 min", "$1.58"],
    ["2", "gpu-l40s", "1 min", "— so far"],
    ["All", "—"],
  ]);
  show(<PlanTab job={sampleJob({ cost_usd: 1.64 })} />);
  await expect.poll(() => cells().at(-1)).toEqual(["All", "$1.64"]);
});
