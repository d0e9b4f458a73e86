/** A provider in the side panel: its settings drawn from data, a token that is never shown, its check, prices, webhooks. */

import { expect, test } from "vitest";
import { page, userEvent } from "vitest/browser";
import { Settings } from "../src/components/settings/Settings";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import type { ProviderConfig, WebhookReport } from "../src/setup";
import { sampleBilling, sampleConfig, sampleProviders, samplePublishing } from "./samples";
import { stage } from "./stage";

function lab(answers: Answers = {}): MemoryModel {
  return new MemoryModel(
    {},
    {
      providers: () => sampleProviders().slice(0, 2),
      publishing: () => samplePublishing(),
      destination: () => ({ kind: "home" }),
      receiving: () => ({ enabled: false, endpoint_url: "", bucket: "outputs", outputs_dir: "/home/ann/out" }),
      consent: () => ({ consent: "ask" }),
      provider: () => sampleConfig(),
      billing: () => sampleBilling(),
      ...answers,
    },
  );
}

const button = (name: string | RegExp) => page.getByRole("button", { name, exact: true });
const field = (label: string) => page.getByLabelText(label, { exact: true });
const last = (model: MemoryModel, verb: string) => model.asked.filter((one) => one.verb === verb).pop()?.args;
const count = (model: MemoryModel, verb: string) => model.asked.filter((one) => one.verb === verb).length;

test("settings are drawn from data, and what was changed alone is sent", async () => {
  let config = sampleConfig();
  const model = lab({
    provider: () => config,
    set_provider: ({ config: given }) => {
      config = { ...config, config: { ...config.config, ...given } };
      return config;
    },
  });
  stage(model, <Settings />, { width: 420 });
  expect(count(model, "provider")).toBe(0);
  await button("Set up Replicate").click();
  const save = button("Save the settings");
  await expect.element(save).toBeDisabled();
  await expect.element(field("hardware")).toHaveValue("l40s");
  await field("hardware").selectOptions("a100");
  await field("timeout_s").fill("45");
  await field("webhook_allowed_ips").fill("203.0.113.0/24\n198.51.100.7");
  await expect.element(page.getByText("How long an answer may take. Default: 30")).toBeVisible();
  await save.click();
  await expect.element(page.getByText("Saved. They are in force now.")).toBeVisible();
  expect(last(model, "set_provider")).toEqual({
    provider: "replicate",
    config: { hardware: "a100", timeout_s: 45, webhook_allowed_ips: ["203.0.113.0/24", "198.51.100.7"] },
  });
  await expect.element(save).toBeDisabled();
  await expect.element(field("webhook_allowed_ips")).toHaveValue("203.0.113.0/24\n198.51.100.7");
  expect(count(model, "providers")).toBeGreaterThan(1);
});

test("a value beyond the choices stands among them, and is not sent unless it is changed", async () => {
  const config = sampleConfig();
  const model = lab({ provider: () => ({ ...config, config: { ...config.config, hardware: "b200" } }) });
  stage(model, <Settings />, { width: 420 });
  await button("Set up Replicate").click();
  await expect.element(field("hardware")).toHaveValue("b200");
  await expect.element(button("Save the settings")).toBeDisabled();
  await field("hardware").selectOptions("l40s");
  await button("Save the settings").click();
  await expect.poll(() => last(model, "set_provider")).toEqual({ provider: "replicate", config: { hardware: "l40s" } });
});

test("what the lab refuses stands at its field, until it is mended", async () => {
  const model = lab({
    set_provider: () => {
      const wrong = { path: "settings.timeout_s", message: "is not between 0 and 600 seconds", hint: "" };
      throw new Refusal("invalid_request", "settings cannot be read", "see the problems listed", [wrong]);
    },
  });
  stage(model, <Settings />, { width: 420 });
  await button("Set up Replicate").click();
  await field("timeout_s").fill("900");
  await button("Save the settings").click();
  await expect.element(field("timeout_s")).toHaveAccessibleDescription(/not between 0 and 600/);
  await field("timeout_s").fill("90");
  await expect.element(field("timeout_s")).not.toHaveAccessibleDescription(/not between/);
});

