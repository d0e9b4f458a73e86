import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { jupyterEvents } from "../src/hosts/jupyter_events";

const sockets: FakeSocket[] = [];

class FakeSocket {
  onopen: () => void = () => undefined;
  onclose: () => void = () => undefined;
  onmessage: (message: { data: unknown }) => void = () => undefined;
  closed = false;
  readonly url: string;

  constructor(url: string) {
    this.url = url;
    sockets.push(this);
  }

  close(): void {
    this.closed = true;
    this.onclose();
  }
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  sockets.length = 0;
});

afterEach(() => {
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const URL_OF_BUS = "ws://page/user/ann/api/events/subscribe";

function listen() {
  const heard: unknown[] = [];
  const states: boolean[] = [];
  const stop = jupyterEvents(URL_OF_BUS).connect(
    (event) => heard.push(event),
    (open) => states.push(open),
  );
  return { heard, states, stop };
}

test("all widgets of a page share one socket, which goes with the last of them", () => {
  const one = listen();
  sockets[0].onopen();
  const two = listen();
  expect([sockets.length, one.states, two.states]).toEqual([1, [true], [true]]);
  sockets[0].onmessage({ data: '{"schema_id": "x"}' });
  sockets[0].onmessage({ data: "not JSON" });
  expect([one.heard, two.heard]).toEqual([
    [{ schema_id: "x" }, null],
    [{ schema_id: "x" }, null],
  ]);
  one.stop();
  expect(sockets[0].closed).toBe(false);
  two.stop();
  expect(sockets[0].closed).toBe(true);
  const three = listen();
  expect(sockets.length).toBe(2);
  three.stop();
});

test("a dropped socket is opened again, ever more patiently", async () => {
  const { states, stop } = listen();
  sockets[0].onopen();
  sockets[0].onclose();
  expect(states).toEqual([true, false]);
  await vi.advanceTimersByTimeAsync(500);
  expect(sockets.length).toBe(2);
  for (let tries = 2; tries < 20; tries++) {
    sockets[sockets.length - 1].onclose();
    await vi.advanceTimersByTimeAsync(10_000);
  }
  expect(sockets.length).toBe(20);
  sockets[19].onopen();
  expect(states).toEqual([true, false, true]);
  sockets[19].onclose();
  await vi.advanceTimersByTimeAsync(500);
  expect(sockets.length).toBe(21);
  stop();
});

test("no socket is opened for nobody", async () => {
  const { stop } = listen();
  sockets[0].onclose();
  stop();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sockets.length).toBe(1);
});
