// Every sentence that can be translated, with its places: JSON on stdout, which tests/test_words.py reads. A sentence is
// the literal that `t("…")` is called with, or JupyterLab's bundle of our words, `trans.__("…")`. A call without a
// literal is `unclear`: nobody could find its words.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";

const ROOT = join(import.meta.dirname, "..");
const found = { words: {}, unclear: [] };

for (const name of readdirSync(join(ROOT, "src"), { recursive: true }).sort()) {
  if (/\.tsx?$/.test(name)) readSource(`src/${name}`);
}
process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);

function readSource(name) {
  const source = ts.createSourceFile(name, readFileSync(join(ROOT, name), "utf8"), ts.ScriptTarget.ES2022, true);
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
  return callee.getText() === "trans.__";
}
