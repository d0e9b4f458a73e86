// Completes package-lock.json: npm leaves out what is made for other platforms where the registry at hand has not got it,
// and `npm ci` then refuses the lock everywhere. Such entries have no checksum. Run by `npm run lock`.
import { readFileSync, writeFileSync } from "node:fs";

const SYSTEMS = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"];
const lock = JSON.parse(readFileSync("package-lock.json", "utf8"));

/** What npm would have written, as far as a name such as `cli-linux-arm64-musl` tells. */
function entry(name, version, parent) {
  const parts = name.split(/[-/]/);
  const os = SYSTEMS.filter((system) => parts.includes(system));
  const cpu = parts.includes("arm64") ? ["arm64"] : ["x64"];
  const libc = parts.includes("musl") ? { libc: ["musl"] } : {};
  if (!os.length) throw new Error(`${name} does not say what it is made for`);
  return { version, cpu, ...(parent.dev && { dev: true }), ...libc, license: parent.license, optional: true, os };
}

const packages = { ...lock.packages };
for (const parent of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    if (/^\d/.test(version)) packages[`node_modules/${name}`] ??= entry(name, version, parent);
  }
}
const sorted = Object.entries(packages).sort(([one], [two]) => (one < two ? -1 : 1));
lock.packages = Object.fromEntries(sorted);
writeFileSync("package-lock.json", `${JSON.stringify(lock, null, 2)}\n`);
