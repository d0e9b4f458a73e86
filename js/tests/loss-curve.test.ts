import { describe, expect, test } from "vitest";
import { Desk } from "../src/ask";
import { Curve, gapsBetween, thin } from "../src/components/loss/curve";
import { Feed } from "../src/components/loss/feed";
import { tickWord } from "../src/components/loss/options";
import { rangeOf, wholeSpan } from "../src/components/loss/ranges";
import type { MetricsView } from "../src/contract";
import { MemoryModel, Refusal } from "../src/hosts/memory";
import { sampleCurve } from "./samples";

function view(step: number[], loss: (number | null)[], total = step.length): MetricsView {
  return { job_id: "a", total, step, loss, lr: step.map(() => 1), grad_norm: step.map(() => 1) };
}

function held(curve: Curve): [number, number][] {
  return Array.from({ length: curve.length }, (_, index) => [curve.step[index], curve.loss[index]]);
}

describe("taking in what is new", () => {
  const cases: { name: string; news: MetricsView; taken: boolean }[] = [
    { name: "the last point again and two more", news: view([3, 4, 5], [0.3, 0.4, 0.5], 5), taken: true },
    { name: "nothing new", news: view([3], [0.3], 3), taken: true },
    { name: "the last step with another loss", news: view([3, 4], [0.9, 0.4], 4), taken: false },
    { name: "a resume that went back and has not come as far", news: view([], [], 2), taken: false },
    { name: "a resume that went back and skipped the last step", news: view([4], [0.4], 3), taken: false },
    { name: "points that are missing", news: view([3, 9], [0.3, 0.9], 9), taken: false },
    { name: "points that are gone", news: view([3, 4], [0.3, 0.4], 3), taken: false },
  ];
  test.each(cases)("$name", ({ news, taken }) => {
    const curve = new Curve();
    curve.replace(view([1, 2, 3], [0.1, 0.2, 0.3]));
    expect(curve.after).toBe(2);
    const before = held(curve);
    expect(curve.extend(news)).toBe(taken);
    const added = news.step.slice(1).map((step, index): [number, number] => [step, news.loss[index + 1] ?? Number.NaN]);
    expect(held(curve)).toEqual(taken ? [...before, ...added] : before);
  });

  test("a thinned curve grows by what it lacks, and a missing number is NaN", () => {
    const curve = new Curve();
    curve.replace(view([1, 50, 100], [1, null, 2], 100));
    expect(curve.extend(view([100, 101], [2, null], 101))).toBe(true);
    expect(held(curve)).toEqual([
      [1, 1],
      [50, Number.NaN],
      [100, 2],
      [101, Number.NaN],
    ]);
    expect(gapsBetween(curve, 0, 200, 9)).toEqual([50, 101]);
    expect(curve.extend(view([101, 102], [null, 3], 102))).toBe(true);
  });
});

describe("smoothing", () => {
  const cases: { name: string; weight: number; step: number[]; loss: (number | null)[]; smooth: number[] }[] = [
    { name: "none", weight: 0, step: [1, 2, 3], loss: [4, 2, 1], smooth: [4, 2, 1] },
    { name: "half, debiased", weight: 0.5, step: [1, 2, 3], loss: [4, 1, 1], smooth: [4, 2, 10 / 7] },
    { name: "a gap changes nothing", weight: 0.5, step: [1, 2, 3], loss: [4, null, 4], smooth: [4, Number.NaN, 4] },
    { name: "steps apart weigh less", weight: 0.5, step: [1, 3], loss: [4, 0], smooth: [4, 0.5 / 0.875] },
  ];
  test.each(cases)("$name", ({ weight, step, loss, smooth }) => {
    const curve = new Curve(weight);
    curve.replace(view(step, loss));
    const found = [...curve.smooth.subarray(0, curve.length)];
    expect(found.map((value) => value.toFixed(9))).toEqual(smooth.map((value) => value.toFixed(9)));
  });

  test("bit by bit is as at once, and so is a changed weight", () => {
    const whole = sampleCurve(3000);
    const once = new Curve(0.97);
    once.replace(whole);
    const grown = new Curve(0.5);
    grown.replace(part(whole, 0, 10));
    for (let end = 20; end <= 3000; end += 10) expect(grown.extend(part(whole, end - 11, end))).toBe(true);
    grown.smoothBy(0.97);
    expect(grown.smooth.subarray(0, 3000)).toEqual(once.smooth.subarray(0, 3000));
  });
});

describe("thinning", () => {
  test("few points stay as they are, with a neighbour on either side", () => {
    const curve = new Curve();
    curve.replace(view([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]));
    expect([...thin(curve, "loss", 3, 4, 10).x]).toEqual([2, 3, 4, 5]);
    expect(thin(curve, "loss", 0, 9, 10).length).toBe(6);
    expect(thin(new Curve(), "loss", 0, 1, 10).length).toBe(0);
  });

  test("many points keep every stretch's smallest and largest, in order, within the room", () => {
    const curve = new Curve();
    const whole = sampleCurve(50_000);
    whole.loss[31_234] = 99;
    whole.loss[41_000] = -7;
    curve.replace(whole);
    const line = thin(curve, "loss", 1, 50_000, 800);
    const y = [...line.y.subarray(0, line.length)];
    const x = [...line.x.subarray(0, line.length)];
    expect(line.length).toBeLessThanOrEqual(1610);
    expect(Math.max(...y)).toBe(99);
    expect(Math.min(...y)).toBe(-7);
    expect(x.every((step, index) => index === 0 || step > x[index - 1])).toBe(true);
    const zoomed = thin(curve, "loss", 20_000, 30_000, 100);
    expect(zoomed.x[0]).toBe(19_999);
    expect(zoomed.x[zoomed.length - 1]).toBe(30_001);
  });

  test("a gap of more than a stretch lifts the pen", () => {
    const curve = new Curve();
    const whole = sampleCurve(10_000);
    for (let index = 4000; index < 5000; index += 1) whole.loss[index] = null;
    curve.replace(whole);
    const line = thin(curve, "loss", 1, 10_000, 100);
    const lifted = [...line.x.subarray(0, line.length)].filter((_, index) => Number.isNaN(line.y[index]));
    expect(lifted.length).toBeGreaterThan(5);
    expect(lifted.every((step) => step > 4000 && step <= 5000)).toBe(true);
  });
});

