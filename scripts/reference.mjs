// Writes the pages that are made from the built program: docs/commands.md from the commands, docs/configuration.md and
// config/holdfast.schema.json from the schema of the configuration. The tests fail when one of them is out of date.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const BUILT = join(process.env.HOLDFAST_BUILD ?? join(ROOT, "dist"), "src");
const { allCommands } = await import(join(BUILT, "cli/program.js"));
const { commandReference } = await import(join(BUILT, "cli/reference.js"));
const { configJsonSchema } = await import(join(BUILT, "config/json-schema.js"));
const { configReference } = await import(join(BUILT, "config/reference.js"));

const pages = {
  "docs/commands.md": commandReference(allCommands),
  "docs/configuration.md": configReference(),
  "config/holdfast.schema.json": `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`,
};
for (const [path, text] of Object.entries(pages)) {
  writeFileSync(join(ROOT, path), text);
  console.error(`wrote ${path}`);
}
