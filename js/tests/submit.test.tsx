/** The form: from nothing to a plan, with every mistake on the way. */

import { expect, test, vi } from "vitest";
import { page, userEvent } from "vitest/browser";
import { Submit } from "../src/components/submit/Submit";
import type { PlanView, SubmitRequest } from "../src/contract";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import type { State } from "../src/model";
import { sampleJob, samplePlan, sampleProvider, sampleProviders, sampleRequest } from "./samples";
import { stage } from "./stage";

function lab(answers: Answers = {}, state: Partial<State> = {}): MemoryModel {
  return new MemoryModel(state, {
    providers: () => sampleProviders(),
    plan: () => samplePlan(),
    jobs: () => ({ jobs: [], total: 0 }),
    submit: () => sampleJob(),
    job: () => sampleJob(),
    ...answers,
  });
}

const asked = (model: MemoryModel, verb: string) => model.asked.filter((one) => one.verb === verb);
const planned = (model: MemoryModel) =>
  (asked(model, "plan").pop()?.args as { request: SubmitRequest } | undefined)?.request;
const field = (label: string) => page.getByLabelText(label, { exact: true });
const review = () => page.getByRole("button", { name: "Review the plan" }).click();
const heading = (name: string) => page.getByRole("heading", { name });

test("by keyboard alone from an empty form to a job", async () => {
  const model = lab();
  const { element } = stage(model, <Submit />);
  await expect.element(page.getByRole("radio", { name: "This machine" })).toBeChecked();
  const reach = async (label: string) => {
    for (let tries = 0; tries < 40; tries += 1) {
      await userEvent.keyboard("{Tab}");
      const at = document.activeElement as HTMLInputElement;
      if (at.labels?.[0]?.textContent === label || at.textContent === label) return;
    }
    throw new Error(`${label} is not reached`);
  };
  await reach("Folder");
  await userEvent.keyboard("/home/ann/cats");
  await reach("Base model");
  await userEvent.keyboard("builtin:tiny");
  await reach("Steps");
  await userEvent.keyboard("400{Enter}");
  await vi.waitFor(() => expect(document.activeElement?.textContent).toBe("Plan: cats"));
  await reach("Train here");
  await userEvent.keyboard("{Enter}{Enter}");
  await expect.poll(() => model.get("job_id")).toBe(sampleJob().job_id);
  expect(asked(model, "submit")).toHaveLength(1);
  expect(planned(model)).toEqual({
    config: { pretrained_model_name_or_path: "builtin:tiny", max_train_steps: 400 },
    dataloader_config: [
      { id: "cats", type: "local", instance_data_dir: "/home/ann/cats", caption_strategy: "textfile" },
    ],
    provider: "local",
    target: "",
    hardware_profile: "",
    config_name: "",
    destination: null,
    strip_exif: false,
  });
  await vi.waitFor(() => expect(document.activeElement?.getAttribute("aria-label")).toBe("Submitted job"));
  expect(element.contains(document.activeElement)).toBe(true);
});

test("what must be filled in is marked, in sight and for screen readers", async () => {
  const { all } = stage(lab(), <Submit />);
  const marked = () => all(".stc-required").map((mark) => mark.previousElementSibling?.textContent);
  await expect.poll(marked).toEqual(["Folder", "Base model", "Steps"]);
  for (const label of ["Folder", "Base model", "Steps"]) await expect.element(field(label)).toBeRequired();
  await expect.element(field("Batch size")).not.toBeRequired();
});

test("a request from Python is planned at once, without taking the focus, and the form is behind Change", async () => {
  const model = lab({}, { request: sampleRequest() });
  stage(model, <Submit />);
  await expect.element(heading("Plan: cats")).toBeVisible();
  expect(document.activeElement).toBe(document.body);
  expect(model.get("digest")).toBe(samplePlan().digest);
  expect(planned(model)).toEqual(sampleRequest());
  await page.getByRole("button", { name: "Change" }).click();
  await expect.element(field("Steps")).toHaveValue("400");
  await expect.element(field("Folder")).toHaveValue("/home/ann/cats");
  expect(model.get("digest")).toBe("");
});

test("fields change what they name and leave the rest of a request alone", async () => {
  const request = sampleRequest({ config: { "--max_train_steps": "400", seed: 7, validation_prompts: "a cat" } });
  const model = lab({}, { request });
  stage(model, <Submit />);
  await page.getByRole("button", { name: "Change" }).click();
  await field("Steps").fill("1e3");
  await expect.element(field("Steps")).toHaveValue("1e3");
  await field("Learning rate").fill("abc");
  await field("Validation prompts").fill("a cat\na dog\n");
  await field("Captions").selectOptions("One prompt for all images");
  await field("Prompt for these images").fill("a photo");
  await review();
  await expect.element(heading("Plan: cats")).toBeVisible();
  expect(planned(model)).toEqual({
    ...request,
    config: { "--max_train_steps": 1000, seed: 7, validation_prompts: ["a cat", "a dog"], learning_rate: "abc" },
    dataloader_config: [
      { ...request.dataloader_config[0], caption_strategy: "instanceprompt", instance_prompt: "a photo" },
    ],
  });
  expect(model.get("request")).toEqual(planned(model));
});