test("first, lowest and last are of numbers; the nearest point is found", () => {
  const curve = new Curve();
  expect(curve.summary()).toBeNull();
  curve.replace(view([10, 20, 30, 40], [null, 5, 3, null]));
  const summary = curve.summary();
  expect([summary?.first.step, summary?.lowest.step, summary?.last.step, summary?.gaps]).toEqual([20, 30, 30, 2]);
  expect([0, 14, 16, 34, 99].map((step) => curve.nearest(step))).toEqual([0, 0, 1, 2, 3]);
});

test.each([
  [0, "0"],
  [0.1, "0.1"],
  [0.0851, "0.0851"],
  [1e-4, "1e-4"],
  [7.5e-5, "7.5e-5"],
  [1200, "1200"],
  [null, ""],
])("at a tick of %d stands %j", (value, word) => {
  expect(tickWord(value)).toBe(word);
});

describe("what an axis shows", () => {
  const of = (loss: (number | null)[]) => {
    const curve = new Curve();
    curve.replace(
      view(
        loss.map((_, index) => index + 1),
        loss,
      ),
    );
    return thin(curve, "loss", 1, loss.length, 10);
  };
  const all: [number, number] = [1, 9];
  test.each<[string, (number | null)[], boolean, [number, number]]>([
    ["with a margin", [2, 4], false, [1.9, 4.1]],
    ["not below zero", [0.01, 1], false, [0, 1.0495]],
    ["one value", [2], false, [1.9, 2.1]],
    ["nothing", [], false, [0, 1]],
    ["a logarithm from a round value", [0.27, 0.61], true, [0.2, 0.635372]],
    ["a logarithm with two of them", [0.0851, 0.0854], true, [0.08, 0.09]],
    ["no logarithm of zero", [0, -1, 0.3, 20], true, [0.3, 24.673197]],
    ["no logarithm of nothing", [null, 0], true, [0.1, 1]],
  ])("%s", (_, loss, log, range) => {
    const found = rangeOf([of(loss)], all, log);
    expect(found.map((value) => Number(value.toFixed(6)))).toEqual(range);
  });

  test("steps of the longest curve, at least one step either side", () => {
    const trace = (step: number[]) => {
      const curve = new Curve();
      curve.replace(view(step, step));
      return { curve, column: "loss" as const, colour: "", width: 1 };
    };
    expect(wholeSpan([trace([5, 7]), trace([]), trace([2])])).toEqual([2, 7]);
    expect(wholeSpan([trace([5])])).toEqual([4, 6]);
    expect(wholeSpan([])).toEqual([0, 1]);
  });
});

describe("asking", () => {
  test("a glance, then all of it, then what is new; all of it again once steps were rewritten", async () => {
    let now = sampleCurve(5000);
    const model = new MemoryModel({}, { metrics: (args) => answer(now, args) });
    const desk = new Desk(model);
    const feed = new Feed(desk, now.job_id, 0.9, () => undefined);
    const asked = () => model.asked.map((question) => question.args as { points?: number; after_step?: number });
    feed.look();
    await expect.poll(() => feed.curve.length).toBe(5000);
    expect(asked().map((args) => args.points)).toEqual([2000, 100_000]);
    now = sampleCurve(5100, { loss: [...now.loss, ...Array(100).fill(0.5)] });
    feed.look();
    await expect.poll(() => feed.curve.length).toBe(5100);
    expect(asked()[2].after_step).toBe(4999);
    now = part(now, 0, 4000);
    feed.look();
    await expect.poll(() => feed.curve.length).toBe(4000);
    feed.close();
    desk.close();
  });

  test("an error is told and goes with the next answer", async () => {
    let broken = true;
    const model = new MemoryModel(
      {},
      {
        metrics: (args) => {
          if (broken) throw new Refusal("http_503", "not open yet");
          return answer(sampleCurve(3), args);
        },
      },
    );
    const desk = new Desk(model);
    const feed = new Feed(desk, "a", 0.9, () => undefined);
    feed.look();
    await expect.poll(() => feed.error?.code).toBe("http_503");
    broken = false;
    feed.look();
    await expect.poll(() => feed.curve.length).toBe(3);
    expect(feed.error).toBeNull();
    desk.close();
  });
});

function part(whole: MetricsView, from: number, to: number): MetricsView {
  const cut = <T>(column: T[]): T[] => column.slice(from, to);
  const { step, loss, lr, grad_norm } = whole;
  return { ...whole, total: to, step: cut(step), loss: cut(loss), lr: cut(lr), grad_norm: cut(grad_norm) };
}

/** As the lab answers: what came after a step, or every n-th point. */
function answer(whole: MetricsView, { points, after_step }: { points?: number; after_step?: number }): MetricsView {
  const stride = after_step === undefined ? Math.ceil(whole.step.length / (points ?? whole.step.length)) : 1;
  const keep = <T>(column: T[]): T[] =>
    column.filter((_, index) => index % stride === 0 && whole.step[index] > (after_step ?? -1));
  const { step, loss, lr, grad_norm } = whole;
  return { ...whole, step: keep(step), loss: keep(loss), lr: keep(lr), grad_norm: keep(grad_norm) };
}
