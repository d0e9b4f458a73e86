// How large the widgets' bundles are, packed: anywidget saves one in each notebook with a widget, so more is a fault.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

export const STATIC = "../simpletuner_lab/static";
export const BUNDLES = ["submit", "jobs", "spend"];
const LIMIT = 60_000;

/** Prints each bundle's size, and throws where one is over. */
export function checkSizes() {
  for (const name of BUNDLES) {
    const [js, css] = ["js", "css"].map((kind) => packed(readFileSync(`${STATIC}/${name}.${kind}`)));
    process.stdout.write(`${name}: ${js} B + ${css} B of styles = ${js + css} B gzip\n`);
    if (js + css > LIMIT) throw new Error(`the bundle ${name} is over ${LIMIT} B`);
  }
}

function packed(file) {
  return gzipSync(file, { level: 9 }).length;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) checkSizes();
