/** Spending in the side panel: where limits stand, what was spent, and how limits are changed. */

import { expect, test } from "vitest";
import { page } from "vitest/browser";
import { Spend } from "../src/components/spend/Spend";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import type { LimitState, LimitsView, SpendView } from "../src/money";
import { CATALOGUES } from "./catalogues";
import { stage } from "./stage";

function spend(more: Partial<SpendView> = {}): SpendView {
  const by_day = Array.from({ length: 30 }, (_, index) => ({
    day: `2026-03-${String(index + 1).padStart(2, "0")}`,
    cost_usd: index % 7 === 0 ? 0 : (index * 37) % 11,
    runs: index % 7 === 0 ? 0 : 2,
    unpriced: 0,
  }));
  return {
    days: 30,
    time_zone: "Europe/Berlin",
    since: "2026-03-01",
    total_usd: 41.5,
    runs: 9,
    unpriced: 1,
    by_day,
    by_provider: [
      { name: "replicate", cost_usd: 41.5, runs: 8, unpriced: 0 },
      { name: "mine", cost_usd: 0, runs: 1, unpriced: 1 },
    ],
    by_user: [],
    by_job: [
      {
        job_id: "260301-aa",
        config_name: "a cat in the snow",
        provider: "replicate",
        owner: "me",
        cost_usd: 40,
        runs: 7,
        unpriced: 0,
        metered_s: 41_000,
      },
      {
        job_id: "260302-bb",
        config_name: "",
        provider: "replicate",
        owner: "me",
        cost_usd: 1.5,
        runs: 1,
        unpriced: 0,
        metered_s: 1500,
      },
      {
        job_id: "260303-cc",
        config_name: "dogs",
        provider: "mine",
        owner: "me",
        cost_usd: 0,
        runs: 1,
        unpriced: 1,
        metered_s: 60,
      },
    ],
    limits: [],
    ...more,
  };
}

function state(more: Partial<LimitState> = {}): LimitState {
  return {
    scope: "all",
    amount_usd: 50,
    period: "monthly",
    action: "block",
    spent_usd: 20,
    committed_usd: 5,
    since: "2026-03-01",
    until: "2026-04-01",
    with_job_usd: 25,
    assumed_usd: 0,
    assumed_runs: 0,
    ...more,
  };
}

function limits(states: LimitState[]): LimitsView {
  return {
    limits: {
      time_zone: "UTC",
      total: { enabled: true, amount_usd: 50, period: "monthly", action: "block" },
      providers: {},
      job: { amount_usd: null, action: "block" },
    },
    states,
  };
}

function lab(answers: Answers = {}): MemoryModel {
  return new MemoryModel({}, { spend: () => spend(), limits: () => limits([state()]), ...answers });
}

const last = (model: MemoryModel, verb: string) => model.asked.filter((one) => one.verb === verb).pop()?.args;

test("what was spent stands there in all, by day, provider and job", async () => {
  const model = lab();
  const { all } = stage(model, <Spend />, { width: 420 });
  await expect.element(page.getByText("$41.50", { exact: true }).first()).toBeVisible();
  await expect.element(page.getByText("for 9 runs since 2026-03-01 (Europe/Berlin)")).toBeVisible();
  await expect.element(page.getByText("Runs of which the cost is not known: 1")).toBeVisible();
  expect(all(".stc-days-bars > div")).toHaveLength(30);
  await expect.element(page.getByText("260302-bb, deleted")).toBeVisible();
  await expect.element(page.getByRole("row", { name: /dogs 1 min Not known/ })).toBeVisible();
  await page.getByRole("button", { name: "a cat in the snow" }).click();
  expect([model.get("tab"), model.get("job_id")]).toEqual(["jobs", "260301-aa"]);
});

test("where nothing was spent no day has cost a cent", async () => {
  const by_day = spend().by_day.map((day) => ({ ...day, cost_usd: 0 }));
  stage(lab({ spend: () => spend({ by_day, total_usd: 0 }) }), <Spend />);
  await expect.element(page.getByText("The dearest day: $0.00")).toBeVisible();
});

