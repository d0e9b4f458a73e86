/** The side panel: its tabs, the way of a new job through it, and its settings. */

import { expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { Panel } from "../src/components/Panel";
import type { ConsentMode } from "../src/contract";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import type { State } from "../src/model";
import { openJob, openTab } from "../src/panel";
import { sampleCurve, sampleJob, samplePlan, sampleProviders, samplePublishing, sampleRequest } from "./samples";
import { stage } from "./stage";

function lab(state: Partial<State> = {}, answers: Answers = {}): MemoryModel {
  const job = sampleJob({ status: "completed" });
  return new MemoryModel(state, {
    jobs: () => ({ jobs: [job], total: 1 }),
    job: () => job,
    destination: () => ({ kind: "home" }),
    publishing: () => samplePublishing(),
    receiving: () => ({ enabled: false, endpoint_url: "", bucket: "outputs", outputs_dir: "/home/ann/out" }),
    detail: () => ({ job, plan: samplePlan(), events: [], deliveries: [], charges: [] }),
    metrics: () => sampleCurve(10),
    events: () => [],
    outputs: () => ({ job_id: job.job_id, folder: "/outputs", verified: true, outputs: [] }),
    log: () => ({ job_id: job.job_id, logs: "", offset: 0, next_offset: 0, ended: true }),
    providers: () => sampleProviders(),
    consent: () => ({ consent: "ask" }),
    plan: () => samplePlan(),
    submit: () => job,
    ...answers,
  });
}

const tab = (name: string) => page.getByRole("tab", { name, exact: true });

test("a job opens from the list, and there is a way back", async () => {
  const model = lab();
  stage(model, <Panel />, { width: 300 });
  await expect.element(tab("Jobs")).toHaveAttribute("aria-selected", "true");
  await page.getByText("cats").first().click();
  await expect.poll(() => model.get("job_id")).toBe(sampleJob().job_id);
  openJob(model, "");
  await expect.element(page.getByText("cats").first()).toBeVisible();
  expect(model.saved).toBeGreaterThan(0);
});

test("tabs are turned by arrows, and the one that is chosen is kept in the model", async () => {
  const model = lab();
  stage(model, <Panel />);
  await tab("Jobs").click();
  await userEvent.keyboard("{ArrowRight}{ArrowRight}{ArrowRight}");
  await expect.element(tab("Settings")).toHaveFocus();
  expect(model.get("tab")).toBe("settings");
});

test("a submitted job opens; the next form is a new one", async () => {
  const model = lab({ tab: "new", request: sampleRequest() });
  stage(model, <Panel />);
  await page.getByRole("button", { name: "Train here" }).click();
  await expect.element(tab("Jobs")).toHaveAttribute("aria-selected", "true");
  await expect.element(tab("Jobs")).toHaveFocus();
  expect([model.get("job_id"), model.get("request"), model.get("digest")]).toEqual([sampleJob().job_id, null, ""]);
  const first = (model.asked.find(({ verb }) => verb === "submit")?.args as { key: string } | undefined)?.key;
  await tab("New job").click();
  await expect.element(page.getByRole("button", { name: "Review the plan" })).toBeVisible();
  expect(model.get("job_id")).toBe("");
  expect(first).toBeTruthy();
  expect(model.get("key")).not.toBe(first);
});

test("what is typed in the form stays while another tab is chosen and a job is looked at", async () => {
  const model = lab({ tab: "new" });
  const { all } = stage(model, <Panel />);
  const steps = page.getByLabelText("Steps", { exact: true });
  await steps.fill("1e3");
  await tab("Jobs").click();
  await expect.element(steps).not.toBeVisible();
  expect(all('[role="tabpanel"]').map(({ hidden }) => hidden)).toEqual([false, true]);
  await page.getByText("cats").first().click();
  await expect.poll(() => model.get("job_id")).not.toBe("");
  await tab("New job").click();
  await expect.element(steps).toBeVisible();
  await expect.element(steps).toHaveValue("1e3");
  const [shown, ...rest] = all('[role="tabpanel"]');
  expect(rest).toEqual([]);
  await expect.element(tab("New job")).toHaveAttribute("aria-controls", shown.id);
  expect(shown.getAttribute("aria-labelledby")).toBe(tab("New job").element().id);
  await expect.element(tab("Jobs")).not.toHaveAttribute("aria-controls");
});

test("a command from outside turns to the form", async () => {
  const model = lab({ job_id: sampleJob().job_id });
  stage(model, <Panel />);
  openTab(model, "new");
  await expect.element(page.getByRole("button", { name: "Review the plan" })).toBeVisible();
});

test("consent is set by the lab, and what it refuses is not shown as set", async () => {
  let mode: ConsentMode = "ask";
  let refuse = false;
  const model = lab(
    { tab: "settings" },
    {
      consent: () => ({ consent: mode }),
      set_consent: (args) => {
        if (refuse) throw new Refusal("http_403", "you may not change it");
        mode = args.mode;
        return { consent: mode };
      },
    },
  );
  stage(model, <Panel />, { width: 300 });
  const radio = (name: string) => page.getByRole("radio", { name });
  await expect.element(radio("Ask")).toBeChecked();
  await radio("Never").click();
  await expect.element(page.getByText(/^Saved\./)).toBeVisible();
  await expect.element(radio("Never")).toBeChecked();
  expect(mode).toBe("never");
  refuse = true;
  await radio("Allow").click();
  await expect.element(page.getByRole("alert")).toHaveTextContent("you may not change it");
  await expect.element(radio("Never")).toBeChecked();
});

test("providers: which are ready, and what the others need", async () => {
  const { all } = stage(lab({ tab: "settings" }), <Panel />);
  await expect
    .poll(() => all(".stc-provider-state").map((state) => state.textContent))
    .toEqual(["Ready", "Ready", "Needs attention", "Coming soon"]);
  await expect.element(page.getByText("set ELSEWHERE_TOKEN")).toBeVisible();
});
