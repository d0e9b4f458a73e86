/** The list: what it asks, what it shows, and that it can be used with the keyboard alone. */

import { expect, test, vi } from "vitest";
import { page, userEvent } from "vitest/browser";
import { JobList } from "../src/components/jobs/JobList";
import type { JobView } from "../src/contract";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import type { JobsQuery } from "../src/verbs";
import { CATALOGUES } from "./catalogues";
import { NO_PROGRESS, sampleJob, sampleProvider, sampleProviders } from "./samples";
import { stage } from "./stage";

const cats = sampleJob();
const dogs = sampleJob({ job_id: "250301-1111111111", config_name: "dogs", status: "completed", provider: "cloud-x" });

function lab(jobs: JobView[] = [cats, dogs], answers: Answers = {}): MemoryModel {
  return new MemoryModel(
    {},
    {
      jobs: () => ({ jobs, total: jobs.length }),
      providers: () => [
        sampleProvider(),
        sampleProvider({ id: "cloud-x", name: "Cloud X" }),
        sampleProvider({ id: "soon", name: "Not yet", coming_soon: true }),
      ],
      ...answers,
    },
  );
}

const questions = (model: MemoryModel) =>
  model.asked.filter((one) => one.verb === "jobs").map((one) => one.args as JobsQuery);
const last = (model: MemoryModel) => expect.poll(() => questions(model).at(-1));
const names = () => [...document.querySelectorAll(".stc-jobs-open")].map((name) => name.textContent);

test("a row says what the job is, where, how far and for how much", async () => {
  stage(lab([sampleJob({ provider: "cloud-x", job_type: "cloud", cost_usd: 0.42 })]), <JobList choose={() => {}} />, {
    width: 1300,
  });
  const row = page.getByRole("row", { name: "cats" });
  for (const words of ["Running", "Cloud X cloud", "200 / 400", "0.1234", "$0.42", "50 s"]) {
    await expect.element(row).toHaveTextContent(words);
  }
  await expect.element(row.getByRole("progressbar")).toHaveAttribute("aria-valuenow", "50");
});

test("on a narrow card the steps are whole: the bar gives way", async () => {
  const progress = { ...cats.progress, step: 4667, total_steps: 6000 };
  const { element, find } = stage(lab([sampleJob({ progress })]), <JobList choose={() => {}} />, { width: 226 });
  await expect.element(page.getByText("4,667 / 6,000")).toBeVisible();
  const cell = find("td.stc-jobs-progress");
  expect(cell.scrollWidth).toBeLessThanOrEqual(cell.clientWidth);
  expect(element.scrollWidth).toBeLessThanOrEqual(226);
});

test("a job that waits for its user is told apart, and a row says why another one waits", async () => {
  const queued = sampleJob({ status: "queued", progress: NO_PROGRESS });
  const waiting = "the answer to its start was lost; the run is being looked for";
  const lost = sampleJob({ ...queued, job_id: "250301-2222222222", config_name: "lost", waiting });
  stage(lab([{ ...queued, uncertain: true }, lost]), <JobList choose={() => {}} />, { width: 300 });
  const asks = page.getByRole("row", { name: "cats" });
  await expect.element(asks).toHaveTextContent("Needs you");
  await expect.element(asks).not.toHaveTextContent("Queued");
  await expect.element(page.getByRole("row", { name: "lost" })).toHaveTextContent("Queued");
  await expect.element(page.getByTitle(waiting)).toBeVisible();
});

test("a card says what a job has cost, however narrow", async () => {
  const jobs = [sampleJob({ job_type: "cloud", cost_usd: 0.42 }), sampleJob({ ...dogs, cost_usd: 0.001 })];
  const list = <JobList choose={() => {}} />;
  const { element, show } = stage(lab(jobs), list);
  for (const width of [226, 300, 430, 520]) {
    element.style.width = `${width}px`;
    show(list);
    await expect.element(page.getByText("$0.42")).toBeVisible();
    await expect.element(page.getByText("under $0.01")).toBeVisible();
    expect(element.scrollWidth).toBeLessThanOrEqual(width);
  }
});

test("in longer words nothing of the list is cut off", async () => {
  for (const catalogue of CATALOGUES) {
    const model = lab([cats], { providers: () => sampleProviders() });
    model.set("catalogue", catalogue);
    const { element, find } = stage(model, <JobList choose={() => {}} />, { width: 275 });
    await expect.poll(() => element.querySelectorAll(".stc-jobs-sync").length).toBe(1);
    const sync = find(".stc-jobs-sync .stc-button");
    expect(element.scrollWidth).toBeLessThanOrEqual(275);
    expect(sync.getBoundingClientRect().right).toBeLessThanOrEqual(element.getBoundingClientRect().right);
  }
});

