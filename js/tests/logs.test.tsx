import { expect, test } from "vitest";
import { userEvent } from "vitest/browser";
import { Logs } from "../src/components/logs/Logs";
import type { JobView } from "../src/contract";
import { MemoryModel } from "../src/hosts/memory";
import { LogFile, numbered } from "./log-file";
import { sampleJob } from "./samples";
import { type Stage, stage } from "./stage";

interface Shown extends Stage {
  model: MemoryModel;
  file: LogFile;
  box: HTMLElement;
  /** Prints, and says so as a host does. */
  print: (text: string) => void;
  texts: () => string[];
}

function shown(file: LogFile, over: Partial<JobView> = {}): Shown {
  const model = new MemoryModel({}, { log: (args) => file.read(args) });
  const job = () => sampleJob({ log_bytes: file.length, ...over });
  const on = stage(model, <Logs job={job()} />);
  const print = (text: string) => {
    file.print(text);
    on.show(<Logs job={job()} />);
    model.news({ job_id: job().job_id });
  };
  const texts = () => on.all(".stc-log-row").map((row) => row.textContent ?? "");
  return { ...on, model, file, box: on.find(".stc-log-box"), print, texts };
}

function button({ all }: Stage, name: string): HTMLButtonElement {
  const found = all("button").find((one) => one.textContent === name || one.ariaLabel === name);
  if (!found) throw new Error(`no button ${name}`);
  return found as HTMLButtonElement;
}

const lastText = (on: Shown) => on.texts().pop();
const following = (on: Shown) => button(on, "Follow").ariaPressed;

/** Whether a row with this text is within what the box shows. */
function inSight(on: Shown, text: string): boolean {
  const row = on.all(".stc-log-row").find((one) => one.textContent === text);
  if (!row) return false;
  const [inner, outer] = [row.getBoundingClientRect(), on.box.getBoundingClientRect()];
  return inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
}

test("200,000 lines are few elements, and the end is followed", async () => {
  const on = shown(new LogFile(numbered(0, 200_000)));
  await expect.poll(() => inSight(on, "line 199999")).toBe(true);
  expect(on.texts().length).toBeLessThan(200);
  on.print("line 200000\n");
  await expect.poll(() => inSight(on, "line 200000")).toBe(true);
  expect(following(on)).toBe("true");
});

test("scrolling up pauses, and the lines in sight stay where they are", async () => {
  const on = shown(new LogFile(numbered(0, 5000)));
  await expect.poll(() => inSight(on, "line 4999")).toBe(true);
  on.box.focus();
  on.box.scrollTop = 2000 * 18;
  await expect.poll(() => inSight(on, "line 2003")).toBe(true);
  await expect.poll(() => following(on)).toBe("false");
  on.print(numbered(5000, 6000));
  await expect.poll(() => on.find(".stc-log-foot").textContent).toMatch(/6,000 lines/);
  expect(inSight(on, "line 2003")).toBe(true);
  await userEvent.click(button(on, "Follow"));
  await expect.poll(() => inSight(on, "line 5999")).toBe(true);
  on.print("the end\n");
  await expect.poll(() => inSight(on, "the end")).toBe(true);
});

test("earlier lines are read on request, without moving those in sight", async () => {
  const on = shown(new LogFile(numbered(0, 60_000)));
  await expect.poll(() => inSight(on, "line 59999")).toBe(true);
  expect(on.find(".stc-log-earlier").textContent).toMatch(/^The first 386.7 kB are not read/);
  on.box.scrollTop = 0;
  await expect.poll(() => following(on)).toBe("false");
  await expect.poll(() => on.texts()[0]).toMatch(/^line \d+$/);
  const top = on.texts()[0];
  await userEvent.click(button(on, "Load earlier"));
  await expect.poll(() => on.box.scrollTop).toBeGreaterThan(10_000);
  await expect.poll(() => inSight(on, top)).toBe(true);
});

