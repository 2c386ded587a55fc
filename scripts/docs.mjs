// Writes the pages that are made from the sources: docs/map.md from the head comment of each file, docs/errors.md from
// the table of error codes. `--check` writes nothing and fails when a page is not what the sources say.
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import ts from "typescript";

const ROOT = join(import.meta.dirname, "..");
/** Folders on the map, with the ends of the names that count. */
const MAPPED = { src: ".ts", test: ".ts", bench: ".ts", scripts: ".mjs" };

/** The first paragraph of the comment that a file opens with, its lines joined. */
function purposeOf(text) {
  const body = text.replace(/^#!.*\n/, "").trimStart();
  const comment = /^\/\*\*?([\s\S]*?)\*\//.exec(body)?.[1] ?? /^(?:\/\/.*\n?)+/.exec(body)?.[0] ?? "";
  const lines = comment.split("\n").map((line) => line.replace(/^\s*(?:\/\/|\*)?\s?/, "").trim());
  return lines.join("\n").trim().split("\n\n")[0].replaceAll("\n", " ");
}

/** The first sentence of a text; a dot inside a name (`a.ts`) or after "e.g" ends none. */
function firstSentence(text) {
  return /^.*?[.?!](?=\s+[A-Z`"]|$)/.exec(text)?.[0] ?? text;
}

function renderMap() {
  const byFolder = new Map();
  for (const [top, end] of Object.entries(MAPPED)) {
    if (!existsSync(join(ROOT, top))) continue;
    for (const name of readdirSync(join(ROOT, top), { recursive: true }).sort()) {
      if (!name.endsWith(end)) continue;
      const path = join(top, name);
      const folder = dirname(path);
      const purpose = firstSentence(purposeOf(readFileSync(join(ROOT, path), "utf8")));
      byFolder.set(folder, [
        ...(byFolder.get(folder) ?? []),
        `- [\`${name.split("/").at(-1)}\`](../${path}): ${purpose}`,
      ]);
    }
  }
  const chapters = [...byFolder]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([folder, rows]) => `## ${folder}/\n\n${rows.join("\n")}`);
  return `# Map\n\nWhat each file is for, from its own first sentence. Made by \`npm run docs\`; do not edit.\n\n${chapters.join("\n\n")}\n`;
}

/** The exports of a source file that imports nothing; the test suite compares, so no build is needed first. */
async function loadTable(path) {
  const text = readFileSync(join(ROOT, path), "utf8");
  const { outputText } = ts.transpileModule(text, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  return await import(`data:text/javascript;base64,${Buffer.from(outputText).toString("base64")}`);
}

async function renderErrors() {
  const { EXIT, EXIT_MEANINGS, ERROR_CODES } = await loadTable("src/base/error-codes.ts");
  const exits = Object.entries(EXIT).map(([name, code]) => `| ${code} | ${EXIT_MEANINGS[name]} |`);
  const chapters = Object.entries(ERROR_CODES).map(
    ([code, { exit, meaning, hint }]) => `### ${code}\n\n${meaning} ${hint} Exit code ${exit}.`,
  );
  return `# Errors

Made by \`npm run docs\` from [\`src/base/error-codes.ts\`](../src/base/error-codes.ts); do not edit. Codes and exit codes are permanent: scripts and
alert rules may name them. An error on the command line reads \`holdfast: what failed: why (CODE). Fix: what to do.\`;
with \`--json\` it is \`{"error":{"code","message","hint","details"}}\`, and \`holdfast explain CODE\` shows the text below.

## Exit codes

| code | meaning |
| ---- | ------- |
${exits.join("\n")}

## Codes

${chapters.join("\n\n")}
`;
}

const pages = { "docs/map.md": renderMap(), "docs/errors.md": await renderErrors() };
for (const [path, text] of Object.entries(pages)) {
  const target = join(ROOT, path);
  if (existsSync(target) && readFileSync(target, "utf8") === text) continue;
  if (process.argv.includes("--check")) {
    console.error(`${path} is not what the sources say: run \`npm run docs\``);
    process.exitCode = 1;
  } else {
    writeFileSync(target, text);
    console.error(`wrote ${path}`);
  }
}
