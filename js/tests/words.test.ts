/** Words and numbers for people, in English and in the words of a catalogue. */

import { expect, test } from "vitest";
import { ago, bytes, duration, money, translator } from "../src/words";

const english = translator({});
const spanish = translator({
  "{h} h ago": "hace {h} h",
  "{min} min {s} s": "{min} minutos y {s} s",
  "under {price}": "menos de {price}",
  free: "gratis",
  "{count} bytes": "{count} octetos",
});

test("a catalogue's words come for the English ones, with the values in their places", () => {
  const t = translator({ "{page} of {pages}": "{pages} Seiten, die {page}.", Empty: "" });
  expect(t("{page} of {pages}", { page: 2, pages: 9 })).toBe("9 Seiten, die 2.");
  expect(t("Empty")).toBe("Empty");
  expect(t("{not} {known}", { known: "{not}" })).toBe("{not} {not}");
});

test.each([
  [0, "just now"],
  [59, "59 s ago"],
  [60, "1 min ago"],
  [3_600, "1 h ago"],
  [86_400, "yesterday"],
  [172_800, "2 d ago"],
  [604_800, new Date(0).toLocaleDateString()],
  [-5, "just now"],
])("%i s after it", (seconds, words) => {
  expect(ago(english, new Date(0).toISOString(), seconds * 1000)).toBe(words);
});

test.each([
  [null, "—"],
  [Number.NaN, "—"],
  [0, "0 s"],
  [59.6, "1 min"],
  [200, "3 min 20 s"],
  [3_600, "1 h"],
  [7_545, "2 h 5 min"],
])("a time of %s s", (seconds, words) => {
  expect(duration(english, seconds)).toBe(words);
});

test("units, prices and ages are translated like all else", () => {
  expect(ago(spanish, new Date(0).toISOString(), 7_200_000)).toBe("hace 2 h");
  expect(duration(spanish, 200)).toBe("3 minutos y 20 s");
  expect([money(spanish, null), money(spanish, 0), money(spanish, 0.001), money(spanish, 0.42)]).toEqual([
    "—",
    "gratis",
    "menos de $0.01",
    "$0.42",
  ]);
  expect([bytes(spanish, 999), bytes(spanish, 1_500)]).toEqual(["999 octetos", "1.5 kB"]);
});
