import { expect, test } from "vitest";
import { Desk, type LabError } from "../src/ask";
import { MemoryModel, Refusal } from "../src/hosts/memory";

test("an answer comes to whoever asked, an error as a LabError", async () => {
  const model = new MemoryModel(
    {},
    {
      consent: () => ({ consent: "ask" }),
      job: () => {
        throw new Refusal("job_not_found", "there is no such job", "look at the list");
      },
    },
  );
  const desk = new Desk(model);
  expect(await desk.ask("consent", {})).toEqual({ consent: "ask" });
  const refused = (await desk.ask("job", { job_id: "x" }).catch((error) => error)) as LabError;
  expect([refused.code, refused.message, refused.hint]).toEqual([
    "job_not_found",
    "there is no such job",
    "look at the list",
  ]);
  desk.close();
  expect(model.listening).toBe(0);
});

test("silence ends in an error, and so does closing", async () => {
  const desk = new Desk(new MemoryModel({}, { consent: () => new Promise(() => undefined) }));
  await expect(desk.ask("consent", {}, 5)).rejects.toMatchObject({ code: "no_answer" });
  const open = desk.ask("consent", {});
  desk.close();
  await expect(open).rejects.toMatchObject({ code: "no_answer" });
});
