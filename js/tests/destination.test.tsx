/** Where the model goes: chosen in the form, remembered, in the plan, in settings, and pushed on later. */

import { expect, test, vi } from "vitest";
import { page, userEvent } from "vitest/browser";
import { Files } from "../src/components/job/Files";
import { grouped } from "../src/components/job/groups";
import { JobPanel } from "../src/components/job/JobPanel";
import { Settings } from "../src/components/settings/Settings";
import { PlanDetails } from "../src/components/submit/PlanDetails";
import { Submit } from "../src/components/submit/Submit";
import type { DeliveryView, HubDestination, OutputsView, S3Destination, SubmitRequest } from "../src/contract";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import { sampleJob, sampleOutput, samplePlan, sampleProvider, samplePublishing } from "./samples";
import { stage } from "./stage";

const HUB: HubDestination = { kind: "hub", repo_id: "ann/neon", private: true, checkpoints: false, sender: "lab" };
const S3: S3Destination = {
  kind: "s3",
  bucket: "models",
  prefix: "loras/",
  endpoint_url: "https://minio.example",
  region: "us-east-1",
  checkpoints: true,
  sender: "trainer",
};
const ID = sampleJob().job_id;

function lab(answers: Answers = {}): MemoryModel {
  return new MemoryModel(
    {},
    {
      providers: () => [sampleProvider()],
      publishing: () => samplePublishing(),
      destination: () => ({ kind: "home" }),
      set_destination: ({ destination }) => destination,
      consent: () => ({ consent: "ask" }),
      plan: () => samplePlan(),
      jobs: () => ({ jobs: [], total: 0 }),
      ...answers,
    },
  );
}

const last = (model: MemoryModel, verb: string) => model.asked.filter((one) => one.verb === verb).pop()?.args;
const radio = (name: string) => page.getByRole("radio", { name, exact: true });
const field = (label: string) => page.getByLabelText(label, { exact: true });
const button = (name: string | RegExp) => page.getByRole("button", { name, exact: true });

test("the form begins with the default, and sends a place only once it was chosen", async () => {
  const model = lab({ destination: () => S3 });
  stage(model, <Submit />);
  await expect.element(radio("S3 bucket")).toBeChecked();
  await expect.element(field("Bucket")).toHaveValue("models");
  await button("Review the plan").click();
  await expect.poll(() => (last(model, "plan") as { request: SubmitRequest }).request.destination).toBe(null);
});

test("a place is chosen by keyboard alone, told with what travels, and remembered", async () => {
  const model = lab();
  stage(model, <Submit />);
  await expect.element(radio("This lab")).toBeChecked();
  await vi.waitFor(() => (radio("This lab").element() as HTMLElement).focus());
  await userEvent.keyboard("{ArrowRight}");
  await expect.element(radio("Hugging Face Hub")).toBeChecked();
  await userEvent.keyboard("{Tab}ann/neon{Tab}{ }");
  await expect.element(field("Who sends it")).toHaveAccessibleDescription(/no key of yours travels/);
  await field("Who sends it").selectOptions("trainer");
  await expect.element(field("Who sends it")).toHaveAccessibleDescription(/your keys for it travel/);
  await button("Remember as default").click();
  await expect.element(page.getByText("Saved: later jobs begin with it.")).toBeVisible();
  const chosen = { ...HUB, private: false, sender: "trainer" };
  expect(last(model, "set_destination")).toEqual({ destination: chosen });
  await button("Review the plan").click();
  await expect.poll(() => (last(model, "plan") as { request: SubmitRequest }).request.destination).toEqual(chosen);
});

test("what was typed for one place comes back with it", async () => {
  stage(lab(), <Submit />);
  await radio("Hugging Face Hub").click();
  await field("Repository").fill("ann/neon");
  await radio("S3 bucket").click();
  await field("Bucket").fill("models");
  await radio("Hugging Face Hub").click();
  await expect.element(field("Repository")).toHaveValue("ann/neon");
});

