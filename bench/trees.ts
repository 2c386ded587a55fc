/**
 * The trees that the programs are compared on: of the files of this system 100,000 small ones, four large ones of 512
 * MiB (2 GB each), or one of 1 GiB; or four of 256 MiB that nothing compresses. And the change of about 1 % that the
 * third backup meets.
 */
import { createHash, randomBytes } from "node:crypto";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { timed } from "./harness.js";

export const TREE_KINDS = ["small", "large", "one", "random"] as const;
export type TreeKind = (typeof TREE_KINDS)[number];

const FILES = 100_000;
const LARGE_FILE_BYTES = 512 * 2 ** 20;
const LARGE_FILES = 4;
const ONE_FILE_BYTES = 2 ** 30;
const RANDOM_FILES = 4;
const RANDOM_FILE_BYTES = 256 * 2 ** 20;
const RANDOM_BLOCK_BYTES = 2 ** 20;
/** A change in every file of 100, or five of 0.2 % in every large one, and an insertion in each. */
const CHANGED_SHARE = 100;
const OVERWRITES = 5;
const OVERWRITE_SHARE = 500;
const INSERTED_BYTES = 64;

const PLAIN = { PATH: process.env["PATH"] ?? "", LC_ALL: "C" };

/** Fills an empty folder. */
export async function makeTree(kind: TreeKind, folder: string, scratchFile: string): Promise<void> {
  if (kind === "random") {
    for (let file = 0; file < RANDOM_FILES; file += 1) await writeRandom(join(folder, `random-${String(file)}`));
    return;
  }
  if (kind !== "small") {
    const [files, fileBytes] = kind === "large" ? [LARGE_FILES, LARGE_FILE_BYTES] : [1, ONE_FILE_BYTES];
    const pieces = `head -c ${String(files * fileBytes)} | split -b ${String(fileBytes)} - "$0/part-"`;
    await timed(["sh", "-c", `tar -C / -cf - usr/lib usr/share 2>/dev/null | ${pieces}`, folder], PLAIN);
    return;
  }
  const find = ["find", "/usr/share", "/usr/lib", "-xdev", "-type", "f", "-size", "-8192k", "-printf", "%P\\t%p\\0"];
  const { stdout } = await timed(find, PLAIN);
  const paths = stdout.split("\0").flatMap((line) => line.split("\t")[1] ?? []);
  // In an order of their own, so that it is a fair sample where there are more.
  const order = new Map(paths.map((path) => [path, createHash("sha1").update(path).digest("hex")]));
  paths.sort((a, b) => ((order.get(a) ?? "") < (order.get(b) ?? "") ? -1 : 1));
  await writeFile(scratchFile, paths.slice(0, FILES).join("\0"));
  await timed(
    ["sh", "-c", 'tar -C / --null -T "$1" -cf - 2>/dev/null | tar -C "$0" -xf -', folder, scratchFile],
    PLAIN,
  );
}

async function writeRandom(path: string): Promise<void> {
  await using file = await open(path, "wx");
  for (let written = 0; written < RANDOM_FILE_BYTES; written += RANDOM_BLOCK_BYTES) {
    await file.write(randomBytes(RANDOM_BLOCK_BYTES));
  }
}

/** Changes about 1 % of a tree, the same way each time for the same `round`. */
export async function changeTree(folder: string, round: number): Promise<void> {
  const { stdout } = await timed(["find", folder, "-type", "f", "-size", "+0"], PLAIN);
  const paths = stdout.split("\n").filter((path) => path !== "");
  paths.sort();
  const large = paths.length < CHANGED_SHARE;
  for (const [index, path] of paths.entries()) {
    if (large || index % CHANGED_SHARE === round % CHANGED_SHARE) await changeFile(path, large, round);
  }
}

async function changeFile(path: string, large: boolean, round: number): Promise<void> {
  const content = await readFile(path);
  for (let turn = 0; large && turn < OVERWRITES; turn += 1) {
    const length = Math.floor(content.length / OVERWRITE_SHARE);
    const from = Math.floor(((turn + 0.5) / OVERWRITES) * content.length);
    content.fill(
      createHash("sha256")
        .update(`${String(round)} ${String(turn)}`)
        .digest(),
      from,
      from + length,
    );
  }
  const at = Math.floor(content.length / 3);
  const inserted = Buffer.alloc(INSERTED_BYTES, `change ${String(round)} `);
  await writeFile(path, Buffer.concat([content.subarray(0, at), inserted, content.subarray(at)]));
}