test("jobs that stand still at another endpoint are told of until it is set back", async () => {
  const warning = "1 job that is not done with is at api.replicate.example: set base_url back";
  let config = sampleConfig();
  const model = lab({
    provider: () => config,
    set_provider: ({ config: given }) => {
      const back = given.base_url === sampleConfig().config.base_url;
      config = { ...config, config: { ...config.config, ...given }, warning: back ? "" : warning };
      return config;
    },
  });
  stage(model, <Settings />, { width: 420 });
  await button("Set up Replicate").click();
  const note = page.getByText(warning);
  await expect.element(field("base_url")).toBeVisible();
  await expect.element(note).not.toBeInTheDocument();
  for (const [address, shown] of [
    ["https://other.example", true],
    ["https://api.replicate.example", false],
  ] as const) {
    await field("base_url").fill(address);
    await button("Save the settings").click();
    if (shown) await expect.element(note).toBeVisible();
    else await expect.element(note).not.toBeInTheDocument();
  }
});

test("TLS that is not verified is warned of, before it is saved and after", async () => {
  const { all } = stage(lab(), <Settings />);
  await button("Set up Replicate").click();
  const words = /Certificates are not checked/;
  await expect.element(page.getByText("verify_tls")).toBeVisible();
  expect(all(".stc-banner")).toHaveLength(0);
  await page.getByRole("checkbox", { name: /verify_tls/ }).click();
  await expect.element(page.getByText(words)).toBeVisible();
});

test("a token goes in by keyboard, is never shown, and is deleted after one more question", async () => {
  let set = false;
  const model = lab({
    provider: (): ProviderConfig => sampleConfig({ token_set: set }),
    set_token: () => {
      set = true;
      return { success: true, warning: "1 job is of another account" };
    },
    delete_token: () => {
      set = false;
      return { deleted: true, warning: "" };
    },
  });
  const { element } = stage(model, <Settings />, { width: 420 });
  await button("Set up Replicate").click();
  const token = field("Token (REPLICATE_API_TOKEN)");
  await expect.element(token).toHaveAccessibleDescription("None is set.");
  await expect.element(token).toHaveAttribute("type", "password");
  await token.click();
  await userEvent.keyboard("r8_abc{Enter}");
  await expect.element(token).toHaveAccessibleDescription(/^One is set/);
  await expect.element(token).toHaveValue("");
  expect(last(model, "set_token")).toEqual({ provider: "replicate", token: "r8_abc" });
  expect(element.innerHTML).not.toContain("r8_abc");
  await expect.element(page.getByText("1 job is of another account")).toBeVisible();
  await button("Delete the token").click();
  await button("Delete it").click();
  await expect.element(page.getByText("The token was deleted.")).toBeVisible();
  await expect.element(page.getByText("1 job is of another account")).not.toBeInTheDocument();
  await expect.element(token).toHaveAccessibleDescription("None is set.");
});

test("a token of the environment cannot be deleted here, which is said", async () => {
  stage(lab({ delete_token: () => ({ deleted: false, warning: "" }) }), <Settings />);
  await button("Set up Replicate").click();
  await button("Delete the token").click();
  await button("Delete it").click();
  await expect.element(page.getByText("REPLICATE_API_TOKEN is set where the lab runs: unset it there.")).toBeVisible();
});

test("a check says whose account it is, or what is wrong and what to do", async () => {
  let wrong = false;
  const model = lab({
    validate: () =>
      wrong
        ? { valid: false, user_info: "", error: "the token is not accepted", hint: "make a new one" }
        : { valid: true, user_info: "ann", error: "", hint: "" },
  });
  stage(model, <Settings />);
  await button("Check Replicate").click();
  await expect.element(page.getByText("It can be used by ann.")).toBeVisible();
  wrong = true;
  await button("Check Replicate").click();
  await expect.element(page.getByRole("alert")).toHaveTextContent("the token is not acceptedmake a new one");
  await expect.element(page.getByRole("link", { name: "Status page" })).toHaveAttribute("rel", "noreferrer");
});

