/** The notebook server that a page came from, with the login that the page has; and the language it speaks. */

import type { Request } from "./line";

export interface PageServer {
  request: Request;
  urlOf: (path: string) => string;
  /** Where its event bus listens. */
  eventsUrl: string;
  /** Routes beside those that every host has. */
  more?: object;
}

/** What of a document is looked at. */
export interface Page {
  readonly location: { readonly href: string; readonly origin: string };
  readonly cookie: string;
  getElementById(id: string): { textContent: string | null } | null;
}

/** Null on a page that no Jupyter server made: VS Code, Colab, a saved HTML file. */
export function pageServer(page: Page = document): PageServer | null {
  const config = configOf(page);
  if (!config || typeof config.baseUrl !== "string") return null;
  const base = new URL(config.baseUrl.replace(/\/?$/, "/"), page.location.href);
  if (base.origin !== page.location.origin) return null;
  const token = typeof config.token === "string" ? config.token : "";
  const urlOf = (path: string) => `${base.href}api/cloud${path}`;
  return {
    urlOf,
    request: (path, init) => {
      const headers = new Headers(init.headers);
      const xsrf = /(?:^|; )_xsrf=([^;]*)/.exec(page.cookie)?.[1];
      if (xsrf) headers.set("X-XSRFToken", xsrf);
      if (token) headers.set("Authorization", `token ${token}`);
      return fetch(urlOf(path), { ...init, headers, credentials: "same-origin", cache: "no-store" });
    },
    eventsUrl: `${base.href.replace(/^http/, "ws")}api/events/subscribe`,
  };
}

/** Shared by all scripts of a page, of which each cell's widget is one of its own. */
const WORDS = Symbol.for("simpletuner-lab.words/1");
const shared = globalThis as { [WORDS]?: Record<string, string> };

/** The JupyterLab plugin tells the page its words; in JupyterLab and Notebook 7 it starts before any cell is drawn. */
export function shareWords(catalogue: Record<string, string>): void {
  shared[WORDS] = catalogue;
}

/** Words of the page's language for the English ones; null on a page without the plugin. */
export function pageWords(): Record<string, string> | null {
  return shared[WORDS] ?? null;
}

function configOf(page: Page): Record<string, unknown> | null {
  try {
    return JSON.parse(page.getElementById("jupyter-config-data")?.textContent ?? "null");
  } catch {
    return null;
  }
}