test("what is wrong with a place is said at its field, under the field's own name", async () => {
  const problems = [
    { path: "destination.repo_id", message: "'neon' is not the name of a repository", hint: "OWNER/NAME" },
  ];
  const refuse = () => {
    throw new Refusal("invalid_request", "destination.repo_id", "", problems);
  };
  stage(lab({ plan: refuse }), <Submit />);
  await radio("Hugging Face Hub").click();
  await field("Repository").fill("neon");
  await button("Review the plan").click();
  const told = "Repository 'neon' is not the name of a repository (OWNER/NAME).";
  await expect.element(field("Repository")).toHaveAccessibleDescription(new RegExp(told.replace(/[()]/g, "\\$&")));
  await button("Repository").click();
  expect(document.activeElement).toBe(field("Repository").element());
});

test("a lab without a token says so where the Hub is chosen", async () => {
  stage(lab({ publishing: () => samplePublishing({ hf_configured: false }) }), <Submit />);
  await radio("Hugging Face Hub").click();
  await expect.element(page.getByText(/no Hugging Face token yet: set HF_TOKEN/)).toBeVisible();
});

test.each([
  [HUB, "Hugging Face Hub: ann/neon, private", /comes home first/],
  [S3, "s3://models/loras/ at https://minio.example", /your keys for it travel with the job\. Checkpoints/],
  [{ kind: "home" as const }, "The results folder of this lab", /No credential/],
])("the plan names the place and what travels: %o", async (destination, place, way) => {
  stage(lab(), <PlanDetails plan={samplePlan({ destination })} />);
  await expect.element(page.getByText(place)).toBeVisible();
  await expect.element(page.getByText(way)).toBeVisible();
});

test("settings show the default, refuse what is wrong, and save what is right", async () => {
  const problems = [{ path: "destination.bucket", message: "'X' is not the name of a bucket", hint: "" }];
  const model = lab({
    destination: () => HUB,
    receiving: () => ({
      enabled: true,
      endpoint_url: "https://lab.example/s3",
      bucket: "outputs",
      outputs_dir: "/out",
    }),
    set_destination: ({ destination }) => {
      if (destination.kind === "s3" && destination.bucket === "X") {
        throw new Refusal("invalid_request", "not so", "", problems);
      }
      return destination;
    },
  });
  stage(model, <Settings />);
  await expect.element(field("Repository")).toHaveValue("ann/neon");
  await expect.element(button("Remember as default")).toBeDisabled();
  await radio("S3 bucket").click();
  await field("Bucket").fill("X");
  await button("Remember as default").click();
  await expect.element(field("Bucket")).toHaveAccessibleDescription("Bucket 'X' is not the name of a bucket.");
  await field("Bucket").fill("models");
  await expect.element(field("Bucket")).not.toHaveAttribute("aria-invalid");
  await button("Remember as default").click();
  await expect.element(page.getByText("Saved: later jobs begin with it.")).toBeVisible();
});

test("receiving: the address, and a test that tells each step", async () => {
  const model = lab({
    receiving: () => ({ enabled: false, endpoint_url: "", bucket: "outputs", outputs_dir: "/home/ann/out" }),
    test_receiving: () => [
      { name: "DNS", status: "ok", message: "lab.example is 1.2.3.4", hint: "" },
      { name: "TLS", status: "warning", message: "the certificate ends in 3 days", hint: "renew it" },
      { name: "Signature", status: "failed", message: "the proxy changes the path", hint: "pass it on as it is" },
      { name: "Clock", status: "skipped", message: "not reached", hint: "" },
    ],
  });
  const { all } = stage(model, <Settings />);
  await expect.element(page.getByText(/no public address is set/)).toBeVisible();
  await expect.element(page.getByText("/home/ann/out")).toBeVisible();
  await button("Test the address").click();
  await expect.element(page.getByText("Models would not come home this way.")).toBeVisible();
  expect(all(".stc-steps-word").map((word) => word.textContent)).toEqual(["OK", "Remark", "Failed", "Left out"]);
  await expect.element(page.getByText("pass it on as it is")).toBeVisible();
});

// ------------------------------------------------------------ files

const DELIVERY: DeliveryView = {
  id: "f".repeat(24),
  destination: HUB,
  state: "delivered",
  url: "https://huggingface.co/ann/neon",
  problem: "",
  hint: "",
};