test("other days are asked for", async () => {
  const model = lab();
  stage(model, <Spend />);
  await page.getByLabelText("Of which days").selectOptions("90");
  await expect.poll(() => last(model, "spend")).toEqual({ days: 90 });
});

test("a limit says how far it is used, in words too", async () => {
  const { find } = stage(lab(), <Spend />, { width: 420 });
  await expect.element(page.getByText("$20.00 of $50.00")).toBeVisible();
  await expect.element(page.getByText("$5.00 more may go to jobs under way; begins again on 2026-04-01")).toBeVisible();
  expect(find(".stc-limit [role=progressbar]").ariaValueNow).toBe("50");
  expect(find(".stc-limit").dataset.standing).toBe("well");
});

test("what is only assumed of what is spent is told apart", async () => {
  const states = [state({ assumed_usd: 1.1, assumed_runs: 2 })];
  const { find } = stage(lab({ limits: () => limits(states) }), <Spend />, { width: 420 });
  const words = "$1.10 of what is spent is assumed. Runs whose cost nobody told: 2";
  await expect.element(page.getByText(words)).toBeVisible();
  expect(find(".stc-limit").dataset.standing).toBe("well");
});

test("near it, past it, and where it is not known, a limit warns", async () => {
  const states = [
    state({ scope: "replicate", spent_usd: 36, committed_usd: 5 }),
    state({ scope: "all", spent_usd: 49, committed_usd: 5 }),
    state({ scope: "mine", spent_usd: 60, committed_usd: 0, action: "warn" }),
    state({ scope: "other", spent_usd: null, committed_usd: 0 }),
  ];
  const { all } = stage(lab({ limits: () => limits(states) }), <Spend />, { width: 420, dark: true });
  await expect.element(page.getByText("More than 80 % of this limit is spent or promised.")).toBeVisible();
  await expect.element(page.getByText(/no job that costs money begins before 2026-04-01/)).toBeVisible();
  await expect.element(page.getByText("This limit is passed. It only warns: jobs go on.")).toBeVisible();
  await expect.element(page.getByText(/a limit that blocks lets no job begin/)).toBeVisible();
  expect(all(".stc-limit").map((one) => one.dataset.standing)).toEqual(["near", "over", "over", "unknown"]);
});

test("only what was changed is sent, and what is refused stands at its field", async () => {
  let refuse = true;
  const model = lab({
    set_limits: () => {
      if (refuse)
        throw new Refusal("invalid_request", "a spend limit is at least 0", "", [
          { path: "total.amount_usd", message: "is below 0", hint: "" },
        ]);
      return limits([state({ amount_usd: 80 })]);
    },
  });
  stage(model, <Spend />, { width: 420 });
  await page.getByText("Change the limits").click();
  const save = page.getByRole("button", { name: "Save the limits" });
  await expect.element(save).toBeDisabled();
  const amount = page.getByLabelText("US dollars", { exact: true });
  await amount.fill("-1");
  await save.click();
  await expect.element(amount).toHaveAccessibleDescription(/is below 0/);
  refuse = false;
  await amount.fill("80");
  await page.getByLabelText("US dollars for one job").fill("2.5");
  await save.click();
  await expect.element(page.getByText("Saved. They are in force now.")).toBeVisible();
  expect(last(model, "set_limits")).toEqual({
    changes: { total: { amount_usd: 80 }, job: { amount_usd: 2.5 } },
  });
  await expect.element(save).toBeDisabled();
});

test("an error of the lab is told, with a way on", async () => {
  let broken = true;
  const model = lab({
    spend: () => {
      if (broken) throw new Refusal("store_unusable", "the database is busy", "try again");
      return spend({ runs: 0, unpriced: 0, by_job: [], by_provider: [], total_usd: 0 });
    },
  });
  stage(model, <Spend />);
  await expect.element(page.getByText("the database is busy")).toBeVisible();
  broken = false;
  await page.getByRole("button", { name: "Try again" }).click();
  await expect.element(page.getByText("Nothing was paid for in these days.")).toBeVisible();
});

