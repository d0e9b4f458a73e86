import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type CellModel, cellModel } from "../src/hosts/cell";
import { Listeners } from "../src/hosts/own";
import { shareWords } from "../src/hosts/page";
import type { Question } from "../src/model";
import { ask, FakeServer, json, newsOf } from "./host_kit";

/** anywidget's model, with a kernel that answers, is busy, or is gone. */
class FakeWidget extends Listeners {
  readonly sent: Question[] = [];
  kernel: "answers" | "silent" | "gone" = "answers";
  saved = 0;
  #state: Record<string, unknown>;

  constructor(state: Record<string, unknown> = {}) {
    super();
    this.#state = { lab: "0123456789abcdef", job_id: "j1", view: "job", job: { job_id: "j1" }, ...state };
  }

  get(key: string): unknown {
    return this.#state[key];
  }

  set(key: string, value: unknown): void {
    this.#state[key] = value;
    this.tell(`change:${key}`);
  }

  save_changes(): void {
    if (this.kernel === "gone") throw new Error("Cannot send");
    this.saved += 1;
  }

  send(question: Question): void {
    if (this.kernel === "gone") throw new Error("Cannot send");
    this.sent.push(question);
    if (this.kernel === "answers") {
      queueMicrotask(() => this.tell("msg:custom", { id: question.id, value: "from the kernel" }));
    }
  }
}

class DeadSocket {
  close(): void {}
}

let server: FakeServer;
let cell: CellModel;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", DeadSocket);
  server = new FakeServer();
  server.answers["/data-consent/setting"] = () => json({ consent: "ask" });
});

afterEach(async () => {
  cell.dispose();
  await tick();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const tick = (ms = 0) => vi.advanceTimersByTimeAsync(ms);

function open(widget: FakeWidget, page = true): CellModel {
  const place = { request: server.request, urlOf: server.urlOf, eventsUrl: "ws://page/api/events/subscribe" };
  cell = cellModel(widget, page ? place : null);
  return cell;
}

test("where the page's server runs the same lab, it answers and the kernel is left alone", async () => {
  const widget = new FakeWidget();
  widget.kernel = "silent";
  open(widget);
  const asked = ask(cell, "consent", {});
  expect(cell.get("job")).toEqual({ job_id: "j1" });
  await tick();
  expect(await asked).toMatchObject({ value: { consent: "ask" } });
  expect(widget.sent).toEqual([]);
});

test.each([
  ["another lab", () => new FakeWidget({ lab: "another" })],
  ["no lab named", () => new FakeWidget({ lab: "" })],
])("%s: the kernel answers", async (_, make) => {
  const widget = make();
  open(widget);
  const asked = ask(cell, "consent", {});
  await tick();
  expect(await asked).toMatchObject({ value: "from the kernel" });
});

test("a page without a server, and one whose server hangs: the kernel answers", async () => {
  open(new FakeWidget(), false);
  expect(await ask(cell, "consent", {})).toMatchObject({ value: "from the kernel" });
  cell.dispose();
  server.mode = "mute";
  open(new FakeWidget());
  const asked = ask(cell, "consent", {});
  await tick(2_900);
  const early = await Promise.race([asked, "nothing yet"]);
  await tick(200);
  expect([early, await asked]).toMatchObject(["nothing yet", { value: "from the kernel" }]);
});

test("traits are Python's too; the connection is the host's own", async () => {
  const widget = new FakeWidget();
  open(widget, false);
  const told = vi.fn();
  cell.on("change:digest", told);
  cell.set("digest", "d1");
  cell.set("connection", "lost");
  cell.save_changes();
  expect([widget.get("digest"), widget.get("connection"), widget.saved, told.mock.calls.length]).toEqual([
    "d1",
    undefined,
    1,
    1,
  ]);
  widget.set("digest", "from Python");
  expect([cell.get("digest"), cell.get("catalogue"), told.mock.calls.length]).toEqual(["from Python", {}, 2]);
});

test("the words are the page's, where JupyterLab has told it any and Python sends none", () => {
  shareWords({ Jobs: "Trabajos" });
  expect(open(new FakeWidget({ catalogue: {} }), false).get("catalogue")).toEqual({ Jobs: "Trabajos" });
  cell.dispose();
  expect(open(new FakeWidget({ catalogue: { Jobs: "Travaux" } }), false).get("catalogue")).toEqual({ Jobs: "Travaux" });
  shareWords({});
});

test("a kernel that is gone answers at once, and the page's server takes over when it is there", async () => {
  const widget = new FakeWidget();
  server.mode = "down";
  open(widget);
  await tick();
  widget.kernel = "gone";
  expect(await ask(cell, "consent", {})).toMatchObject({ error: { code: "no_answer" } });
  expect(cell.get("connection")).toBe("lost");
  cell.save_changes();
  server.mode = "up";
  const news = newsOf(cell);
  await tick(2_000);
  expect(cell.get("connection")).toBe("live");
  expect(news).toContain(null);
  expect(await ask(cell, "consent", {})).toMatchObject({ value: { consent: "ask" } });
});

test("a kernel that does not answer counts as lost; its questions go to the server once that is found", async () => {
  const widget = new FakeWidget();
  widget.kernel = "silent";
  server.mode = "down";
  open(widget);
  await tick();
  const asked = ask(cell, "consent", {});
  await tick(10_000);
  expect(cell.get("connection")).toBe("lost");
  server.mode = "up";
  await tick(10_000);
  expect(await asked).toMatchObject({ value: { consent: "ask" } });
});

test("a kernel that was only busy is live again with its first word", async () => {
  const widget = new FakeWidget();
  widget.kernel = "silent";
  open(widget, false);
  await tick();
  void ask(cell, "consent", {}, "q1");
  await tick(11_000);
  expect(cell.get("connection")).toBe("lost");
  const news = newsOf(cell);
  widget.tell("msg:custom", { news: { job_id: "j1", version: 3 } });
  expect([cell.get("connection"), news]).toEqual(["live", ["j1"]]);
});

test("reading a data set may take long", async () => {
  const widget = new FakeWidget();
  widget.kernel = "silent";
  open(widget, false);
  await tick();
  void ask(cell, "plan", {}, "q1");
  await tick(50_000);
  expect(cell.get("connection")).toBe("live");
});

test("nothing stays behind", async () => {
  const widget = new FakeWidget();
  open(widget);
  await tick(1_000);
  cell.dispose();
  expect(widget.count).toBe(0);
});
