/** The plan and the button that agrees to it. */

import { expect, test, vi } from "vitest";
import { page, userEvent } from "vitest/browser";
import { Connected } from "../src/components/Connected";
import { Submit } from "../src/components/submit/Submit";
import type { JobView, PlanView, SubmitRequest } from "../src/contract";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import type { State } from "../src/model";
import type { SpendVerdict } from "../src/money";
import { sampleCloudPlan, sampleJob, samplePlan, sampleProviders, sampleRequest } from "./samples";
import { stage } from "./stage";

function lab(plan: () => PlanView, answers: Answers = {}, state: Partial<State> = {}): MemoryModel {
  return new MemoryModel(
    { request: sampleRequest(), key: "k1", ...state },
    {
      providers: () => sampleProviders(),
      plan,
      jobs: () => ({ jobs: [], total: 0 }),
      submit: () => sampleJob(),
      job: () => sampleJob(),
      ...answers,
    },
  );
}

type Submitted = { request: SubmitRequest; approve: string; key: string };
const submits = (model: MemoryModel) =>
  model.asked.filter((one) => one.verb === "submit").map((one) => one.args as Submitted);
const button = (name: string | RegExp) => page.getByRole("button", { name });
const SEND = "Send 96 files (500.0 kB) to Replicate";
const soon = () => new Promise((done) => setTimeout(done, 50));

test("the button names the act, and one press submits that digest under the model's key", async () => {
  const model = lab(() => sampleCloudPlan());
  stage(model, <Submit />);
  await button(SEND).click();
  await expect.poll(() => model.get("job_id")).toBe(sampleJob().job_id);
  expect(submits(model)).toEqual([{ request: sampleRequest(), approve: sampleCloudPlan().digest, key: "k1" }]);
  expect(model.saved).toBeGreaterThan(0);
  await button("New job").click();
  await expect.element(page.getByRole("heading", { name: "New training job" })).toBeVisible();
  await expect.element(page.getByLabelText("Steps", { exact: true })).toHaveValue("400");
  expect(model.get("job_id")).toBe("");
  expect(model.get("key")).not.toBe("k1");
  expect(model.get("key")).not.toBe("");
});

test("here nothing leaves, and one file is one file", async () => {
  const { element } = stage(
    lab(() => samplePlan()),
    <Submit />,
  );
  await expect.element(button("Train here")).toBeEnabled();
  expect(element.textContent).toContain("Nothing leaves this machine.");
  expect(element.textContent).not.toContain("Stays there");
  stage(
    lab(() => sampleCloudPlan({ total_files: 1, total_bytes: 41 })),
    <Submit />,
  );
  await expect.element(button("Send 1 file (41 bytes) to Replicate")).toBeEnabled();
});

test("a double click is one submit, and a key is made where there is none", async () => {
  let answer: (job: JobView) => void = () => undefined;
  const model = lab(() => samplePlan(), { submit: () => new Promise((resolve) => (answer = resolve)) }, { key: "" });
  stage(model, <Submit />);
  await button("Train here").dblClick();
  await expect.element(button("Train here")).toBeDisabled();
  await expect.element(page.getByText("Submitting…")).toBeVisible();
  answer(sampleJob());
  await expect.poll(() => model.get("job_id")).not.toBe("");
  expect(submits(model)).toHaveLength(1);
  expect(submits(model)[0].key).toBe(model.get("key"));
  expect(model.get("key")).toMatch(/^[0-9a-f]{32}$/);
});

test("everything that leaves, where to, with what and for how much is said", async () => {
  const { element } = stage(
    lab(() => sampleCloudPlan()),
    <Submit />,
  );
  await expect.element(button(SEND)).toBeEnabled();
  const text = element.textContent ?? "";
  for (const fact of [
    "/home/ann/cats",
    "cats/003.png, cats/017.png",
    "With a location3",
    "Provider" + "Replicate",
    "Account" + "ann",
    "https://api.replicate.example",
    "Our trainer 9f3c",
    "storage grant: delivers the model to this lab: this job's folder alone",
    "captions and configuration in the run's metadata, for 30 days",
    "The results folder of this lab",
    "Price$0.39 to $0.70",
    "Time6 min 40 s to 12 min",
    "median of 3 finished runs",
    "L40S: $3.51 per hour, as of 2026-01-05 (source: the price list)",
    sampleCloudPlan().digest,
  ]) {
    expect(text).toContain(fact);
  }
  const order = ["3 photos carry the place", "What leaves this machine", SEND].map((part) => text.indexOf(part));
  expect(order).toEqual([...order].sort((a, b) => a - b));
  const groups = [...element.querySelectorAll(".stc-disclose")].map((one) => one.textContent);
  expect(groups.slice(1, 5)).toEqual([
    "Left out (1): looks like a secret",
    "Left out (1): broken image",
    "Left out (2): not needed by training",
    "Left out (1): hidden",
  ]);
  await button("Left out (1): looks like a secret").click();
  await expect.element(page.getByText("secret: .env is a name that holds credentials")).toBeVisible();
});

