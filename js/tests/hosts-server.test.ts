import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ServerModel } from "../src/hosts/server";
import { SETUP } from "../src/hosts/setup";
import { ask, FakeBus, FakeServer, json, newsOf } from "./host_kit";

let server: FakeServer;
let bus: FakeBus;
let model: ServerModel;
const ended: string[] = [];

beforeEach(() => {
  vi.useFakeTimers();
  server = new FakeServer();
  bus = new FakeBus();
  ended.length = 0;
  model = new ServerModel({
    request: server.request,
    urlOf: server.urlOf,
    events: bus,
    entry: "panel",
    more: SETUP,
    ended: (id) => ended.push(id),
  });
});

afterEach(async () => {
  model.dispose();
  await tick();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

const tick = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

const REQUEST = { config: {}, dataloader_config: [], provider: "", target: "", hardware_profile: "", config_name: "" };
const SUBMIT = { request: { ...REQUEST, destination: { kind: "home" } }, approve: "d1", key: "k1" };

test.each([
  [
    "jobs",
    { states: ["running", "queued"], text: "a b", sort: "-loss", limit: 25, offset: 50 },
    "GET",
    "/jobs?status=running%2Cqueued&text=a+b&sort=-loss&limit=25&offset=50",
  ],
  ["jobs", {}, "GET", "/jobs"],
  ["job", { job_id: "j1" }, "GET", "/jobs/j1?only=job"],
  ["detail", { job_id: "j1" }, "GET", "/jobs/j1"],
  ["deliveries", { job_id: "j1" }, "GET", "/jobs/j1/push"],
  ["events", { after: 3, job_id: "j1" }, "GET", "/jobs/j1/events?after=3"],
  ["log", { job_id: "j1", offset: 7 }, "GET", "/jobs/j1/logs?offset=7"],
  ["metrics", { job_id: "j1", points: 500 }, "GET", "/jobs/j1/metrics?points=500"],
  ["outputs", { job_id: "j1" }, "GET", "/jobs/j1/outputs"],
  ["cancel", { job_id: "j1" }, "POST", "/jobs/j1/cancel"],
  ["delete", { job_id: "j1", outputs: true }, "DELETE", "/jobs/j1?outputs=1"],
  ["providers", {}, "GET", "/providers"],
  ["consent", {}, "GET", "/data-consent/setting"],
  ["set_consent", { mode: "never" }, "PUT", "/data-consent/setting"],
  ["sync", { provider: "" }, "POST", "/jobs/sync"],
  ["receiving", {}, "GET", "/local-upload/config"],
  ["provider", { provider: "a/b" }, "GET", "/providers/a%2Fb"],
  ["set_provider", { provider: "replicate", config: { timeout_s: 20 } }, "PUT", "/providers/replicate"],
  ["set_token", { provider: "replicate", token: "r8_x" }, "PUT", "/providers/replicate/token"],
  ["delete_token", { provider: "replicate" }, "DELETE", "/providers/replicate/token"],
  ["validate", { provider: "replicate" }, "GET", "/providers/replicate/validate"],
  ["billing", { provider: "replicate" }, "GET", "/providers/replicate/billing"],
  ["test_webhook", { provider: "replicate", mode: "direct" }, "POST", "/providers/replicate/test-webhook"],
  ["job", { job_id: "../x?y" }, "GET", "/jobs/..%2Fx%3Fy?only=job"],
])("%s is a request", async (verb, args, method, path) => {
  await ask(model, verb, args);
  expect(server.asked.filter((asked) => !asked.path.startsWith("/events"))).toMatchObject([{ method, path }]);
});

test("what the panel alone asks has no route where its routes were not given", async () => {
  const bare = new ServerModel({ request: server.request, urlOf: server.urlOf, events: bus, entry: "widget" });
  expect(await ask(bare, "set_token", { provider: "replicate", token: "r8_x" })).toMatchObject({
    error: { code: "not_found" },
  });
  expect(server.asked.filter(({ path }) => path.includes("token"))).toEqual([]);
  bare.dispose();
});

test("a verb gives its part of the answer, an error is the lab's own", async () => {
  server.answers["/providers"] = () => json({ providers: [{ id: "local" }] });
  expect(await ask(model, "providers", {}, "q")).toEqual({ id: "q", value: [{ id: "local" }] });
  const problems = [{ path: "config.rank", message: "must be positive", hint: "" }];
  server.answers["/jobs/plan"] = () => json({ detail: "wrong", code: "invalid_config", hint: "see", problems }, 400);
  const refused = await ask(model, "plan", SUBMIT, "q");
  expect(refused).toEqual({ id: "q", error: { code: "invalid_config", detail: "wrong", hint: "see", problems } });
  expect(await ask(model, "no_such_verb", {})).toMatchObject({ error: { code: "not_found" } });
});

test("a picture is an address with each segment encoded", async () => {
  const answer = await ask(model, "picture", { job_id: "j1", path: "samples/a b/50%.png" });
  expect(answer).toMatchObject({ value: { src: "/base/api/cloud/jobs/j1/outputs/samples/a%20b/50%25.png" } });
});

test("503 with the lab's own words is an answer, not a broken line", async () => {
  server.answers["/providers"] = () => json({ detail: "not now", code: "provider_unavailable" }, 503);
  expect(await ask(model, "providers", {})).toMatchObject({ error: { code: "provider_unavailable" } });
  expect(model.get("connection")).toBe("live");
});

test.each(["down", "gateway", "mute"] as const)(
  "a server that is %s is lost, and found again by itself",
  async (mode) => {
    bus.turn(true);
    await tick();
    const news = newsOf(model);
    server.mode = mode;
    const answer = ask(model, "consent", {});
    await tick(30_000);
    expect(await answer).toMatchObject({ error: { code: "no_answer" } });
    expect(model.get("connection")).toBe("lost");
    await tick(60_000);
    const tries = server.paths("/health/live").length;
    expect(tries).toBeGreaterThanOrEqual(6);
    expect(tries).toBeLessThanOrEqual(15);
    const before = server.asked.length;
    expect(await ask(model, "consent", {})).toMatchObject({ error: { code: "no_answer" } });
    expect(server.asked.length).toBe(before);
    news.length = 0;
    server.mode = "up";
    await tick(13_000);
    expect(model.get("connection")).toBe("live");
    expect(news).toContain(null);
  },
);

test("a login that is gone is denied; a refusal of one thing is not", async () => {
  server.answers["/jobs/j1/cancel"] = () => json({ detail: "User is not authorized", code: "http_403" }, 403);
  expect(await ask(model, "cancel", { job_id: "j1" })).toMatchObject({ error: { code: "http_403" } });
  expect(model.get("connection")).toBe("live");
  server.mode = "denied";
  expect(await ask(model, "consent", {})).toMatchObject({ error: { code: "http_403" } });
  expect(model.get("connection")).toBe("denied");
  server.mode = "up";
  await tick(11_000);
  expect(model.get("connection")).toBe("live");
});

test("a page in place of JSON is a login page", async () => {
  server.answers["/providers"] = () => new Response("<form>", { status: 200 });
  server.answers["/data-consent/setting"] = () => json({ consent: "ask" });
  expect(await ask(model, "providers", {})).toHaveProperty("error");
  expect(model.get("connection")).toBe("live");
  expect(await ask(model, "consent", {})).toMatchObject({ value: { consent: "ask" } });
});

test("a submit whose answer is lost is sent again with the same key, at most twice", async () => {
  let fails = 1;
  server.answers["/jobs/submit"] = () => {
    if (fails-- > 0) throw new TypeError("Failed to fetch");
    return json({ job: { job_id: "j1" } }, 202);
  };
  const answer = ask(model, "submit", SUBMIT);
  await tick(2_000);
  expect(await answer).toMatchObject({ value: { job_id: "j1" } });
  const sent = server.asked.filter(({ path }) => path === "/jobs/submit");
  expect(sent.map(({ body }) => body)).toEqual([
    { ...SUBMIT.request, approve: "d1", idempotency_key: "k1", entry: "panel" },
    { ...SUBMIT.request, approve: "d1", idempotency_key: "k1", entry: "panel" },
  ]);
  fails = 99;
  const never = ask(model, "submit", SUBMIT);
  await tick(5_000);
  expect(await never).toMatchObject({ error: { code: "no_answer" } });
  expect(server.paths("/jobs/submit")).toHaveLength(2 + 3);
});

test("a submit is not sent after its asker was told that there was no answer", async () => {
  await tick();
  server.mode = "down";
  const answer = ask(model, "submit", SUBMIT);
  await tick(51_000);
  expect(await answer).toMatchObject({ error: { code: "no_answer" } });
  server.mode = "up";
  await tick(20_000);
  expect(server.paths("/jobs/submit")).toHaveLength(1);
});

test("the state is set, told and saved", async () => {
  const saved: string[] = [];
  const own = new ServerModel({
    request: server.request,
    urlOf: server.urlOf,
    events: bus,
    entry: "panel",
    state: { tab: "new" },
    save: (state) => saved.push(state.job_id),
  });
  const told = vi.fn();
  own.on("change:job_id", told);
  own.set("job_id", "j9");
  own.save_changes();
  expect([own.get("tab"), own.get("job_id"), saved, told.mock.calls.length]).toEqual(["new", "j9", ["j9"], 1]);
  own.dispose();
});

test("nothing is asked or told after dispose", async () => {
  bus.turn(true);
  await tick();
  server.mode = "down";
  await ask(model, "consent", {});
  const news = newsOf(model);
  model.dispose();
  expect(bus.connected).toBe(0);
  const before = server.asked.length;
  bus.emit({});
  await tick(60_000);
  expect([server.asked.length - before, news]).toEqual([0, []]);
});
