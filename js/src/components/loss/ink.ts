/** Colours of the theme as a canvas takes them, and word of when they change. */

import type { RefObject } from "preact";
import { useEffect } from "preact/hooks";

/** Names of the tokens that a chart draws with. */
export const INKS = [
  "text",
  "grid",
  "gap",
  "loss",
  "rate",
  "compared-0",
  "compared-1",
  "compared-2",
  "compared-3",
] as const;

export type Ink = Record<(typeof INKS)[number], string>;

/** Dash patterns of compared curves: told apart without their colours too. */
export const DASHES = [
  [7, 4],
  [2, 4],
  [10, 3, 2, 3],
  [4, 2],
];

/** Reads the colours from the samples of `samples`, one for each name. */
export function readInk(samples: HTMLElement): Ink {
  const entries = INKS.map((name, index) => [name, getComputedStyle(samples.children[index]).color]);
  return Object.fromEntries(entries) as Ink;
}

/** Calls back when the theme or the system's light and dark changed. */
export function useTheme(element: RefObject<Element | null>, changed: () => void): void {
  useEffect(() => {
    const body = element.current?.ownerDocument.body;
    if (!body) return;
    const observer = new MutationObserver(changed);
    observer.observe(body, { attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", changed);
    return () => {
      observer.disconnect();
      dark.removeEventListener("change", changed);
    };
  }, [element, changed]);
}