test("providers that cannot be used are shown with the reason and cannot be chosen", async () => {
  const model = lab();
  const { element } = stage(model, <Submit />);
  await expect.element(page.getByRole("radio", { name: "Announced" })).toBeDisabled();
  await expect.element(page.getByRole("radio", { name: "Elsewhere" })).toBeDisabled();
  await expect.element(page.getByText("Coming soon")).toBeVisible();
  expect(element.textContent).toContain("no token is set");
  expect(element.textContent).toContain("set ELSEWHERE_TOKEN");
  expect(element.textContent).toContain("$3.51 per hour, as of 2026-01-05");
  expect(page.getByLabelText("Hardware").elements()).toHaveLength(0);
  await page.getByRole("radio", { name: "Replicate" }).click();
  await expect.element(field("Hardware")).toHaveAccessibleDescription("Price as of 2026-01-05");
  await field("Hardware").selectOptions("A100 80 GB: price not known");
  await field("What runs there").selectOptions("The original 77aa");
  await review();
  await expect.element(heading("Plan: cats")).toBeVisible();
  expect(planned(model)).toMatchObject({ provider: "replicate", hardware_profile: "a100", target: "theirs" });
});

test("a provider of a request that is not installed, or not set up, is said", async () => {
  const refuse = () => {
    throw new Refusal("provider_not_found", "there is no provider gone");
  };
  const model = lab({ plan: refuse }, { request: sampleRequest({ provider: "gone" }) });
  stage(model, <Submit />);
  await expect.element(page.getByText("No provider gone is installed.")).toBeVisible();
  await expect.element(page.getByText("there is no provider gone")).toBeVisible();
  const off = lab({
    providers: () => [sampleProvider({ configured: false, problem: "no torch", hint: "install it" })],
  });
  const { element } = stage(off, <Submit />);
  await vi.waitFor(() => expect(element.textContent).toContain("no torch"));
});

test("problems are shown at their fields and in a summary that leads to them", async () => {
  const problems = [
    { path: "config.lora_rnak", message: "is not a known key", hint: "did you mean 'lora_rank'?" },
    { path: "config.--learning_rate", message: "is 12", hint: "it must be at most 10" },
    { path: "dataloader[0].id", message: "is ''", hint: "1 to 64" },
    { path: "dataloader[0].instance_data_dir", message: "is blank", hint: "" },
  ];
  const model = lab({
    plan: () => {
      throw new Refusal("invalid_config", "config.lora_rnak: is not a known key (and 3 more)", "", problems);
    },
  });
  const { find } = stage(model, <Submit />);
  await review();
  await expect.element(page.getByText("There is something to mend")).toBeVisible();
  await vi.waitFor(() => expect(document.activeElement).toBe(find('[data-code="invalid_config"]')));
  const rate = field("Learning rate");
  await expect.element(rate).toHaveAttribute("aria-invalid", "true");
  await expect.element(rate).toHaveAccessibleDescription("Learning rate is 12 (it must be at most 10).");
  expect(find('[data-place="data.0.folder"]').getAttribute("aria-invalid")).toBe("true");
  await page.getByRole("button", { name: "config.lora_rnak" }).click();
  expect(document.activeElement).toBe(find('[data-place="config"]'));
  expect(find<HTMLDetailsElement>("details").open).toBe(true);
  await page.getByRole("button", { name: "Folder", exact: true }).click();
  expect(document.activeElement).toBe(find('[data-place="data.0.folder"]'));
  expect(page.getByRole("button", { name: "dataloader[0].id" }).elements()).toHaveLength(0);
  await rate.fill("1e-4");
  await expect.element(rate).not.toHaveAttribute("aria-invalid");
  expect(find("[data-done]").textContent).toContain("Learning rate is 12");
});

test("the whole config as JSON goes both ways, and a fault is told with its place and blocks", async () => {
  const model = lab({}, { request: sampleRequest() });
  const { find } = stage(model, <Submit />);
  await page.getByRole("button", { name: "Change" }).click();
  find<HTMLDetailsElement>("details").open = true;
  const editor = field("Configuration");
  const rank = field("LoRA rank");
  await editor.fill('{"lora_rank": 8, "flip": true}');
  await expect.element(rank).toHaveValue("8");
  await expect.element(field("Steps")).toHaveValue("");
  await rank.fill("32");
  await expect.element(editor).toHaveValue('{\n  "lora_rank": 32,\n  "flip": true\n}');
  await editor.fill('{\n  "lora_rank": 4,\n  "flip" true\n}');
  await expect.element(editor).toHaveAccessibleDescription(/Line 3, column 10: a colon is missing\./);
  await expect.element(page.getByRole("button", { name: "Review the plan" })).toBeDisabled();
  await expect.element(rank).toBeDisabled();
  await expect.element(rank).toHaveValue("32");
  await editor.fill("[1]");
  await expect.element(editor).toHaveAccessibleDescription(/one JSON object/);
  await page.getByRole("button", { name: "Go back to the last readable text" }).click();
  await expect.element(editor).toHaveValue('{\n  "lora_rank": 32,\n  "flip": true\n}');
  await field("Data sets").fill('[{"id": "dogs", "instance_data_dir": "/d", "crop": true}]');
  await expect.element(field("Folder")).toHaveValue("/d");
  await review();
  await expect.element(heading("Plan: cats")).toBeVisible();
  expect(planned(model)?.config).toEqual({ lora_rank: 32, flip: true });
  expect(planned(model)?.dataloader_config).toEqual([{ id: "dogs", instance_data_dir: "/d", crop: true }]);
});

