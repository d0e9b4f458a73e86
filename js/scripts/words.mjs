// Every sentence that can be translated, as it stands in the sources: JSON on stdout, for tests/test_words.py.
// A sentence is the literal that `t("…")` or JupyterLab's `trans.__("…")` is called with; settings bring their titles.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

const ROOT = join(import.meta.dirname, "..");
/** JupyterLab looks settings up with this before them (gettext's context). */
const CONTEXTS = { schema: "schema\u0004", settings: "settings\u0004" };

const found = { words: {}, unclear: [] };

for (const name of readdirSync(join(ROOT, "src"), { recursive: true }).sort()) {
  if (/\.tsx?$/.test(name)) readSource(`src/${name}`);
}
process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);

function readSource(name) {
  const text = readFileSync(join(ROOT, name), "utf8");
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true);
  const visit = (node) => {
    if (ts.isCallExpression(node) && translates(node.expression)) {
      const where = `${name}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
      const [key] = node.arguments;
      if (key && ts.isStringLiteralLike(key)) found.words[key.text] = [...(found.words[key.text] ?? []), where];
      else found.unclear.push(where);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
}

function translates(callee) {
  if (ts.isIdentifier(callee)) return callee.text === "t";
  return ts.isPropertyAccessExpression(callee) && callee.name.text === "__";
}
