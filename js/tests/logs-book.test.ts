import { describe, expect, test } from "vitest";
import { Desk } from "../src/ask";
import { clean, LogBook, MOST_CHARACTERS, MOST_LINES } from "../src/components/logs/book";
import { Rows } from "../src/components/logs/rows";
import { Search, stretches } from "../src/components/logs/search";
import { STEP_BYTES, Tail } from "../src/components/logs/tail";
import { MemoryModel } from "../src/hosts/memory";
import { LogFile, numbered } from "./log-file";

function linesOf(book: LogBook): string[] {
  return Array.from({ length: book.lines }, (_, index) => book.line(book.first + index));
}

function fed(...pieces: string[]): LogBook {
  const book = new LogBook();
  for (const piece of pieces) book.append(piece, book.to + new TextEncoder().encode(piece).length);
  return book;
}

test.each([
  ["plain", "plain"],
  ["\u001b[1;31mred\u001b[0m and \u001b]0;title\u0007plain", "red and plain"],
  [" 10%|#   | 1/10\r 20%|##  | 2/10\r100%|####| 10/10", "100%|####| 10/10"],
  ["windows\r", "windows"],
  ["half\r\u001b[Kwhole\r\r", "whole"],
  ["<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"],
])("%j is shown as %j", (printed, shown) => {
  expect(clean(printed)).toBe(shown);
});

describe("a book", () => {
  test.each([
    [["one\ntwo\n"], ["one", "two"]],
    [
      ["one\ntw", "o", "\nthree\n"],
      ["one", "two", "three"],
    ],
    [
      [" 10%\r", " 20%\r 30%", "\r100%\ndone\n"],
      ["100%", "done"],
    ],
    [
      ["a\n\n", "\nb"],
      ["a", "", "", "b"],
    ],
    [
      ["héllo wörld ", "日本\nnext\n"],
      ["héllo wörld 日本", "next"],
    ],
  ])("pieces %j are lines %j", (pieces, lines) => {
    const book = fed(...pieces);
    expect(linesOf(book)).toEqual(lines);
    expect(book.characters).toBe(lines.join("").length);
    expect(book.to).toBe(new TextEncoder().encode(pieces.join("")).length);
  });

  test("grows backwards, and numbers stay with their lines", () => {
    const text = "first\nsecond line\nthird\nfourth\n";
    const book = new LogBook(12);
    book.append(text.slice(12), text.length);
    expect([linesOf(book), book.fragment]).toEqual([[" line", "third", "fourth"], 0]);
    book.prepend(text.slice(3, 12), 3);
    expect([linesOf(book), book.first, book.fragment]).toEqual([["st", "second line", "third", "fourth"], -1, -1]);
    expect(book.line(1)).toBe("third");
    book.prepend(text.slice(0, 3), 0);
    expect([linesOf(book), book.first, book.fragment]).toEqual([["first", "second line", "third", "fourth"], -1, null]);
  });

  test("one line read backwards and forwards is one line", () => {
    const book = new LogBook(4);
    book.append("ef", 6);
    book.prepend("cd", 2);
    book.append("gh", 8);
    book.prepend("ab", 0);
    book.append("\n", 9);
    expect(linesOf(book)).toEqual(["abcdefgh"]);
  });

  test("lets the oldest lines go, knows where the rest begins, and takes them back", () => {
    const file = new LogFile(numbered(0, 250_000, "é"));
    const book = new LogBook();
    while (book.to < file.length) {
      const chunk = file.read({ offset: book.to, limit: STEP_BYTES });
      book.append(chunk.logs, chunk.next_offset);
      book.trimFront();
    }
    expect(book.lines).toBeLessThanOrEqual(MOST_LINES);
    expect(book.line(book.first)).toBe(`é ${book.first}`);
    expect(book.line(book.end - 1)).toBe("é 249999");
    expect(book.lines).toBeGreaterThan(MOST_LINES - 40_000);
    while (!book.full) {
      const { first, from } = book;
      const before = file.read({ offset: from - 100_000, limit: 100_000 });
      expect(before.next_offset).toBe(from);
      book.prepend(before.logs, from - 100_000);
      expect(book.line(first - 1)).toBe(`é ${first - 1}`);
      expect(book.line(first)).toBe(`é ${first}`);
    }
    book.trimBack();
    expect(book.end).toBeLessThan(250_000);
    expect(file.read({ offset: book.to, limit: 100 }).logs).toMatch(new RegExp(`^é ${book.end}\n`));
  });

  test("is bounded in characters too", () => {
    const book = new LogBook();
    for (let count = 0; count < 40; count += 1) {
      book.append(`${"x".repeat(999_999)}\n`, book.to + 1_000_000);
      book.trimFront();
    }
    expect(book.characters).toBeLessThanOrEqual(MOST_CHARACTERS);
    expect(book.end).toBe(40);
  });
});

