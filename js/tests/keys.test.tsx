/** Keys that JupyterLab would take: what uses them says so on the element that has the focus. */

import { expect, test, vi } from "vitest";
import { mount } from "../src/app";
import { Submit } from "../src/components/submit/Submit";
import { MemoryModel } from "../src/hosts/memory";
import { sampleProviders } from "./samples";

test("what uses arrows keeps them from the notebook while it has the focus", async () => {
  const element = document.createElement("div");
  document.body.append(element);
  const model = new MemoryModel({}, { providers: () => sampleProviders() });
  const unmount = mount(model, element, Submit);
  await vi.waitFor(() => expect(element.querySelector("input[type=radio]")).not.toBeNull());
  const kept = (selector: string) => {
    const found = element.querySelector<HTMLElement>(selector);
    found?.focus();
    expect(document.activeElement).toBe(found);
    return found?.hasAttribute("data-lm-suppress-shortcuts");
  };
  expect(kept("input[type=radio]:checked")).toBe(true);
  expect(kept("select")).toBe(true);
  expect(kept("input[type=text]")).toBe(false);
  expect(kept("button[type=submit]")).toBe(false);
  unmount();
  await expect.poll(() => model.listening).toBe(0);
  element.remove();
});