function outputs(over: Partial<OutputsView> = {}): OutputsView {
  return {
    job_id: ID,
    folder: "/home/ann/out",
    verified: true,
    outputs: [
      sampleOutput("README.md", { sha256: "aa" }),
      sampleOutput("checkpoints/step-00000050/manifest.json"),
      sampleOutput("checkpoints/step-00000100/lora.safetensors", { sha256: "bb" }),
      sampleOutput("samples/step-00000100-0.png"),
    ],
    ...over,
  };
}

test("files come by kind, the newest checkpoint first", () => {
  expect(grouped(outputs().outputs).map(({ kind, step, files }) => [kind, step, files.length])).toEqual([
    ["result", null, 1],
    ["checkpoint", 100, 1],
    ["checkpoint", 50, 1],
    ["samples", null, 1],
  ]);
  expect(grouped([sampleOutput("checkpoints/odd/x"), sampleOutput("extra/x")]).map((one) => one.folder)).toEqual([
    "",
    "checkpoints/odd/",
  ]);
});

test("each file has its mark, its path and its download; all of them come as one", async () => {
  const clicked: string[] = [];
  const click = vi.spyOn(HTMLAnchorElement.prototype, "click").mockImplementation(function (this: HTMLAnchorElement) {
    clicked.push(`${this.download} ${this.href}`);
  });
  const model = lab({ outputs: () => outputs(), archive: () => ({ src: "https://lab.example/outputs.zip" }) });
  stage(model, <Files job={sampleJob({ status: "completed" })} />);
  await expect.element(page.getByRole("heading", { name: /^Checkpoint at step 100/ })).toBeVisible();
  expect(page.getByRole("img", { name: "verified" }).elements()).toHaveLength(2);
  await expect.element(button("Copy the path of samples/step-00000100-0.png")).toBeVisible();
  await expect.element(page.getByText(`s3://outputs/${ID}/`)).toBeVisible();
  await button("Download all (4.0 kB)").click();
  await expect.poll(() => clicked).toEqual(["outputs.zip https://lab.example/outputs.zip"]);
  click.mockRestore();
});

test("where a cell has no server, it is said where the files lie", async () => {
  const model = lab({
    outputs: () => outputs(),
    archive: () => {
      throw new Refusal("too_large", "they do not fit through the kernel", "they lie in /home/ann/out");
    },
  });
  stage(model, <Files job={sampleJob({ status: "completed" })} />);
  await button("Download all (4.0 kB)").click();
  await expect.element(page.getByRole("alert")).toHaveTextContent(/they lie in \/home\/ann\/out/);
});

test.each([
  [DELIVERY, "Delivered:", [DELIVERY.url]],
  [{ ...DELIVERY, state: "sending" as const, url: "" }, "Being sent:", []],
  [{ ...DELIVERY, state: "waiting" as const, url: "", problem: "no answer" }, "no answer", []],
  [{ ...DELIVERY, state: "failed" as const, url: "javascript:alert(1)", hint: "renew it" }, "renew it", []],
])("a delivery is told with its state and its page, if that is one: %o", async (delivery, words, pages) => {
  const { all } = stage(lab({ outputs: () => outputs(), deliveries: () => [delivery] }), <Files job={sampleJob()} />);
  await expect.element(page.getByText(words)).toBeVisible();
  const links = all("a") as HTMLAnchorElement[];
  expect(links.map((link) => link.href)).toEqual(pages);
  for (const link of links) expect(link.rel).toBe("noopener noreferrer");
});

test("a finished job is pushed on after one more question, and never by itself", async () => {
  let deliveries: DeliveryView[] = [];
  const model = lab({
    outputs: () => outputs(),
    deliveries: () => [...deliveries],
    push: ({ destination }) => {
      if (destination.kind === "hub" && !destination.repo_id) {
        const problems = [{ path: "destination.repo_id", message: "is empty", hint: "" }];
        throw new Refusal("invalid_request", "the repository is missing", "", problems);
      }
      deliveries = [{ ...DELIVERY, destination, state: "sending", url: "" }];
      return deliveries[0];
    },
  });
  stage(model, <Files job={sampleJob({ status: "completed" })} />);
  await button("Push to…").click();
  expect(document.activeElement).toBe(button("Not now").element());
  expect(radio("This lab").elements()).toHaveLength(0);
  await button("Send it there").click();
  await expect.element(field("Repository")).toHaveAccessibleDescription(/Repository is empty/);
  await field("Repository").fill("ann/neon");
  await button("Send it there").click();
  await expect.element(page.getByText("Being sent:")).toBeVisible();
  expect(last(model, "push")).toEqual({ job_id: ID, destination: HUB });
});

