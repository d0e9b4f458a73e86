import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ServerModel } from "../src/hosts/server";
import { FakeBus, FakeServer, newsOf } from "./host_kit";

let server: FakeServer;
let bus: FakeBus;
let model: ServerModel;
let news: (string | null)[];
let hidden = false;
const ended: string[] = [];

beforeEach(async () => {
  vi.useFakeTimers();
  vi.spyOn(document, "hidden", "get").mockImplementation(() => hidden);
  hidden = false;
  ended.length = 0;
  server = new FakeServer();
  bus = new FakeBus();
  model = new ServerModel({
    request: server.request,
    urlOf: server.urlOf,
    events: bus,
    entry: "panel",
    ended: (id) => ended.push(id),
  });
  news = newsOf(model);
  await tick(1_000);
  news.length = 0;
});

afterEach(async () => {
  model.dispose();
  await tick();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
  vi.restoreAllMocks();
});

const tick = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

async function opened(): Promise<void> {
  bus.turn(true);
  await tick(1_000);
  news.length = 0;
  server.asked.length = 0;
}

const looks = () => server.paths("/events").length;

test("the first look asks only how far the lab is", () => {
  expect(server.paths("/events")).toEqual(["/events?after=0&limit=1"]);
});

test("an event of ours is news at once; those that follow come together; others are not ours", async () => {
  await opened();
  bus.emit({ version: 2 });
  expect(news).toEqual(["j1"]);
  for (let version = 3; version < 50; version++) bus.emit({ version });
  bus.emit({ job_id: "j2" });
  bus.emit({ schema_id: "https://events.jupyter.org/jupyter_server/contents_service/v1" });
  bus.emit({ job_id: 7 });
  expect(news).toEqual(["j1"]);
  await tick(100);
  expect(news).toEqual(["j1", "j1", "j2"]);
});

test("the end of a job is told, its deletion is not an end", async () => {
  await opened();
  bus.emit({ status: "completed", is_terminal: true });
  bus.emit({ job_id: "j2", status: "deleted", is_terminal: true });
  expect(ended).toEqual(["j1"]);
});

test("without a socket the lab is looked at every 2 s, more rarely while nobody sees it", async () => {
  server.asked.length = 0;
  await tick(10_000);
  expect(looks()).toBe(5);
  expect(news).toEqual([]);
  server.seq = 9;
  server.events = [{ job_id: "j3", data: { from: "running", to: "completed" } }];
  await tick(2_000);
  expect(news).toEqual([null]);
  expect(ended).toEqual(["j3"]);
  await tick(2_000);
  expect(server.paths("/events").at(-1)).toBe("/events?after=9&limit=200");
  hidden = true;
  await tick(2_000);
  server.asked.length = 0;
  await tick(30_000);
  expect(looks()).toBe(3);
  hidden = false;
  document.dispatchEvent(new Event("visibilitychange"));
  await tick();
  expect(looks()).toBe(4);
});

test("with the socket open it still looks, every 15 s", async () => {
  await opened();
  await tick(45_000);
  expect(looks()).toBe(3);
  expect(news).toEqual([]);
});

test("after a dropped connection it catches up by the number it knows", async () => {
  await opened();
  bus.turn(false);
  server.mode = "down";
  await tick(2_500);
  expect(model.get("connection")).toBe("lost");
  server.mode = "up";
  server.seq = 40;
  server.events = [{ job_id: "j1", data: { to: "failed" } }];
  await tick(5_000);
  bus.turn(true);
  await tick();
  expect(model.get("connection")).toBe("live");
  expect(news).toContain(null);
  expect(ended).toContain("j1");
  expect(server.paths("/events")).toContain("/events?after=1&limit=200");
});

test("a socket that lets a write pass by counts as closed until it is heard again", async () => {
  await opened();
  await tick(15_000);
  server.seq = 50;
  await tick(15_000);
  expect(news).toEqual([null]);
  server.asked.length = 0;
  await tick(10_000);
  expect(looks()).toBe(5);
  bus.emit({});
  await tick(2_000);
  server.asked.length = 0;
  await tick(30_000);
  expect(looks()).toBe(2);
});

test("news wait while nobody looks, and are one afterwards", async () => {
  await opened();
  model.rest(true);
  bus.emit({ version: 5 });
  await tick(200);
  bus.emit({ version: 6 });
  await tick(200);
  expect(news).toEqual([]);
  model.rest(false);
  expect(news).toEqual([null]);
  model.rest(true);
  model.rest(false);
  expect(news).toEqual([null]);
});