test("not known is said, never free", async () => {
  const estimate = { seconds_low: null, seconds_high: null, usd_low: null, usd_high: null, basis: "no run yet" };
  const rate = sampleProviders()[1].hardware[1];
  const { element } = stage(
    lab(() => sampleCloudPlan({ estimate, rate, stays: [], credentials: [] })),
    <Submit />,
  );
  await expect.element(button(SEND)).toBeEnabled();
  const text = element.textContent ?? "";
  expect(text).toContain("PriceNot known");
  expect(text).toContain("TimeNot known");
  expect(text).toContain("A100 80 GB: price not known");
  expect(text).toContain("No credential.");
  expect(text.toLowerCase()).not.toContain("free");
});

test("where nothing may be sent the button is off, with the reason and the way to change it", async () => {
  let consent: PlanView["consent"] = "forbidden";
  const set_consent = vi.fn(() => {
    consent = "needed";
    return { consent: "ask" as const };
  });
  const model = lab(() => sampleCloudPlan({ consent }), { set_consent });
  stage(model, <Submit />);
  await expect.element(button(SEND)).toBeDisabled();
  await expect.element(page.getByText(/nothing may be sent to another machine/)).toBeVisible();
  await button("Ask before each upload").click();
  await expect.element(button(SEND)).toBeEnabled();
  expect(set_consent).toHaveBeenCalledWith({ mode: "ask" });
  expect(submits(model)).toHaveLength(0);
});

function verdict(over: Partial<SpendVerdict> = {}): SpendVerdict {
  const claim = { most_usd: 1.755, least_usd: 0.39, usd_per_hour: 3.51 };
  return { claim, reserved_usd: 1.755, allowed: true, refusal: "", hint: "", warnings: [], limits: [], ...over };
}

test("the most that it may cost stands beside what it is expected to", async () => {
  let spend = verdict();
  const model = lab(() => sampleCloudPlan({ spend }));
  const { element } = stage(model, <Submit />);
  await expect.element(button(SEND)).toBeEnabled();
  expect(element.textContent).toContain("Price$0.39 to $0.70At most$1.75, set aside for itTime");
  const next = (more: Partial<SpendVerdict>) => {
    spend = verdict(more);
    model.set("request", sampleRequest({ config_name: JSON.stringify(more) }));
  };
  next({ reserved_usd: null });
  await expect.poll(() => element.textContent).toContain("At mostNot known");
  next({ reserved_usd: 0, claim: { most_usd: 0, least_usd: 0, usd_per_hour: 0 } });
  await expect.poll(() => element.textContent).not.toContain("At most");
  await expect.element(button(SEND)).toBeEnabled();
});

test("a plan that a spend limit refuses cannot be sent: the button says why, and the limit is asked again", async () => {
  const refusal = "the monthly spend limit of $1.00 would be passed";
  let spend = verdict({ allowed: false, refusal, hint: "raise the limit or let it warn" });
  const model = lab(() => sampleCloudPlan({ spend }));
  stage(model, <Submit />);
  await expect.element(button(SEND)).toBeDisabled();
  await expect.element(button(SEND)).toHaveAccessibleDescription(refusal);
  await expect.element(page.getByText("raise the limit or let it warn")).toBeVisible();
  spend = verdict();
  await button("Check again").click();
  await expect.element(button(SEND)).toBeEnabled();
  await expect.element(button(SEND)).toHaveAccessibleDescription("");
  expect(button("Check again").query()).toBeNull();
  expect(submits(model)).toEqual([]);
});