test("folders are added and removed; a cache entry travels along unseen", async () => {
  const cache = { id: "text", dataset_type: "text_embeds" };
  const request = sampleRequest();
  request.dataloader_config = [cache, ...request.dataloader_config];
  const model = lab({}, { request });
  stage(model, <Submit />);
  await page.getByRole("button", { name: "Change" }).click();
  await page.getByRole("button", { name: "Add a folder" }).click();
  expect(page.getByLabelText("Folder", { exact: true }).elements()).toHaveLength(2);
  await vi.waitFor(() => expect((document.activeElement as HTMLElement).dataset.place).toBe("data.2.folder"));
  await userEvent.keyboard("/other/cats");
  await page.getByRole("button", { name: "Remove data set cats", exact: true }).click();
  await review();
  await expect.element(heading("Plan: cats")).toBeVisible();
  expect(planned(model)?.dataloader_config).toEqual([
    cache,
    { id: "cats-2", type: "local", instance_data_dir: "/other/cats", caption_strategy: "textfile" },
  ]);
});

test("reading is shown, a newer question wins, and an edit forgets the question under way", async () => {
  const open: ((plan: PlanView) => void)[] = [];
  const model = lab({ plan: () => new Promise<PlanView>((resolve) => open.push(resolve)) });
  const { element } = stage(model, <Submit />);
  await field("Steps").fill("1");
  await review();
  await expect.element(page.getByText("Reading the files of the data sets.")).toBeInTheDocument();
  await field("Steps").fill("2");
  expect(element.textContent).not.toContain("Reading the files…");
  await review();
  await review();
  open[2](samplePlan({ name: "newest" }));
  await expect.element(heading("Plan: newest")).toBeVisible();
  open[0](samplePlan({ name: "first" }));
  open[1](samplePlan({ name: "second" }));
  await new Promise((done) => setTimeout(done, 50));
  await expect.element(heading("Plan: newest")).toBeVisible();
  expect(planned(model)?.config).toEqual({ max_train_steps: 2 });
});

test("a plan that is long in coming can be left for the form", async () => {
  const model = lab({ plan: () => new Promise<PlanView>(() => undefined) }, { request: sampleRequest() });
  stage(model, <Submit />);
  await expect.element(page.getByText("Reading the files…")).toBeVisible();
  expect(page.getByLabelText("Folder", { exact: true }).elements()).toHaveLength(0);
  await page.getByRole("button", { name: "Change" }).click();
  await expect.element(field("Folder")).toHaveValue("/home/ann/cats");
});

test("a request that Python sets later replaces the draft; our own does not ask twice", async () => {
  const model = lab();
  stage(model, <Submit />);
  await review();
  await expect.element(heading("Plan: cats")).toBeVisible();
  expect(asked(model, "plan")).toHaveLength(1);
  model.set("request", sampleRequest({ config_name: "from Python" }));
  await expect.poll(() => asked(model, "plan").length).toBe(2);
  expect(planned(model)?.config_name).toBe("from Python");
});

test("no horizontal scrolling from 226 to 1200 pixels, in the form and in the plan", async () => {
  for (const width of [226, 260, 420, 600, 1200]) {
    const { element } = stage(lab(), <Submit />, { width });
    await vi.waitFor(() => expect(element.textContent).toContain("Announced"));
    expect(element.scrollWidth).toBeLessThanOrEqual(width);
    const plan = stage(lab({}, { request: sampleRequest() }), <Submit />, { width });
    await vi.waitFor(() => expect(plan.element.textContent).toContain("Train here"));
    expect(plan.element.scrollWidth).toBeLessThanOrEqual(width);
    element.remove();
    plan.element.remove();
  }
});

test("a target says what it lacks, and what becomes of a job that one run cannot finish", async () => {
  const [here, away] = sampleProviders();
  const targets = away.targets.map((one) => (one.id === "theirs" ? { ...one, lacks: ["no live loss"] } : one));
  const model = lab({ providers: () => [here, { ...away, targets }] });
  const { element } = stage(model, <Submit />);
  await page.getByRole("radio", { name: "Replicate" }).click();
  await expect.element(page.getByText("A run ends after 30 min: a longer job goes on in the next one.")).toBeVisible();
  expect(element.textContent).not.toContain("no live loss");
  await page.getByLabelText("What runs there").selectOptions("theirs");
  await expect.element(page.getByText("A run ends after 30 min: a longer job is not taken.")).toBeVisible();
  await expect.element(page.getByText("no live loss")).toBeVisible();
});
