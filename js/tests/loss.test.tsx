import { expect, test } from "vitest";
import { userEvent } from "vitest/browser";
import { Loss } from "../src/components/loss/Loss";
import type { JobView, MetricsView } from "../src/contract";
import { MemoryModel } from "../src/hosts/memory";
import { sampleCurve, sampleJob } from "./samples";
import { type Stage, stage } from "./stage";

const JOB = sampleJob();

function shown(
  curve: MetricsView,
  others: { job: JobView; curve: MetricsView }[] = [],
): Stage & { model: MemoryModel } {
  const model = new MemoryModel(
    {},
    {
      metrics: ({ job_id, after_step = 0 }) => {
        const whole = others.find((other) => other.job.job_id === job_id)?.curve ?? held.curve;
        return after_step ? tail(whole, after_step) : whole;
      },
      jobs: () => ({ total: 1 + others.length, jobs: [JOB, ...others.map((other) => other.job)] }),
    },
  );
  held.curve = curve;
  return { model, ...stage(model, <Loss job={JOB} />) };
}
const held = { curve: sampleCurve(1) };

function tail(whole: MetricsView, after: number): MetricsView {
  const from = whole.step.findIndex((step) => step > after);
  const cut = <T,>(column: T[]): T[] => (from < 0 ? [] : column.slice(from));
  return {
    ...whole,
    step: cut(whole.step),
    loss: cut(whole.loss),
    lr: cut(whole.lr),
    grad_norm: cut(whole.grad_norm),
  };
}

/** The picture in the plotting area, as something that can be compared. */
function picture({ all }: Stage): string {
  return (all("canvas")[0] as HTMLCanvasElement | undefined)?.toDataURL() ?? "";
}

/** A picture that stays as it is for a few frames. */
async function settled(on: Stage): Promise<string> {
  let before = "";
  await expect
    .poll(() => {
      const now = picture(on);
      const same = now === before && now !== "";
      before = now;
      return same;
    })
    .toBe(true);
  return before;
}

function inked({ all }: Stage): number {
  const canvas = all("canvas")[0] as HTMLCanvasElement;
  const { data } = canvas.getContext("2d")?.getImageData(80, 10, canvas.width - 200, canvas.height - 60) ?? {
    data: [],
  };
  let count = 0;
  for (let index = 0; index < data.length; index += 4) if (data[index + 3] > 200) count += 1;
  return count;
}

function button({ all }: Stage, name: string): HTMLElement {
  const found = all("button").find((one) => one.textContent?.startsWith(name));
  if (!found) throw new Error(`no button ${name}`);
  return found;
}

const value = ({ all }: Stage, at: number) => all(".stc-loss-readout dd")[at].textContent;

test("a curve is drawn, and scale, smoothing and learning rate change the picture", async () => {
  const on = shown(sampleCurve(500));
  const first = await settled(on);
  expect(inked(on)).toBeGreaterThan(500);
  expect(value(on, 0)).toBe("500");
  await userEvent.click(button(on, "Log scale"));
  const log = await settled(on);
  expect(log).not.toBe(first);
  await userEvent.click(button(on, "Learning rate"));
  const without = await settled(on);
  expect(without).not.toBe(log);
  on.find("input[type=range]").focus();
  await userEvent.keyboard("{Home}");
  await expect.poll(() => on.find("output").textContent).toBe("0.00");
  expect(await settled(on)).not.toBe(without);
  expect(value(on, 1)).toBe(value(on, 2));
});

test("dragging zooms in, Escape and the button show all again", async () => {
  const on = shown(sampleCurve(1000));
  const whole = await settled(on);
  const over = on.find(".u-over");
  const drag = () =>
    userEvent.dragAndDrop(over, over, { sourcePosition: { x: 100, y: 50 }, targetPosition: { x: 200, y: 60 } });
  await drag();
  await expect.poll(() => on.all("button").some((one) => one.textContent === "Reset zoom")).toBe(true);
  const zoomed = await settled(on);
  expect(zoomed).not.toBe(whole);
  await userEvent.click(button(on, "Reset zoom"));
  expect(await settled(on)).not.toBe(zoomed);
  await drag();
  await expect.poll(() => on.all("button").some((one) => one.textContent === "Reset zoom")).toBe(true);
  on.find(".stc-loss-plot").focus();
  await userEvent.keyboard("{Escape}");
  await expect.poll(() => on.all("button").some((one) => one.textContent === "Reset zoom")).toBe(false);
});

test("keys move the cursor, and the reader is told where it is", async () => {
  const on = shown(sampleCurve(100));
  await settled(on);
  const plot = on.find(".stc-loss-plot");
  plot.focus();
  let heard = 0;
  const listen = () => {
    heard += 1;
  };
  document.addEventListener("keydown", listen);
  await userEvent.keyboard("{Home}{ArrowRight}{ArrowRight}");
  document.removeEventListener("keydown", listen);
  expect(heard).toBe(0);
  expect(value(on, 0)).toBe("3");
  expect(plot.getAttribute("aria-valuenow")).toBe("3");
  expect(plot.getAttribute("aria-valuetext")).toMatch(/^Step 3: loss 0\.\d+, smoothed/);
  expect(on.find(".stc-loss-dot").hidden).toBe(false);
  await userEvent.keyboard("+");
  await expect.poll(() => on.all("button").some((one) => one.textContent === "Reset zoom")).toBe(true);
  const described = document.getElementById(plot.getAttribute("aria-describedby") ?? "");
  expect(described?.textContent).toMatch(/^Loss from step 1 to step 100: first .*, lowest .* at step \d+, last/);
});

