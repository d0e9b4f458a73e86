// A bundle for each kind of widget: simpletuner_lab/static/{submit,jobs,spend}.{js,css}. Their size is a promise: see size.mjs.
import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";
import { minify } from "terser";
import { leanUplot } from "./lean.mjs";
import { BUNDLES, checkSizes, STATIC } from "./size.mjs";

await build({
  entryPoints: BUNDLES.flatMap((name) => [`src/widgets/${name}.ts`, `src/widgets/${name}.css`]),
  outdir: STATIC,
  bundle: true,
  minify: true,
  target: "es2022",
  format: "esm",
  // h() needs no `children:` and no second runtime: 0.4 kB less than what tsconfig.json asks for
  tsconfigRaw: { compilerOptions: { target: "es2022", jsx: "react", jsxFactory: "h", jsxFragmentFactory: "Fragment" } },
  inject: ["scripts/jsx.mjs"],
  charset: "utf8",
  plugins: [leanUplot],
});
for (const name of BUNDLES) {
  const file = `${STATIC}/${name}.js`;
  const { code } = await minify(await readFile(file, "utf8"), {
    module: true,
    ecma: 2020,
    // `unsafe` says String(x) as x + "", RegExp without new, and the like: what it means was read once in the bundles
    compress: {
      passes: 3,
      pure_getters: true,
      unsafe: true,
      unsafe_arrows: true,
      keep_fargs: false,
      inline: 1,
      lhs_constants: false,
    },
  });
  await writeFile(file, code);
}

// Whose code is in a bundle wants its licence beside it.
const { dependencies } = JSON.parse(await readFile("package.json", "utf8"));
const licences = Object.keys(dependencies).map((name) => readFile(`node_modules/${name}/LICENSE`, "utf8"));
await writeFile(`${STATIC}/LICENSES.txt`, (await Promise.all(licences)).join("\n"));
checkSizes();