test("the first question, and one for each filter; typing asks once", async () => {
  const model = lab();
  stage(model, <JobList choose={() => {}} />);
  await last(model).toEqual({ sort: "-created_at", limit: 50, offset: 0 });
  await page.getByText("Any state").click();
  await page.getByRole("checkbox", { name: "Failed" }).click();
  await page.getByRole("checkbox", { name: "Running" }).click();
  await last(model).toMatchObject({ states: ["running", "failed"] });
  await page.getByRole("combobox", { name: "Provider" }).selectOptions("Cloud X");
  await last(model).toMatchObject({ provider: "cloud-x" });
  expect(document.querySelector("option[value=soon]")).toBeNull();
  const before = questions(model).length;
  await userEvent.type(page.getByRole("searchbox"), " dog ");
  await last(model).toEqual({
    sort: "-created_at",
    limit: 50,
    offset: 0,
    states: ["running", "failed"],
    provider: "cloud-x",
    text: "dog",
  });
  expect(questions(model).length).toBe(before + 1);
  await page.getByRole("button", { name: "Clear" }).click();
  await last(model).toEqual({ sort: "-created_at", limit: 50, offset: 0 });
  await expect.element(page.getByRole("searchbox")).toHaveValue("");
});

test("a column's head sorts, again turns it round, and says so", async () => {
  const model = lab();
  stage(model, <JobList choose={() => {}} />, { width: 1300 });
  const expected: [string, string, string][] = [
    ["Name", "config_name", "-config_name"],
    ["State", "status", "-status"],
    ["Provider", "provider", "-provider"],
    ["Loss", "loss", "-loss"],
    ["Cost", "-cost_usd", "cost_usd"],
    ["Time", "-duration_seconds", "duration_seconds"],
    ["Changed", "-updated_at", "updated_at"],
    ["Age", "-created_at", "created_at"],
  ];
  for (const [head, first, second] of expected) {
    const column = page.getByRole("columnheader", { name: head });
    await column.getByRole("button").click();
    await last(model).toMatchObject({ sort: first, offset: 0 });
    await column.getByRole("button").click();
    await last(model).toMatchObject({ sort: second });
    await expect.element(column).toHaveAttribute("aria-sort", second.startsWith("-") ? "descending" : "ascending");
  }
});

test("where it is narrow, the order is chosen from a list", async () => {
  const model = lab();
  stage(model, <JobList choose={() => {}} />, { width: 300 });
  await page.getByRole("combobox", { name: "Order" }).selectOptions("Lowest loss first");
  await last(model).toMatchObject({ sort: "loss" });
  expect(document.documentElement.scrollWidth).toBeLessThanOrEqual(window.innerWidth);
});

test("pages: the true total, the next one, other lengths, and back from a page that is gone", async () => {
  let total = 10_000;
  const model = lab([], {
    jobs: ({ limit = 0, offset = 0 }) => ({
      jobs: [...Array(Math.max(0, Math.min(limit, total - offset))).keys()].map((at) =>
        sampleJob({ job_id: `j${offset + at}`, config_name: `job ${offset + at}` }),
      ),
      total,
    }),
  });
  stage(model, <JobList choose={() => {}} />);
  await expect.element(page.getByText("1–50 of 10,000")).toBeVisible();
  await expect.element(page.getByRole("button", { name: "Previous" })).toBeDisabled();
  await page.getByRole("button", { name: "Next" }).click();
  await last(model).toMatchObject({ limit: 50, offset: 50 });
  await expect.element(page.getByText("51–100 of 10,000")).toBeVisible();
  await page.getByRole("combobox", { name: "Rows" }).selectOptions("100");
  await last(model).toMatchObject({ limit: 100, offset: 0 });
  await expect.poll(() => names().length).toBe(100);
  await page.getByRole("button", { name: "Next" }).click();
  await last(model).toMatchObject({ limit: 100, offset: 100 });
  total = 60;
  model.news();
  await last(model).toMatchObject({ limit: 100, offset: 0 });
  await expect.element(page.getByText("1–60 of 60")).toBeVisible();
});

test("news are shown; an older answer that comes late is not", async () => {
  const jobs = [cats, dogs];
  const model = lab(jobs, { jobs: () => ({ jobs: [...jobs], total: 2 }) });
  stage(model, <JobList choose={() => {}} />);
  await expect.poll(names).toEqual(["cats", "dogs"]);
  jobs[0] = { ...cats, version: 8, progress: { ...cats.progress, step: 201 } };
  model.news({ job_id: cats.job_id, version: 8 });
  await expect.element(page.getByText("201 / 400")).toBeVisible();
  jobs[0] = { ...cats, version: 6, progress: { ...cats.progress, step: 3 } };
  model.news();
  await expect.poll(() => questions(model).length).toBe(3);
  await expect.element(page.getByText("201 / 400")).toBeVisible();
});

