/** JSON with the place of its first fault: browsers tell it each in their own way, or not at all. */

export interface Fault {
  line: number;
  column: number;
  kind: FaultKind;
}

export type FaultKind = "value" | "key" | "colon" | "comma" | "string" | "number" | "end" | "rest";

export type Read = { value: unknown; fault: null } | { value: null; fault: Fault };

/** The value of a JSON text, or where its first fault lies, counted from 1. */
export function readJson(text: string): Read {
  try {
    return { value: JSON.parse(text), fault: null };
  } catch {
    return { value: null, fault: faultIn(text) };
  }
}

/** Thrown inside the walk only: where the text stops being JSON, and what is wrong there. */
class Stop {
  constructor(
    readonly at: number,
    readonly kind: FaultKind,
  ) {}
}

const SPACE = /[ \t\n\r]*/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON refuses them in texts
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const WORD = /true|false|null/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.+-])/y;

function faultIn(text: string): Fault {
  let stop = new Stop(text.length, "end");
  try {
    const end = skip(text, value(text, skip(text, 0)));
    stop = new Stop(end, "rest");
  } catch (thrown) {
    if (!(thrown instanceof Stop)) throw thrown;
    stop = thrown;
  }
  const before = text.slice(0, stop.at).split("\n");
  return { line: before.length, column: before[before.length - 1].length + 1, kind: stop.kind };
}

function matched(pattern: RegExp, text: string, at: number): number | null {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : null;
}

function skip(text: string, at: number): number {
  return matched(SPACE, text, at) ?? at;
}

/** Where the value that begins at `at` ends. */
function value(text: string, at: number): number {
  const first = text[at];
  if (first === undefined) throw new Stop(at, "end");
  if (first === "{") return list(text, at, "}", member);
  if (first === "[") return list(text, at, "]", value);
  if (first === '"') return string(text, at);
  if (/[-\d.+]/.test(first)) return need(matched(NUMBER, text, at), at, "number");
  return need(matched(WORD, text, at), at, "value");
}

function list(text: string, start: number, close: string, item: (text: string, at: number) => number): number {
  let at = skip(text, start + 1);
  if (text[at] === close) return at + 1;
  for (;;) {
    at = skip(text, item(text, at));
    if (text[at] === close) return at + 1;
    if (text[at] !== ",") throw new Stop(at, text[at] === undefined ? "end" : "comma");
    at = skip(text, at + 1);
  }
}

function member(text: string, at: number): number {
  if (text[at] === undefined) throw new Stop(at, "end");
  if (text[at] !== '"') throw new Stop(at, "key");
  const colon = skip(text, string(text, at));
  if (text[colon] !== ":") throw new Stop(colon, text[colon] === undefined ? "end" : "colon");
  return value(text, skip(text, colon + 1));
}

function string(text: string, at: number): number {
  return need(matched(STRING, text, at), at, "string");
}

function need(end: number | null, at: number, kind: FaultKind): number {
  if (end === null) throw new Stop(at, kind);
  return end;
}