test("prices with their dates, what was spent, and that the balance is not told", async () => {
  const { all } = stage(lab(), <Settings />, { width: 420 });
  await button("Prices and costs of Replicate").click();
  await expect.element(page.getByText("$1.23 for 4 runs, 21 min")).toBeVisible();
  await expect.element(page.getByText("Replicate does not tell its balance")).toBeVisible();
  expect(all(".stc-table tbody tr").map((row) => [...row.children].map((cell) => cell.textContent))).toEqual([
    ["L40S", "$3.51 per hour", "2026-01-05"],
    ["A100 80 GB", "price not known", "—"],
  ]);
});

test("one run is one run", async () => {
  stage(lab({ billing: () => ({ ...sampleBilling(), runs: 1 }) }), <Settings />, { width: 420 });
  await button("Prices and costs of Replicate").click();
  await expect.element(page.getByText("$1.23 for 1 run, 21 min")).toBeVisible();
});

test("webhooks are tested from here, and through the provider after a question", async () => {
  const steps: WebhookReport["steps"] = [
    { name: "path", status: "ok", message: "the route for webhooks answers", hint: "" },
    { name: "signature", status: "failed", message: "it was refused: no signature", hint: "look at the proxy" },
  ];
  const model = lab({
    test_webhook: ({ provider, mode }) => ({
      ...{ provider, mode, url: "https://lab.example/api/webhooks/replicate", reached: mode === "provider", took_s: 1 },
      steps: mode === "provider" ? steps.slice(0, 1) : steps,
    }),
  });
  const { all } = stage(model, <Settings />, { width: 420 });
  await button("Webhooks of Replicate").click();
  await button("Test from here").click();
  await expect.element(page.getByText("Webhooks would not arrive this way.")).toBeVisible();
  expect(all(".stc-steps > li").map((step) => step.dataset.status)).toEqual(["ok", "failed"]);
  await button("Test through Replicate").click();
  await button("Send one").click();
  await expect.element(page.getByText("It works.")).toBeVisible();
  expect(last(model, "test_webhook")).toEqual({ provider: "replicate", mode: "provider" });
});

test("what is here has settings alone, and what was typed stays while it is folded", async () => {
  const model = lab({ provider: () => sampleConfig({ provider: "local", token_name: "", token_set: false }) });
  const { all } = stage(model, <Settings />);
  await button("Set up This machine").click();
  await field("timeout_s").fill("7");
  await button("Set up This machine").click();
  await expect.element(field("timeout_s")).not.toBeVisible();
  await button("Set up This machine").click();
  await expect.element(field("timeout_s")).toHaveValue("7");
  expect(all('input[type="password"]')).toHaveLength(0);
  expect(all(".stc-providers > li")[0].textContent).not.toContain("Webhooks");
});

test.each([226, 290, 640])("nothing is wider than %i pixels, no question either", async (width) => {
  const { element, find } = stage(lab(), <Settings />, { width });
  await button("Set up Replicate").click();
  await button("Prices and costs of Replicate").click();
  await button("Webhooks of Replicate").click();
  await expect.element(page.getByText("Balance", { exact: true })).toBeVisible();
  for (const name of ["Delete the token", "Test through Replicate"]) {
    await button(name).click();
    const [asked, all] = [find(".stc-confirm-ask"), element].map((one) => one.getBoundingClientRect());
    expect([asked.left >= all.left, asked.right <= all.right]).toEqual([true, true]);
    await userEvent.keyboard("{Escape}");
  }
  expect(element.scrollWidth).toBeLessThanOrEqual(width);
});
