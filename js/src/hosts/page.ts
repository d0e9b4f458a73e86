/** The notebook server that a page came from, with the login that the page has. */

import type { Request } from "./line";

export interface PageServer {
  request: Request;
  urlOf: (path: string) => string;
  /** Where its event bus listens. */
  eventsUrl: string;
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

function configOf(page: Page): Record<string, unknown> | null {
  try {
    return JSON.parse(page.getElementById("jupyter-config-data")?.textContent ?? "null");
  } catch {
    return null;
  }
}
