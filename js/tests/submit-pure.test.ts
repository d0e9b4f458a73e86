/** What the form decides without a page: JSON's faults, spellings of options, ids of folders, places of problems. */

import { describe, expect, test } from "vitest";
import {
  chosenProvider,
  idOf,
  newKey,
  option,
  withCaptions,
  withFolder,
  withOption,
} from "../src/components/submit/draft";
import { readJson } from "../src/components/submit/json";
import { costText, rateText, timeText } from "../src/components/submit/plan_words";
import { placeOf } from "../src/components/submit/problems";
import { translator } from "../src/words";
import { sampleProvider, sampleProviders } from "./samples";

const t = translator({});

describe("JSON", () => {
  test.each([
    ['{\n  "a": 1,\n  "b" 2\n}', 3, 7, "colon"],
    ['{"a": 1 "b": 2}', 1, 9, "comma"],
    ['{\n  "a": 1,\n}', 3, 1, "key"],
    ["{a: 1}", 1, 2, "key"],
    ['{"a": }', 1, 7, "value"],
    ['{"a": True}', 1, 7, "value"],
    ['{"a": [1, 2', 1, 12, "end"],
    ['{"a": 1', 1, 8, "end"],
    ['{"a": "x\ny"}', 1, 7, "string"],
    ['{"a": "\\q"}', 1, 7, "string"],
    ['{"a": 01}', 1, 7, "number"],
    ['{"a": .5}', 1, 7, "number"],
    ['{"a": 1e}', 1, 7, "number"],
    ["{}\n\n x", 3, 2, "rest"],
    ["", 1, 1, "end"],
    ["[1, 2,]", 1, 7, "value"],
  ])("%j has its fault at line %i, column %i", (text, line, column, kind) => {
    expect(readJson(text).fault).toEqual({ line, column, kind });
  });

  test("what is JSON is read, and everything that the browser refuses has a place", () => {
    expect(readJson('{"a": [1, -2.5e3, "\\u00e9", null, {}]}').value).toEqual({ a: [1, -2500, "é", null, {}] });
    const good = '{"a": [1, -2.5e3, "x\\n", null, true, {"b": ""}]}';
    for (let at = 0; at < good.length; at += 1) {
      const { fault } = readJson(good.slice(0, at));
      expect(fault, good.slice(0, at)).not.toBeNull();
    }
  });
});

describe("options", () => {
  test("are read and written under the spelling they came with, and others stay as they are", () => {
    const config = { "--learning_rate": "1e-4", validation_prompts: ["a"], extra: { deep: 1 } };
    expect(option(config, "learning_rate")).toBe("1e-4");
    expect(withOption(config, "learning_rate", 2e-4)).toEqual({ ...config, "--learning_rate": 2e-4 });
    expect(withOption(config, "validation_prompt", "b")).toEqual({ ...config, validation_prompts: "b" });
    expect(withOption(config, "lora_rank", 4)).toEqual({ ...config, lora_rank: 4 });
    expect(withOption(config, "learning_rate", undefined)).toEqual({ validation_prompts: ["a"], extra: { deep: 1 } });
  });

  test("a prompt that was never written goes with its strategy", () => {
    const entry = { caption_strategy: "instanceprompt", instance_prompt: "" };
    expect(withCaptions(entry, "textfile")).toEqual({ caption_strategy: "textfile" });
    expect(withCaptions({ ...entry, instance_prompt: "a cat" }, "textfile").instance_prompt).toBe("a cat");
  });
});

describe("ids of data sets", () => {
  test.each([
    ["/home/ann/cats", [], "cats"],
    ["/home/ann/cats/", ["Cats"], "cats-2"],
    ["~/my pictures (1)", [], "my-pictures-1"],
    ["C:\\pics\\dogs", [], "dogs"],
    ["/…", [], "data"],
    ["", [], ""],
    [`/${"x".repeat(80)}`, ["x".repeat(64)], `${"x".repeat(62)}-2`],
  ])("%s beside %j is %s", (folder, others, id) => {
    expect(idOf(folder as string, others as string[])).toBe(id);
  });

  test("follow the folder until someone chooses one", () => {
    const made = withFolder([{ id: "", instance_data_dir: "" }], 0, "/a/cats");
    expect(made[0].id).toBe("cats");
    expect(withFolder(made, 0, "/a/dogs")[0].id).toBe("dogs");
    expect(withFolder([{ id: "mine", instance_data_dir: "/a/cats" }], 0, "/a/dogs")[0].id).toBe("mine");
  });
});

test.each([
  ["config.lora_rank", "config.lora_rank"],
  ["config.--lora_rank", "config.lora_rank"],
  ["config.validation_prompts[1]", "config.validation_prompt"],
  ["config.lora_rnak", "config"],
  ["config", "config"],
  ["dataloader[0].instance_data_dir", "data.0.folder"],
  ["dataloader[1].instance_prompt", "data.1.instance_prompt"],
  ["dataloader[1].crop_style", "dataloader"],
  ["dataloader[9].id", "dataloader"],
  ["dataloader.a.instance_data_dir", "data.0.folder"],
  ["dataloader.a.b", "data.1.folder"],
  ["dataloader.a.b.caption_strategy", "data.1.caption_strategy"],
  ["dataloader.unknown", "dataloader"],
  ["request.config_name", ""],
])("a problem at %s belongs to %s", (path, place) => {
  expect(placeOf(path, [{ id: "a" }, { id: "a.b" }])).toBe(place);
});

test("not known is never free", () => {
  const none = { seconds_low: null, seconds_high: null, usd_low: null, usd_high: null, basis: "" };
  expect([costText(t, none), timeText(t, none)]).toEqual(["Not known", "Not known"]);
  expect(costText(t, { ...none, usd_low: 0, usd_high: 0 })).toBe("Free");
  expect(costText(t, { ...none, usd_low: 0, usd_high: 0.5 })).toBe("up to $0.50");
  expect(costText(t, { ...none, usd_low: 0.1, usd_high: 0.25 })).toBe("$0.10 to $0.25");
  expect(costText(t, { ...none, usd_low: 0.001, usd_high: 0.002 })).toBe("under $0.01");
  expect(timeText(t, { ...none, seconds_low: 60, seconds_high: 120 })).toBe("1 min to 2 min");
  const rate = { hardware: "x", label: "X", usd_per_hour: null, as_of: "", source: "" };
  expect(rateText(t, rate)).toBe("price not known");
  expect(rateText(t, { ...rate, usd_per_hour: 0 })).toBe("free");
  expect(rateText(t, { ...rate, usd_per_hour: 3.5, as_of: "2026-01-05" })).toBe("$3.50 per hour, as of 2026-01-05");
});

test("without a choice it runs on this machine, where that can be used", () => {
  const [here, there, off, soon] = sampleProviders();
  expect(chosenProvider([there, here], "")).toBe(here);
  expect(chosenProvider([sampleProvider({ configured: false }), off, soon, there], "")).toBe(there);
  expect(chosenProvider([here, there], "replicate")).toBe(there);
  expect(chosenProvider([here], "gone")).toBeUndefined();
  expect(chosenProvider([soon], "")).toBeUndefined();
});

test("keys are new each time", () => {
  expect(newKey()).toMatch(/^[0-9a-f]{32}$/);
  expect(newKey()).not.toBe(newKey());
});
