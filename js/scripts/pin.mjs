// Pins every @jupyterlab package to the one release in core-meta: the family is released in lock step, and an unpinned
// resolve can mix releases. Run it after raising @jupyterlab/core-meta: node scripts/pin.mjs && npm run lock
import { readFileSync, writeFileSync } from "node:fs";

const pkg = JSON.parse(readFileSync("package.json", "utf8"));
const core = JSON.parse(readFileSync("node_modules/@jupyterlab/core-meta/core.package.json", "utf8"));
const direct = { ...pkg.dependencies, ...pkg.devDependencies };
pkg.overrides = Object.fromEntries(
  Object.entries(core.resolutions)
    .filter(([name]) => name.startsWith("@jupyterlab/") && !(name in direct))
    .map(([name, version]) => [name, version.replace(/^[~^]/, "")]),
);
pkg.overrides["@rspack/binding"] = "2.2.9";
writeFileSync("package.json", `${JSON.stringify(pkg, null, 2)}\n`);