test("a plan that has changed is shown anew and needs another press", async () => {
  const plans = [
    sampleCloudPlan(),
    sampleCloudPlan({ digest: "e2".repeat(32), total_files: 97, total_bytes: 700_000 }),
  ];
  let now = 0;
  const submit = (args: Submitted | { approve: string | null }) => {
    if (args.approve === plans[1].digest) return sampleJob();
    now = 1;
    throw new Refusal("plan_changed", "approved was d1, but the plan is now e2; nothing was sent");
  };
  const model = lab(() => plans[now], { submit });
  const { element } = stage(model, <Submit />);
  await button(SEND).dblClick();
  await expect.element(page.getByText(/The plan has changed since you read it/)).toBeVisible();
  expect(element.querySelector(".stc-hidden[role=status]")?.textContent).toBe("The plan has changed.");
  expect([...element.querySelectorAll(".stc-changed tbody tr")].map((row) => row.textContent)).toEqual([
    "Files9697",
    "Size500.0 kB700.0 kB",
    "Digestd1d1d1d1d1d1e2e2e2e2e2e2",
  ]);
  await vi.waitFor(() => expect(document.activeElement?.textContent).toBe("Plan: cats"), { timeout: 10_000 });
  await soon();
  expect(submits(model)).toHaveLength(1);
  expect(model.get("digest")).toBe(plans[1].digest);
  await button("Send 97 files (700.0 kB) to Replicate").click();
  await expect.poll(() => model.get("job_id")).not.toBe("");
  expect(submits(model).map((one) => [one.approve, one.key])).toEqual([
    [plans[0].digest, "k1"],
    [plans[1].digest, "k1"],
  ]);
});

test("the second half of a double click agrees to nothing", async () => {
  const model = lab(() => samplePlan());
  const { find } = stage(model, <Submit />);
  await expect.element(button("Train here")).toBeEnabled();
  const train = find('.stc-agree [data-kind="primary"]');
  train.dispatchEvent(new MouseEvent("click", { bubbles: true, detail: 2 }));
  await soon();
  expect(submits(model)).toHaveLength(0);
});

test("a key that has become another job's is renewed, and the press after it is a new job", async () => {
  const submit = ({ key }: { key: string }) => {
    if (key === "k1") throw new Refusal("conflict", "this idempotency key stands for another plan");
    return sampleJob();
  };
  const model = lab(() => samplePlan(), { submit });
  stage(model, <Submit />);
  await button("Train here").click();
  await expect.element(page.getByText("this idempotency key stands for another plan")).toBeVisible();
  await button("Train here").click();
  await expect.poll(() => model.get("job_id")).not.toBe("");
});

test("an answer that is lost leaves key and plan, so that pressing again is the same job", async () => {
  let calls = 0;
  const submit = () => {
    calls += 1;
    if (calls === 1) throw new Refusal("no_answer", "the lab did not answer");
    return sampleJob();
  };
  const model = lab(() => samplePlan(), { submit });
  stage(model, <Submit />);
  await button("Train here").click();
  await expect.element(page.getByText(/cannot start a second one/)).toBeVisible();
  await button("Train here").click();
  await expect.poll(() => model.get("job_id")).not.toBe("");
  expect(submits(model).map((one) => one.key)).toEqual(["k1", "k1"]);
});

test("while the login is gone only the banner says so, and once it is back nothing does", async () => {
  const submit = () => {
    throw new Refusal("http_403", "Forbidden");
  };
  const model = lab(() => samplePlan(), { submit });
  const { element } = stage(
    model,
    <Connected>
      <Submit />
    </Connected>,
  );
  await button("Train here").click();
  await expect.element(page.getByText("Forbidden")).toBeVisible();
  model.set("connection", "denied");
  await expect.element(page.getByText(/^Your login has expired/)).toBeVisible();
  await expect.poll(() => element.textContent).not.toContain("Forbidden");
  model.set("connection", "live");
  await expect.poll(() => element.textContent).not.toContain("Your login has expired");
  await soon();
  expect(element.textContent).not.toContain("Forbidden");
});

