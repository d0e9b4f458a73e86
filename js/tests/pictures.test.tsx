import { expect, test } from "vitest";
import { userEvent } from "vitest/browser";
import { Pictures } from "../src/components/pictures/Pictures";
import { deliveredPicture, pictureOf, safeSource, stagesOf } from "../src/components/pictures/series";
import type { EventView, JobView } from "../src/contract";
import { type Answers, MemoryModel, Refusal } from "../src/hosts/memory";
import { sampleEvent, sampleJob } from "./samples";
import { type Stage, stage } from "./stage";

function painted(seq: number, step: number, index: number, prompt = `prompt ${index}`): EventView {
  return sampleEvent(seq, "image", {
    step,
    index,
    prompt,
    key: `samples/step-${String(step).padStart(8, "0")}-${index}.png`,
  });
}

/** A picture of 64 by 64 pixels whose colour is its path's. */
function png(path: string): string {
  const canvas = document.createElement("canvas");
  canvas.width = 64;
  canvas.height = 64;
  const context = canvas.getContext("2d");
  if (context)
    context.fillStyle = `hsl(${[...path].reduce((sum, sign) => sum * 7 + sign.charCodeAt(0), 0) % 360} 60% 50%)`;
  context?.fillRect(0, 0, 64, 64);
  return canvas.toDataURL("image/png");
}

interface Shown extends Stage {
  model: MemoryModel;
  events: EventView[];
}

function shown(events: EventView[], over: Partial<JobView> = {}, answers: Answers = {}): Shown {
  const model = new MemoryModel(
    {},
    {
      events: ({ after }) => events.filter((event) => event.seq > after),
      picture: ({ path }) => ({ src: png(path) }),
      ...answers,
    },
  );
  return { model, events, ...stage(model, <Pictures job={sampleJob(over)} />) };
}

const stepOf = (on: Stage) => on.find(".stc-pictures-step").textContent;
const images = (on: Stage) => on.all("img:not([data-stale],[data-coming])") as HTMLImageElement[];

function button({ all }: Stage, name: string): HTMLButtonElement {
  const found = all("button").find((one) => one.textContent === name || one.ariaLabel === name);
  if (!found) throw new Error(`no button ${name}`);
  return found as HTMLButtonElement;
}

test("pictures stand by step and prompt; the later report of one file counts", () => {
  const events = [
    painted(5, 100, 1),
    painted(2, 0, 0),
    painted(4, 100, 0),
    painted(9, 100, 1),
    sampleEvent(3, "stage"),
  ];
  const stages = stagesOf(events.flatMap((event) => pictureOf(event) ?? []));
  expect(stages.map(({ step, pictures }) => [step, pictures.map(({ index, seq }) => [index, seq])])).toEqual([
    [0, [[0, 2]]],
    [
      100,
      [
        [0, 4],
        [1, 9],
      ],
    ],
  ]);
  const file = { path: "samples/step-00000100-2.png", bytes: 1, modified_at: "", sha256: "" };
  expect(deliveredPicture(file)).toMatchObject({ step: 100, index: 2 });
  expect(deliveredPicture({ ...file, path: "samples/../step-1-2.png" })).toBeNull();
});

test.each([
  ["javascript:alert(1)", false],
  ["data:image/svg+xml;base64,AAAA", false],
  ["data:text/html,<script>", false],
  ["data:image/png;base64,AAAA", true],
  ["/user/ann/api/cloud/jobs/1/outputs/a.png", true],
  ["http://127.0.0.1:8888/a.png", true],
])("%s may be shown: %s", (src, may) => {
  expect(safeSource(src) !== null).toBe(may);
});

test("the newest step is shown and followed, unless another was chosen", async () => {
  const on = shown([painted(1, 0, 0), painted(2, 0, 1), painted(3, 100, 0), painted(4, 100, 1)]);
  await expect.poll(() => images(on).map((image) => image.alt)).toEqual(["prompt 0, step 100", "prompt 1, step 100"]);
  expect(images(on)[0].dataset.pixels).toBe("true");
  expect(stepOf(on)).toBe("Step 100 2 of 2");
  on.events.push(painted(5, 200, 0), painted(6, 200, 1));
  on.model.news({ job_id: sampleJob().job_id });
  await expect.poll(() => stepOf(on)).toBe("Step 200 3 of 3");
  expect(on.model.asked.filter(({ verb }) => verb === "events").pop()?.args).toMatchObject({ after: 4 });
  on.find("input[type=range]").focus();
  await userEvent.keyboard("{ArrowLeft}");
  expect(stepOf(on)).toBe("Step 100 2 of 3");
  on.events.push(painted(7, 300, 0));
  on.model.news({ job_id: sampleJob().job_id });
  await expect.poll(() => stepOf(on)).toBe("Step 100 2 of 4");
  await userEvent.click(button(on, "Newest"));
  expect(stepOf(on)).toBe("Step 300 4 of 4");
  await expect.poll(() => images(on).map((image) => image.alt)).toEqual(["prompt 0, step 300"]);
  expect(on.model.asked.filter(({ verb }) => verb === "picture").length).toBeLessThanOrEqual(6);
});

test("the first step stands beside the chosen one, in boxes that do not move", async () => {
  const on = shown([painted(1, 0, 0), painted(2, 100, 0), painted(3, 200, 0)]);
  await expect.poll(() => images(on).length).toBe(1);
  await userEvent.click(button(on, "Beside the first"));
  await expect.poll(() => images(on).map((image) => image.alt)).toEqual(["prompt 0, step 0", "prompt 0, step 200"]);
  const height = on.element.offsetHeight;
  await userEvent.click(button(on, "Earlier pictures"));
  expect(on.element.offsetHeight).toBe(height);
  await expect.poll(() => images(on).map((image) => image.alt)).toEqual(["prompt 0, step 0", "prompt 0, step 100"]);
  expect(on.all(".stc-picture-label").map((label) => label.textContent)).toEqual(["Step 0", "Step 100"]);
});

test("markup in a caption is text", async () => {
  const caption = '<img src=x onerror="document.title=1"><b>cat</b>';
  const on = shown([painted(1, 0, 0, caption)]);
  await expect.poll(() => images(on).length).toBe(1);
  expect(on.find("figcaption").textContent).toBe(caption);
  expect(on.all("b").length).toBe(0);
  expect(on.all("img").length).toBe(1);
});

test("a picture that is not there yet is tried again", async () => {
  let there = false;
  const on = shown(
    [painted(1, 0, 0)],
    {},
    {
      picture: ({ path }) => {
        if (!there) throw new Refusal("output_not_found", "not yet");
        return { src: png(path) };
      },
    },
  );
  await expect.poll(() => on.model.asked.some(({ verb }) => verb === "picture")).toBe(true);
  there = true;
  await expect.poll(() => images(on).length, { timeout: 5000 }).toBe(1);
});

test("without pictures there is a word, and delivered files do where nothing was reported", async () => {
  const on = shown([]);
  await expect.poll(() => on.find("[role=status]").textContent).toMatch(/^No validation images yet/);
  const ended = shown(
    [],
    { status: "completed", is_terminal: true },
    {
      outputs: () => ({
        job_id: "a",
        folder: "/tmp",
        verified: true,
        outputs: [{ path: "samples/step-00000600-0.png", bytes: 10, modified_at: "", sha256: "" }],
      }),
    },
  );
  await expect.poll(() => ended.all("figcaption").map((caption) => caption.textContent)).toEqual(["Prompt 1"]);
});