test("search counts, goes to and fro by keys, and reads backwards on request", async () => {
  const on = shown(new LogFile(`needle <b>at</b> the start\n${numbered(0, 40_000)}a Needle here\n${numbered(0, 300)}`));
  await expect.poll(() => inSight(on, "line 299")).toBe(true);
  await userEvent.click(on.find("input[type=search]"));
  let heard = 0;
  const listen = () => {
    heard += 1;
  };
  document.addEventListener("keydown", listen);
  await userEvent.keyboard("needle");
  await expect.poll(() => on.find(".stc-log-count").textContent).toBe("1 found");
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => inSight(on, "a Needle here")).toBe(true);
  expect(on.find(".stc-log-count").textContent).toBe("1 of 1");
  expect(on.all("mark").map((mark) => mark.textContent)).toEqual(["Needle"]);
  await userEvent.click(button(on, "Search earlier"));
  await expect.poll(() => inSight(on, "needle <b>at</b> the start")).toBe(true);
  expect(on.find(".stc-log-earlier").textContent).toBe("From the beginning.");
  expect(on.all("b").length).toBe(0);
  await userEvent.click(on.find("input[type=search]"));
  await userEvent.keyboard("{Enter}");
  await expect.poll(() => on.find(".stc-log-count").textContent).toBe("2 of 2");
  await userEvent.keyboard("{Shift>}{Enter}{/Shift}");
  await expect.poll(() => on.find(".stc-log-count").textContent).toBe("1 of 2");
  await userEvent.keyboard("{Escape}");
  await expect.poll(() => on.all("mark").length).toBe(0);
  document.removeEventListener("keydown", listen);
  expect(heard).toBe(0);
});

test("reports are hidden until asked for, a progress bar shows its last state, markup is text", async () => {
  const on = shown(
    new LogFile(
      'start\n::st 9f2c {"steps": [1]}\n  5%|#\r 50%|####\r100%|########\n<img src=x onerror="document.title=1">\n',
    ),
  );
  await expect.poll(() => on.texts()).toEqual(["start", "100%|########", '<img src=x onerror="document.title=1">']);
  expect(on.all("img").length).toBe(0);
  await userEvent.click(button(on, "Reports"));
  await expect.poll(() => on.texts()[1]).toBe('::st 9f2c {"steps": [1]}');
});

test("a line of a megabyte is cut, and shown whole on request", async () => {
  const on = shown(new LogFile(`before\n${"m".repeat(1_000_000)}\nafter\n`), { is_terminal: true });
  await userEvent.click(await expectButton(on, "Load earlier"));
  await userEvent.click(await expectButton(on, "Load earlier"));
  await userEvent.click(await expectButton(on, "Load earlier"));
  await expect
    .poll(() => on.texts().map((text) => text.length))
    .toEqual([6, 4000 + "… 1.0 MB line, show all".length, 5]);
  await userEvent.click(button(on, "… 1.0 MB line, show all"));
  expect(on.find<HTMLTextAreaElement>("textarea").value.length).toBe(1_000_000);
  await userEvent.click(button(on, "Close"));
  expect(on.all("textarea").length).toBe(0);
});

async function expectButton(on: Shown, name: string): Promise<HTMLButtonElement> {
  await expect
    .poll(() => on.all("button").some((one) => one.textContent === name && !(one as HTMLButtonElement).disabled))
    .toBe(true);
  return button(on, name);
}

test("wrapping shows long lines whole, in rows of one height", async () => {
  const on = shown(new LogFile(`${"abcdefghij".repeat(60)}\nlast\n`));
  await expect.poll(() => on.texts().length).toBe(2);
  expect(on.box.scrollWidth).toBeGreaterThan(on.box.clientWidth);
  await userEvent.click(button(on, "Wrap"));
  await expect.poll(() => on.texts().length).toBeGreaterThan(5);
  expect(on.texts().slice(0, -1).join("")).toBe("abcdefghij".repeat(60));
  expect(on.box.scrollWidth).toBe(on.box.clientWidth);
});

test("10,000 lines a second come in without long frames, and only what is held stays", async () => {
  const file = new LogFile();
  const on = shown(file);
  const frames: number[] = [];
  let running = true;
  let before = performance.now();
  const watch = (now: number) => {
    frames.push(now - before);
    before = now;
    if (running) requestAnimationFrame(watch);
  };
  requestAnimationFrame(watch);
  const text = "step 123 loss 0.1234 lr 1.00e-4 images 4.00 a second, about as long as a line is in a log";
  for (let tick = 0; tick < 30; tick += 1) {
    on.print(numbered(tick * 1000, (tick + 1) * 1000, text));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await expect.poll(() => inSight(on, `${text} 29999`)).toBe(true);
  running = false;
  frames.sort((a, b) => a - b);
  expect(frames[Math.floor(frames.length / 2)]).toBeLessThan(40);
  expect(lastText(on)).toBe(`${text} 29999`);
});

test("an empty log says so, and keeps its room", async () => {
  const on = shown(new LogFile());
  await expect.poll(() => on.find(".stc-log-empty").textContent).toBe("Nothing has been printed yet.");
  const height = on.element.offsetHeight;
  on.print("first\n");
  await expect.poll(() => on.texts()).toEqual(["first"]);
  expect(on.element.offsetHeight).toBe(height);
});
