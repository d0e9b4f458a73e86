import { afterEach, expect, test, vi } from "vitest";
import { pageServer } from "../src/hosts/page";

const ORIGIN = "https://hub.example";

function page(config: unknown, cookie = "") {
  return {
    location: { href: `${ORIGIN}/user/ann/lab/tree/a.ipynb`, origin: ORIGIN },
    cookie,
    getElementById: (id: string) =>
      id === "jupyter-config-data" && config !== undefined ? { textContent: JSON.stringify(config) } : null,
  };
}

afterEach(() => {
  vi.unstubAllGlobals();
});

test.each([
  ["/user/ann/", `${ORIGIN}/user/ann/api/cloud/jobs`],
  ["/user/ann", `${ORIGIN}/user/ann/api/cloud/jobs`],
  ["/", `${ORIGIN}/api/cloud/jobs`],
  [`${ORIGIN}/user/ann/`, `${ORIGIN}/user/ann/api/cloud/jobs`],
])("base %s", (baseUrl, url) => {
  const found = pageServer(page({ baseUrl }));
  expect(found?.urlOf("/jobs")).toBe(url);
  expect(found?.eventsUrl).toBe(url.replace("https", "wss").replace("api/cloud/jobs", "api/events/subscribe"));
});

test.each([
  ["no config", undefined],
  ["another origin: the login stays here", { baseUrl: "https://elsewhere.example/" }],
  ["a config of somebody else's", { other: 1 }],
])("no server: %s", (_, config) => {
  expect(pageServer(page(config))).toBeNull();
});

test("the page's login goes along: the XSRF cookie as a header, and a token where the page has one", async () => {
  const sent: [string, RequestInit][] = [];
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    sent.push([url, init]);
    return new Response("{}");
  });
  const config = { baseUrl: "/user/ann/", token: "t0" };
  const server = pageServer(page(config, "_xsrf=2|abc; other=1"));
  await server?.request("/jobs", { method: "POST", headers: { "Content-Type": "application/json" } });
  const [[url, { headers, ...init }]] = sent;
  expect(url).toBe(`${ORIGIN}/user/ann/api/cloud/jobs`);
  expect(init).toMatchObject({ method: "POST", credentials: "same-origin" });
  expect(Object.fromEntries(new Headers(headers))).toEqual({
    authorization: "token t0",
    "content-type": "application/json",
    "x-xsrftoken": "2|abc",
  });
  await pageServer(page({ baseUrl: "/" }, "no_xsrf=1"))?.request("/jobs", {});
  expect(Object.fromEntries(new Headers(sent[1][1].headers))).toEqual({});
});