test("the pointer moves the cursor, and the latest values are back once it has left", async () => {
  const on = shown(sampleCurve(100));
  await settled(on);
  const over = on.find(".u-over");
  const line = on.find(".u-cursor-x");
  expect(line.classList.contains("u-off")).toBe(true);
  await userEvent.hover(over, { position: { x: over.clientWidth * 0.4, y: 50 } });
  await expect.poll(() => value(on, 0)).toBe("41");
  expect(line.classList.contains("u-off")).toBe(false);
  await expect.poll(() => on.find(".stc-loss-dot").hidden).toBe(false);
  await userEvent.unhover(over);
  await expect.poll(() => value(on, 0)).toBe("100");
  expect(line.classList.contains("u-off")).toBe(true);
});

test("where keys put the cursor it stays while the curve grows", async () => {
  const on = shown(sampleCurve(100));
  await settled(on);
  const plot = on.find(".stc-loss-plot");
  plot.focus();
  await userEvent.keyboard("{ArrowLeft}");
  expect(value(on, 0)).toBe("99");
  const place = () => on.find(".u-cursor-x").style.transform;
  await expect.poll(place).toMatch(/translate\(\d{3,}px/);
  const before = place();
  held.curve = sampleCurve(200, { loss: [...held.curve.loss, ...Array(100).fill(0.3)] });
  held.curve.lr = sampleCurve(100).lr.concat(Array(100).fill(1e-4));
  on.model.news({ job_id: JOB.job_id });
  await expect.poll(() => plot.getAttribute("aria-valuemax")).toBe("200");
  await expect.poll(place).not.toBe(before);
  expect(value(on, 0)).toBe("99");
});

test("what is new is drawn at news, gaps are told", async () => {
  const on = shown(sampleCurve(100));
  const before = await settled(on);
  held.curve = sampleCurve(120, { loss: [...held.curve.loss, ...Array(19).fill(0.3), null] });
  held.curve.lr = sampleCurve(100).lr.concat(Array(20).fill(1e-4));
  on.model.news({ job_id: JOB.job_id });
  await expect.poll(() => value(on, 0)).toBe("120");
  expect(await settled(on)).not.toBe(before);
  expect(on.find(".stc-loss-gaps").textContent).toMatch(/1 step is not a number/);
  expect(on.model.asked[on.model.asked.length - 1].args).toMatchObject({ after_step: 99 });
});

test("other runs are drawn beside it, four at most", async () => {
  const others = [1, 2, 3, 4, 5].map((index) => ({
    job: sampleJob({ job_id: `other-${index}`, config_name: `<b>run ${index}</b>` }),
    curve: sampleCurve(300, { job_id: `other-${index}`, loss: Array(300).fill(index / 10) }),
  }));
  const on = shown(sampleCurve(500), others);
  const alone = await settled(on);
  await userEvent.click(button(on, "Compare"));
  await expect.poll(() => on.all("input[type=checkbox]").length).toBe(5);
  expect(on.all("b").length).toBe(0);
  for (let index = 0; index < 4; index += 1) await userEvent.click(on.all("input[type=checkbox]")[index]);
  expect((on.all("input[type=checkbox]")[4] as HTMLInputElement).disabled).toBe(true);
  await expect
    .poll(() => on.all(".stc-loss-legend .stc-number").map((one) => one.textContent))
    .toEqual(["0.1", "0.2", "0.3", "0.4"]);
  const dashes = on.all(".stc-loss-legend line").map((line) => line.getAttribute("stroke-dasharray"));
  expect(new Set(dashes).size).toBe(4);
  const beside = await settled(on);
  expect(beside).not.toBe(alone);
  await userEvent.click(button(on, "Remove"));
  await expect.poll(() => on.all(".stc-loss-legend li").length).toBe(3);
});

test("an empty curve keeps its room, and the theme redraws", async () => {
  const on = shown(sampleCurve(0));
  await expect.poll(() => on.find(".stc-loss-empty").textContent).toBe("Waiting for the first step");
  const height = on.element.offsetHeight;
  held.curve = sampleCurve(200);
  on.model.news({ job_id: JOB.job_id });
  await expect.poll(() => on.all(".stc-loss-empty").length).toBe(0);
  expect(on.element.offsetHeight).toBe(height);
  const light = await settled(on);
  document.body.style.setProperty("--jp-layout-color1", "#111");
  document.body.style.setProperty("--jp-ui-font-color1", "#fff");
  document.body.dataset.jpThemeLight = "false";
  await expect.poll(() => picture(on) !== light).toBe(true);
});

test("a saved curve is drawn though nobody answers", async () => {
  const curve = sampleCurve(300);
  const model = new MemoryModel({ curve }, { metrics: () => new Promise(() => undefined) });
  const on = { ...stage(model, <Loss job={JOB} />), model };
  await settled(on);
  expect(inked(on)).toBeGreaterThan(300);
  expect(value(on, 0)).toBe("300");
});

test("out of sight nothing is asked; back in sight the curve catches up", async () => {
  const on = shown(sampleCurve(100));
  await settled(on);
  on.element.style.marginTop = "5000px";
  await new Promise((resolve) => setTimeout(resolve, 100));
  const asked = on.model.asked.length;
  held.curve = sampleCurve(100, { loss: sampleCurve(100).loss.map(() => 0.5) });
  on.model.news({ job_id: JOB.job_id });
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(on.model.asked.length).toBe(asked);
  on.element.style.marginTop = "0";
  await expect.poll(() => value(on, 1)).toBe("0.5");
});