test("a sum says of how many runs it does not know the cost", async () => {
  const by_provider = [
    { name: "mycloud", cost_usd: 1, runs: 4, unpriced: 1 },
    { name: "mine", cost_usd: 0, runs: 1, unpriced: 1 },
    { name: "replicate", cost_usd: 2, runs: 2, unpriced: 0 },
  ];
  stage(lab({ spend: () => spend({ by_provider }) }), <Spend />, { width: 300 });
  await expect.element(page.getByRole("row", { name: "mycloud Cost not known: 1 4 $1.00" })).toBeVisible();
  await expect.element(page.getByRole("row", { name: "mine 1 Not known" })).toBeVisible();
  await expect.element(page.getByRole("row", { name: "replicate 2 $2.00", exact: true })).toBeVisible();
});

test("the limit of one job stands with the others", async () => {
  let job: LimitsView["limits"]["job"] = { amount_usd: 5, action: "block" };
  const answer = () => {
    const told = limits([]);
    return { ...told, limits: { ...told.limits, job } };
  };
  const model = lab({ limits: answer });
  stage(model, <Spend />);
  const item = page.getByRole("listitem").filter({ hasText: "One job" });
  await expect.element(item).toHaveTextContent("One jobup to $5.00A job that reaches it is ended at a checkpoint.");
  expect(page.getByText(/No limit is set/).query()).toBeNull();
  job = { amount_usd: 5, action: "warn" };
  model.news();
  await expect.element(item).toHaveTextContent("It only warns: a job that reaches it goes on.");
  job = { amount_usd: null, action: "warn" };
  model.news();
  await expect.element(page.getByText(/No limit is set/)).toBeVisible();
});

test("a comma is a decimal point unless it may divide thousands", async () => {
  const read: unknown[] = [];
  const set_limits: Answers["set_limits"] = ({ changes }) => {
    read.push(changes.total?.amount_usd);
    return limits([]);
  };
  stage(lab({ set_limits }), <Spend />);
  await page.getByText("Change the limits").click();
  const amount = page.getByLabelText("US dollars", { exact: true });
  for (const typed of ["1,50", "12,5", "0,125", "0,0001", "1,500", "1,000,000", "1.500,00", "1.50"]) {
    await amount.fill(typed);
    await expect.element(amount).toHaveValue(typed);
    await page.getByRole("button", { name: "Save the limits" }).click();
    await expect.element(page.getByText("Saved. They are in force now.")).toBeVisible();
  }
  expect(read).toEqual([1.5, 12.5, 0.125, 0.0001, "1,500", "1,000,000", "1.500,00", 1.5]);
});

test("what a limit may do is never cut off, in any language", async () => {
  const pen = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
  const ARROW_PX = 22;
  for (const catalogue of CATALOGUES) {
    const model = lab();
    model.set("catalogue", catalogue);
    const { element, find } = stage(model, <Spend />);
    await expect.poll(() => element.querySelectorAll(".stc-limit-form").length).toBe(1);
    find<HTMLDetailsElement>(".stc-limit-form").open = true;
    for (const width of [276, 300, 430, 600, 900]) {
      element.style.width = `${width}px`;
      for (const select of element.querySelectorAll<HTMLSelectElement>(".stc-limit-form select")) {
        const { font, paddingLeft, paddingRight } = getComputedStyle(select);
        pen.font = font;
        const room = select.clientWidth - Number.parseFloat(paddingLeft) - Number.parseFloat(paddingRight) - ARROW_PX;
        const longest = [...select.options].map((option) => pen.measureText(option.text).width);
        expect(Math.max(...longest), `${select.textContent} at ${width} px`).toBeLessThanOrEqual(room);
      }
    }
  }
});
