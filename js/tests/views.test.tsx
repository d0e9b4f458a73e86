/** Views as a host mounts them: a job alone, the list with the job chosen in it, and a word on the connection above. */

import { expect, onTestFinished, test } from "vitest";
import { page } from "vitest/browser";
import "../src/style/index.css";
import { mount } from "../src/app";
import { Jobs } from "../src/components/Jobs";
import { MemoryModel } from "../src/hosts/memory";
import type { State } from "../src/model";
import { sampleJob } from "./samples";

const JOB = sampleJob();

function mounted(state: Partial<State>): MemoryModel {
  const model = new MemoryModel(state, {
    job: () => JOB,
    jobs: () => ({ jobs: [JOB], total: 1 }),
    providers: () => [],
  });
  const element = document.body.appendChild(document.createElement("div"));
  const unmount = mount(model, element, Jobs);
  onTestFinished(() => {
    unmount();
    element.remove();
  });
  return model;
}

const name = page.getByRole("heading", { name: JOB.config_name });
const back = page.getByRole("button", { name: "All jobs" });

test("a job alone has no way to others", async () => {
  mounted({ view: "job", job_id: JOB.job_id });
  await expect.element(name).toBeVisible();
  expect(back.query()).toBeNull();
});

test("a job that was chosen in the list has a way back to it", async () => {
  const model = mounted({ view: "jobs", job_id: JOB.job_id });
  await expect.element(name).toBeVisible();
  await back.click();
  await expect.element(page.getByRole("table")).toBeVisible();
  expect([model.get("job_id"), model.saved]).toEqual(["", 1]);
});

test("what is wrong with the connection is said above any view, until it is well again", async () => {
  const model = mounted({ view: "job", job_id: JOB.job_id, connection: "lost" });
  await expect.element(page.getByText(/^The server does not answer/)).toBeVisible();
  model.set("connection", "denied");
  await expect.element(page.getByRole("alert")).toHaveTextContent("Your login has expired");
  model.set("connection", "live");
  await expect.poll(() => page.getByRole("alert").query()).toBeNull();
  await expect.element(name).toBeVisible();
});