test("no jobs, no job that matches, an error with a way to try again", async () => {
  let answer: "none" | "refused" = "none";
  const model = lab([], {
    jobs: () => {
      if (answer === "refused") throw new Refusal("http_500", "the store cannot be read", "look at the server's log");
      return { jobs: [], total: 0 };
    },
  });
  stage(model, <JobList choose={() => {}} />);
  await expect.element(page.getByText("No jobs yet.")).toBeVisible();
  await userEvent.type(page.getByRole("searchbox"), "x");
  await expect.element(page.getByText("No job matches.")).toBeVisible();
  await page.getByRole("button", { name: "Show all jobs" }).click();
  await expect.element(page.getByText("No jobs yet.")).toBeVisible();
  answer = "refused";
  model.news();
  await expect.element(page.getByRole("alert")).toHaveTextContent("the store cannot be read");
  answer = "none";
  await page.getByRole("button", { name: "Try again" }).click();
  await expect.poll(() => document.querySelector("[role=alert]")).toBeNull();
});

test("while jobs are on their way their place is held", async () => {
  const { element } = stage(lab([], { jobs: () => new Promise(() => undefined) }), <JobList choose={() => {}} />);
  await expect.element(page.getByText("Loading jobs…")).toBeInTheDocument();
  expect(element.querySelector(".stc-jobs-body")?.clientHeight).toBeGreaterThanOrEqual(280);
  expect(element.querySelector(".stc-jobs-body")?.getAttribute("aria-busy")).toBe("true");
});

test("by keyboard alone: to a row, along the rows, open one, cancel one", async () => {
  const choose = vi.fn();
  const cancelled: string[] = [];
  const jobs = [cats, dogs];
  const model = lab(jobs, {
    jobs: () => ({ jobs: [...jobs], total: 2 }),
    cancel: ({ job_id }) => {
      cancelled.push(job_id);
      jobs[0] = { ...cats, cancel_requested: true, version: 8 };
      return jobs[0];
    },
  });
  stage(model, <JobList choose={choose} />);
  await expect.poll(names).toEqual(["cats", "dogs"]);
  for (let tries = 0; tries < 30 && document.activeElement?.textContent !== "cats"; tries += 1) {
    await userEvent.keyboard("{Tab}");
  }
  await userEvent.keyboard("{ArrowDown}{Enter}");
  expect(choose).toHaveBeenCalledWith(dogs.job_id);
  await userEvent.keyboard("{ArrowUp}{Tab}{Enter}");
  await expect.element(page.getByRole("button", { name: "Keep it" })).toHaveFocus();
  await userEvent.keyboard("{Escape}");
  await expect.element(page.getByRole("button", { name: "Cancel cats" })).toHaveFocus();
  await userEvent.keyboard("{Enter}");
  await expect.element(page.getByRole("button", { name: "Keep it" })).toHaveFocus();
  await userEvent.keyboard("{Tab}{Enter}");
  await expect.element(page.getByRole("button", { name: "Cancelling…" })).toHaveFocus();
  expect(cancelled).toEqual([cats.job_id]);
  await userEvent.keyboard("{Enter}");
  expect(page.getByRole("button", { name: "End the run" }).query()).toBeNull();
});

test("a cancel that comes too late says why", async () => {
  const late = () => {
    throw new Refusal("illegal_transition", "job 250301-0a1b2c3d4e is already completed");
  };
  stage(lab([cats], { cancel: late }), <JobList choose={() => {}} />);
  await page.getByRole("button", { name: "Cancel cats" }).click();
  await page.getByRole("button", { name: "End the run" }).click();
  await expect.element(page.getByRole("alert")).toHaveTextContent("is already completed");
});

test("a name with HTML in it is text", async () => {
  const name = '<img src=x onerror="window.owned=1">';
  stage(lab([sampleJob({ config_name: name })]), <JobList choose={() => {}} />);
  await expect.element(page.getByRole("button", { name, exact: true })).toHaveTextContent(name);
  expect(document.querySelector(".stc img")).toBeNull();
});

test("runs that were started elsewhere are asked for where a provider is elsewhere, and what came is said", async () => {
  const away = sampleProvider({ id: "cloud-x", name: "Cloud X", remote: true });
  const model = lab([cats], {
    providers: () => [sampleProvider(), away],
    sync: () => ({ synced: 2, updated: 5, jobs: [] }),
  });
  stage(model, <JobList choose={() => {}} />);
  await page.getByRole("button", { name: "Import runs started elsewhere" }).click();
  await expect.element(page.getByText("New here: 2. Known already: 5.")).toBeVisible();
  expect(questions(model).length).toBeGreaterThan(1);
  stage(lab(), <JobList choose={() => {}} />);
  await expect.element(page.getByRole("row", { name: "dogs" })).toBeVisible();
  expect(page.getByRole("button", { name: "Import runs started elsewhere" }).elements()).toHaveLength(1);
});