describe("rows", () => {
  const report = '::st 9f2c {"steps": 1}';
  test("reports are left out, long lines wrapped, and places found again", () => {
    const book = fed(`one\n${report}\n${"x".repeat(45)}\nlast\n`);
    expect(new Rows(book, { reports: true, columns: 0 }).total).toBe(4);
    const rows = new Rows(book, { reports: false, columns: 20 });
    expect(rows.total).toBe(5);
    expect(rows.slice(0, 9).map(({ line, start, end }) => line.slice(start, end))).toEqual([
      "one",
      "x".repeat(20),
      "x".repeat(20),
      "x".repeat(5),
      "last",
    ]);
    expect(rows.placeOf(2)).toEqual({ number: 2, part: 1 });
    expect(rows.rowOf({ number: 2, part: 1 })).toBe(2);
    expect(rows.rowOf({ number: 1, part: 0 })).toBe(1);
    expect(rows.rowOf({ number: 99, part: 0 })).toBe(5);
    book.append("more\n", 200);
    expect(rows.slice(5, 9).map(({ line }) => line)).toEqual(["more"]);
  });

  test("a line of a megabyte is one row that says how much is not shown", () => {
    const rows = new Rows(fed(`${"y".repeat(1_000_000)}\n`), { reports: false, columns: 0 });
    expect(rows.slice(0, 5)).toMatchObject([{ start: 0, end: 4000, hidden: 996_000 }]);
  });

  test("any window of many rows is what a plain list has", () => {
    const texts = Array.from({ length: 5000 }, (_, at) => (at % 7 === 0 ? report : `${at} ${"z".repeat(at % 90)}`));
    const book = new LogBook();
    for (let at = 0; at < texts.length; at += 100) {
      const piece = `${texts.slice(at, at + 100).join("\n")}\n`;
      book.append(piece, book.to + piece.length);
    }
    const plain = texts.flatMap((text) => (text === report ? [] : (text.match(/.{1,30}/g) ?? [""])));
    const rows = new Rows(book, { reports: false, columns: 30 });
    expect(rows.total).toBe(plain.length);
    for (let at = 0; at < plain.length; at += 331) {
      const found = rows.slice(at, 40);
      expect(found.map(({ line, start, end }) => line.slice(start, end))).toEqual(plain.slice(at, at + 40));
      expect(rows.rowOf(rows.placeOf(at))).toBe(at);
    }
  });
});

describe("search", () => {
  test("finds what is held, what comes and what is read before it", () => {
    const book = new LogBook(100);
    book.append("Alpha\nbeta\nALPHA beta\n", 123);
    const search = new Search("alpha", false);
    while (search.advance(book, 5));
    expect(search.found).toEqual([0, 2]);
    book.append("gamma alpha", 134);
    book.prepend("alpha\nnot\n", 90);
    while (search.advance(book, 5));
    expect(search.found).toEqual([-2, 0, 2]);
    book.append("\n", 135);
    search.advance(book, 5);
    expect(search.found).toEqual([-2, 0, 2, 3]);
  });

  test("marks are cut at a row's ends, and signs are only signs", () => {
    const { pattern } = new Search("a.(b", false);
    const cut = (start: number, end: number) => stretches("xxa.(byyA.(B", start, end, pattern);
    expect(
      cut(0, 12)
        .filter(({ marked }) => marked)
        .map(({ text }) => text),
    ).toEqual(["a.(b", "A.(B"]);
    expect(cut(0, 4)).toEqual([
      { text: "xx", marked: false },
      { text: "a.", marked: true },
    ]);
    expect(cut(4, 8)).toEqual([
      { text: "(b", marked: true },
      { text: "yy", marked: false },
    ]);
  });
});

describe("a tail", () => {
  function read(file: LogFile): { tail: Tail; desk: Desk } {
    const desk = new Desk(new MemoryModel({}, { log: (args) => file.read(args) }));
    return { desk, tail: new Tail(desk, "a", file.length, () => undefined) };
  }

  test("begins near the end and goes back step by step to the beginning", async () => {
    const file = new LogFile(numbered(0, 60_000));
    const { tail, desk } = read(file);
    tail.look(file.length);
    await expect.poll(() => tail.book.to).toBe(file.length);
    expect(tail.book.from).toBe(file.length - STEP_BYTES);
    while (tail.book.from > 0) await tail.earlier();
    expect(tail.book.lines).toBe(60_000);
    expect(linesOf(tail.book)).toEqual(numbered(0, 60_000).split("\n").slice(0, -1));
    desk.close();
  });

  test("a line longer than a step is read whole", async () => {
    const file = new LogFile(`first\n${"w".repeat(1_000_000)}\nlast\n`);
    const { tail, desk } = read(file);
    tail.look(file.length);
    while (tail.book.from > 0) await tail.earlier();
    await expect.poll(() => linesOf(tail.book).map((line) => line.length)).toEqual([5, 1_000_000, 4]);
    desk.close();
  });

  test("far behind it begins anew at the end", async () => {
    const file = new LogFile(numbered(0, 1000));
    const { tail, desk } = read(file);
    tail.look(file.length);
    await expect.poll(() => tail.book.lines).toBe(1000);
    file.print(numbered(1000, 600_000));
    tail.look(file.length);
    await expect.poll(() => tail.book.line(tail.book.end - 1)).toBe("line 599999");
    expect(tail.book.from).toBeGreaterThan(4_000_000);
    desk.close();
  });

  test("gone back so far that the newest lines went, it waits until it shall follow again", async () => {
    const file = new LogFile(numbered(0, 350_000));
    const { tail, desk } = read(file);
    tail.look(file.length);
    await expect.poll(() => tail.book.to).toBe(file.length);
    while (!tail.behind) await tail.earlier();
    expect(tail.book.lines).toBeLessThanOrEqual(MOST_LINES);
    const { to } = tail.book;
    file.print("the end\n");
    tail.look(file.length);
    tail.look(file.length);
    expect(tail.book.to).toBe(to);
    tail.follow();
    await expect.poll(() => tail.book.line(tail.book.end - 1)).toBe("the end");
    expect(tail.behind).toBe(false);
    desk.close();
  });
});
