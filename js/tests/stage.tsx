/** Puts components on a page of a given width and theme, over a memory model, and takes them down again. */

import { type ComponentChildren, render } from "preact";
import { onTestFinished } from "vitest";
import "../src/style/index.css";
import { Desk } from "../src/ask";
import { Lab } from "../src/hooks";
import type { MemoryModel } from "../src/hosts/memory";

export interface Stage {
  element: HTMLElement;
  show: (children: ComponentChildren) => void;
  /** The one element that a selector finds. */
  find: <E extends HTMLElement = HTMLElement>(selector: string) => E;
  all: (selector: string) => HTMLElement[];
}

export function stage(model: MemoryModel, children: ComponentChildren, { width = 900, dark = false } = {}): Stage {
  const element = document.createElement("div");
  element.classList.add("stc");
  element.style.width = `${width}px`;
  document.body.append(element);
  document.body.dataset.jpThemeLight = String(!dark);
  document.body.style.background = dark ? "#111" : "#fff";
  document.body.style.setProperty("--jp-layout-color1", dark ? "#111" : "#fff");
  document.body.style.setProperty("--jp-ui-font-color1", dark ? "rgba(255,255,255,1)" : "rgba(0,0,0,.87)");
  const desk = new Desk(model);
  const show = (next: ComponentChildren) =>
    render(<Lab.Provider value={{ model, desk }}>{next}</Lab.Provider>, element);
  show(children);
  onTestFinished(() => {
    render(null, element);
    desk.close();
    element.remove();
    document.body.removeAttribute("data-jp-theme-light");
    document.body.removeAttribute("style");
    sessionStorage.clear();
  });
  const all = (selector: string) => [...element.querySelectorAll<HTMLElement>(selector)];
  const find = <E extends HTMLElement>(selector: string): E => {
    const found = all(selector);
    if (found.length !== 1) throw new Error(`${found.length} elements match ${selector}`);
    return found[0] as E;
  };
  return { element, show, find, all };
}
