/** Rows do not move under a pointer or a focus, nor on a later page; and 500 of them are quick. */

import { expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { JobList } from "../src/components/jobs/JobList";
import type { JobView } from "../src/contract";
import { MemoryModel } from "../src/hosts/memory";
import type { JobsQuery } from "../src/verbs";
import { sampleJob, sampleProvider } from "./samples";
import { stage } from "./stage";

/** A store of jobs, newest first. */
function store(count: number) {
  const jobs: JobView[] = [...Array(count).keys()].map((at) => job(count - at));
  const model = new MemoryModel(
    {},
    {
      jobs: ({ limit = 0, offset = 0 }) => ({ jobs: jobs.slice(offset, offset + limit), total: jobs.length }),
      providers: () => [sampleProvider()],
    },
  );
  return { jobs, model };
}

function job(number: number): JobView {
  return sampleJob({ job_id: `j${number}`, config_name: `job ${number}` });
}

const names = () => [...document.querySelectorAll(".stc-jobs-open")].map((name) => name.textContent);
const asked = (model: MemoryModel) => model.asked.filter((one) => one.verb === "jobs");
const away = () => userEvent.hover(page.getByRole("searchbox"));

test("new jobs come in by themselves, but not under a pointer", async () => {
  const { jobs, model } = store(3);
  stage(model, <JobList choose={() => {}} />);
  await away();
  await expect.poll(names).toEqual(["job 3", "job 2", "job 1"]);
  jobs.unshift(job(4));
  model.news();
  await expect.poll(names).toEqual(["job 4", "job 3", "job 2", "job 1"]);
  await userEvent.hover(page.getByRole("button", { name: "job 2", exact: true }));
  jobs.unshift(job(5));
  jobs[4] = { ...job(1), status: "completed", is_active: false, version: 8 };
  model.news();
  await expect.element(page.getByRole("button", { name: "Show new jobs: 1" })).toBeVisible();
  expect(names()).toEqual(["job 4", "job 3", "job 2", "job 1"]);
  await expect.element(page.getByRole("row", { name: "job 1" })).toHaveTextContent("Completed");
  await away();
  await expect.poll(names).toEqual(["job 5", "job 4", "job 3", "job 2", "job 1"]);
});

test("on the second page rows stay, alive, until the latest order is asked for", async () => {
  const { jobs, model } = store(120);
  stage(model, <JobList choose={() => {}} />);
  await page.getByRole("button", { name: "Next" }).click();
  await expect.poll(() => names()[0]).toBe("job 70");
  const before = names();
  const top = document.querySelector(".stc-jobs-row")?.getBoundingClientRect().top;
  jobs.unshift(job(122), job(121));
  model.news();
  await expect.element(page.getByRole("button", { name: "Show new jobs: 2" })).toBeVisible();
  expect(names()).toEqual(before);
  expect(document.querySelector(".stc-jobs-row")?.getBoundingClientRect().top).toBe(top);
  await expect.poll(() => asked(model).at(-1)?.args as JobsQuery).toMatchObject({ offset: 50, limit: 52 });
  const lastOfPage = jobs.findIndex((one) => one.job_id === "j21");
  jobs[lastOfPage] = { ...jobs[lastOfPage], status: "failed", is_active: false, version: 8 };
  model.news();
  await expect.element(page.getByRole("row", { name: "job 21" })).toHaveTextContent("Failed");
  await page.getByRole("button", { name: "Show new jobs: 2" }).click();
  await expect.poll(() => names()[0]).toBe("job 72");
  expect(names().length).toBe(50);
});

test("a job that is deleted elsewhere stays in its place, without its button", async () => {
  const { jobs, model } = store(3);
  stage(model, <JobList choose={() => {}} />);
  await userEvent.hover(page.getByRole("button", { name: "job 3", exact: true }));
  jobs.splice(1, 1);
  model.news();
  await expect.poll(() => document.querySelectorAll("[data-gone]").length).toBe(1);
  expect(names()).toEqual(["job 3", "job 2", "job 1"]);
  expect(page.getByRole("button", { name: "Cancel job 2" }).query()).toBeNull();
  await away();
  await expect.poll(names).toEqual(["job 3", "job 1"]);
});

test("500 rows of 10,000 are painted at once; one that changes draws one row", async () => {
  const { jobs, model } = store(10_000);
  stage(model, <JobList choose={() => {}} />);
  await expect.poll(() => names().length).toBe(50);
  await page.getByRole("combobox", { name: "Rows" }).selectOptions("500");
  await expect.poll(() => names().length, { interval: 10 }).toBe(500);
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const touched = new Set<Element | null | undefined>();
  const watch = new MutationObserver((changes) => {
    for (const change of changes) touched.add(change.target.parentElement?.closest("tr"));
  });
  watch.observe(document.querySelector("tbody") as Element, { subtree: true, characterData: true, childList: true });
  jobs[7] = { ...jobs[7], version: 8, progress: { ...jobs[7].progress, step: 201 } };
  model.news();
  const row = document.querySelectorAll(".stc-jobs-row")[7];
  await expect.poll(() => row.textContent, { interval: 20, timeout: 5_000 }).toContain("201 / 400");
  watch.disconnect();
  expect([...touched]).toEqual([row]);
});