test("every delivery is told, and one that waits is given up after one more question", async () => {
  let waits: DeliveryView = { ...DELIVERY, id: "w", destination: { ...S3, sender: "lab" }, state: "waiting", url: "" };
  const model = lab({
    outputs: () => outputs(),
    deliveries: () => [DELIVERY, waits],
    give_up: () => {
      waits = { ...waits, state: "given_up" };
      return [waits];
    },
  });
  stage(model, <Files job={sampleJob({ status: "completed", is_terminal: true })} />);
  await expect.element(page.getByText("Delivered:")).toBeVisible();
  await expect.element(page.getByText("Waits to be sent:")).toBeVisible();
  await button(/^Do not send the model to/).click();
  await button("Give up").click();
  await expect.element(page.getByText("Given up:")).toBeVisible();
  expect(last(model, "give_up")).toEqual({ job_id: ID, id: "w" });
  expect(button(/^Do not send the model to/).elements()).toHaveLength(0);
});

test("what the trainer delivers by itself is neither looked for at home nor pushed from there", async () => {
  const sent: DeliveryView = { ...DELIVERY, destination: { ...HUB, sender: "trainer" }, state: "waiting", url: "" };
  const none = { ...outputs(), outputs: [], verified: false };
  const model = lab({ outputs: () => none, deliveries: () => [sent] });
  const { show } = stage(model, <Files job={sampleJob()} />);
  await expect.element(page.getByText("Nothing comes home: the trainer delivers by itself.")).toBeVisible();
  expect(button(/^Do not send/).elements()).toHaveLength(0);
  show(<Files job={sampleJob({ status: "completed", is_terminal: true })} />);
  await expect.element(button(/^Do not send the model to/)).toBeVisible();
  expect(button("Push to…").elements()).toHaveLength(0);
});

test("a job that runs, or failed, is not pushed", async () => {
  const model = lab({ outputs: () => outputs(), deliveries: () => [] });
  const { show } = stage(model, <Files job={sampleJob()} />);
  await expect.element(button("Download all (4.0 kB)")).toBeVisible();
  expect(button("Push to…").elements()).toHaveLength(0);
  show(<Files job={sampleJob({ status: "failed" })} />);
  expect(button("Push to…").elements()).toHaveLength(0);
});

// ------------------------------------------------------------ left from before

test("a draft survives a reload of the page, and is gone once it became a job", async () => {
  const first = stage(lab(), <Submit />);
  await field("Base model").fill("builtin:tiny");
  await radio("Hugging Face Hub").click();
  await field("Repository").fill("ann/neon");
  first.show(null);
  const model = lab({ submit: () => sampleJob(), job: () => sampleJob() });
  const second = stage(model, <Submit />);
  await expect.element(field("Base model")).toHaveValue("builtin:tiny");
  await expect.element(field("Repository")).toHaveValue("ann/neon");
  await button("Review the plan").click();
  await button("Train here").click();
  await expect.poll(() => model.get("job_id")).toBe(ID);
  second.show(null);
  stage(lab(), <Submit />);
  await expect.element(field("Base model")).toHaveValue("");
});

test("a job that is gone is asked for once, whatever is heard afterwards", async () => {
  const model = lab({
    job: () => {
      throw new Refusal("job_not_found", "there is no such job");
    },
  });
  stage(model, <JobPanel job_id={ID} />);
  await expect.element(page.getByText(/There is no job/)).toBeVisible();
  for (let heard = 0; heard < 3; heard += 1) {
    model.news({ job_id: null });
    await new Promise((resolve) => setTimeout(resolve, 200)); // longer than news are merged
  }
  expect(model.asked.filter((one) => one.verb === "job")).toHaveLength(1);
});