test("an active job of the same plan is pointed at before the button", async () => {
  const twin = sampleJob({ job_id: "twin", config_name: "the same" });
  const other = sampleJob({ job_id: "other", digest: "f0".repeat(32) });
  const model = lab(() => samplePlan(), { jobs: () => ({ jobs: [other, twin], total: 2 }) });
  const { find } = stage(model, <Submit />);
  await expect.element(page.getByText(/A job of this very plan is active already/)).toBeVisible();
  const asked = model.asked.find((one) => one.verb === "jobs")?.args;
  expect(asked).toMatchObject({ states: ["pending", "uploading", "queued", "running"] });
  const note = find('.stc-agree [role="note"]');
  const train = find('.stc-agree [data-kind="primary"]');
  expect(note.compareDocumentPosition(train) & Node.DOCUMENT_POSITION_FOLLOWING).toBeTruthy();
  await button("Open the same").click();
  await expect.poll(() => model.get("job_id")).toBe("twin");
  expect(submits(model)).toHaveLength(0);
});

test("text of others stays text", async () => {
  const evil = '<img src=x onerror="window.hacked=1">';
  const [dataset] = sampleCloudPlan().datasets;
  const plan = sampleCloudPlan({
    name: evil,
    warnings: [evil],
    stays: [evil],
    datasets: [
      {
        ...dataset,
        id: evil,
        root: evil,
        files: [{ name: evil, bytes: 1, sha256: "aa" }],
        captions_missing: [evil],
        withheld: [{ name: evil, reason: evil, secret: true, wanted: false }],
      },
    ],
    config: { validation_prompt: evil },
  });
  const { element, all } = stage(
    lab(() => plan),
    <Submit />,
  );
  await expect.element(button(SEND)).toBeEnabled();
  for (const opener of all(".stc-disclose")) opener.click();
  await vi.waitFor(() => expect(element.querySelectorAll(".stc-rows")).toHaveLength(3));
  expect(element.querySelector("img")).toBeNull();
  expect(element.querySelector(".stc-rows li")?.textContent).toContain(evil);
  expect("hacked" in window).toBe(false);
});

test("100,000 files: only those in sight exist, and a filter finds one", async () => {
  const [dataset] = sampleCloudPlan().datasets;
  const files = Array.from({ length: 100_000 }, (_, index) => ({
    name: `cats/${String(index).padStart(6, "0")}.png`,
    bytes: 1000,
    sha256: "ab".repeat(32),
  }));
  const { all, find } = stage(
    lab(() => sampleCloudPlan({ datasets: [{ ...dataset, files }] })),
    <Submit />,
  );
  await button("Files that are sent (100,000)").click();
  await expect.element(page.getByText("100,000 of 100,000")).toBeVisible();
  expect(all(".stc-rows li").length).toBeLessThan(40);
  const box = find(".stc-rows");
  box.focus();
  await userEvent.keyboard("{End}");
  await expect.element(page.getByText("cats/099999.png")).toBeVisible();
  expect(all(".stc-rows li").length).toBeLessThan(40);
  await page.getByRole("searchbox").fill("043210");
  await expect.element(page.getByText("1 of 100,000")).toBeVisible();
  await expect.element(page.getByText("cats/043210.png")).toBeVisible();
});

test("the digest is copied with one press", async () => {
  const written = vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
  stage(
    lab(() => sampleCloudPlan()),
    <Submit />,
  );
  await button("Copy the digest").click();
  expect(written).toHaveBeenCalledWith(sampleCloudPlan().digest);
  await expect.element(page.getByText("Copied")).toBeVisible();
  written.mockRestore();
});

test("two widgets of a notebook have ids of their own", async () => {
  const one = stage(new MemoryModel({}, { providers: () => sampleProviders() }), <Submit />);
  const two = stage(new MemoryModel({}, { providers: () => sampleProviders() }), <Submit />);
  const ids = [...one.all("[id]"), ...two.all("[id]")].map((element) => element.id);
  expect(ids.length).toBeGreaterThan(20);
  expect(new Set(ids).size).toBe(ids.length);
});

test("what a target does otherwise is said by the plan's warnings, once", async () => {
  const lacks = ["several data sets become one"];
  const target = { ...sampleCloudPlan().target, lacks };
  const { all } = stage(
    lab(() => sampleCloudPlan({ target, warnings: ["no live loss", ...lacks] })),
    <Submit />,
  );
  await expect.element(button(SEND)).toBeEnabled();
  expect(all(".stc-warnings > li").map((line) => line.textContent)).toEqual(["no live loss", ...lacks]);
});
