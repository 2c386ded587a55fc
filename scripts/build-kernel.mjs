// Compiles the chunker's kernel to src/engine/chunk/kernel-wasm.ts. `--check` compares instead of writing: exit code 1
// when the committed file is not what the source compiles to.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { main } from "assemblyscript/asc";

const root = join(import.meta.dirname, "..");
const source = "src/engine/chunk/kernel/kernel.ts";
const target = join(root, "src/engine/chunk/kernel-wasm.ts");

/** Pages of 64 KiB: one for the table, 64 for the window of 4 MiB. */
const PAGES = "65";

const built = {};
const flags = ["-O3", "--runtime", "stub", "--noAssert", "--initialMemory", PAGES, "--maximumMemory", PAGES];
const { error, stderr } = await main([source, "--outFile", "kernel.wasm", ...flags], {
  readFile: (name) => (name === source ? readFileSync(join(root, source), "utf8") : null),
  writeFile: (name, content) => {
    built[name] = Buffer.from(content);
  },
  listFiles: () => [],
});
if (error !== null) {
  console.error(`holdfast: the kernel does not compile: ${error.message}\n${stderr.toString()}`);
  process.exit(1);
}
const text = `/** The compiled kernel of the chunker: made by scripts/build-kernel.mjs from chunk/kernel/kernel.ts, never by hand. */
export const KERNEL_WASM_BASE64 =
  "${built["kernel.wasm"].toString("base64")}";
`;
if (process.argv.includes("--check")) process.exit(readFileSync(target, "utf8") === text ? 0 : 1);
writeFileSync(target, text);
