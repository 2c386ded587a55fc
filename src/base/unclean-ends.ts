/**
 * Keeps a LevelDB (the index, the daemon's state) that ends its process from doing so at every start. LevelDB was built with its assertions on and maps
 * its tables: a damaged one can end the process at once, before anything can be said of it. Uses that were not closed
 * are counted; after a few in a row a child process reads and rewrites the whole index first, and may end instead.
 */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { HoldfastError, errnoOf, hasCode } from "./errors.js";
import { runProgram } from "./spawn.js";

const NAME = "holdfast-open";
/** Fewer may be power cuts or kills; the proof takes about as long as reading the index twice. */
const UNCLEAN_ENDS_MAX = 2;
/** A larger index than can be proven in this time is used as it is. */
const PROOF_TIMEOUT_MS = 600_000;
/** Exit code of the child: another process has the index open. */
export const PROOF_LOCKED = 3;
const PROOF_CHILD = fileURLToPath(new URL("./proof-child.js", import.meta.url));

/**
 * Notes a use that begins, and has the index proven when too many before it did not end by `noteClosed`. Throws
 * INDEX_DAMAGED, INDEX_LOCKED.
 */
export async function noteOpened(folder: string): Promise<void> {
  const path = join(folder, NAME);
  const before = Number.parseInt(await textOf(path), 10) || 0;
  await writeFile(path, String(before + 1)).catch(() => undefined); // a full disk: not worth refusing the use
  if (before >= UNCLEAN_ENDS_MAX) await prove(folder, before);
}

/** Notes a use that ended well. */
export async function noteClosed(folder: string): Promise<void> {
  await rm(join(folder, NAME), { force: true });
}

/** Has LevelDB repair what it can, in a child that a damaged table may end. True: it can be read as a whole then. */
export async function repairApart(folder: string): Promise<boolean> {
  try {
    return (await runChild(folder, "repair")) === 0;
  } catch (error) {
    if (hasCode(error, "TIMEOUT") || hasCode(error, "SPAWN_FAILED")) return false;
    throw error;
  }
}

async function runChild(folder: string, how: "read" | "repair"): Promise<number | undefined> {
  const signal = AbortSignal.timeout(2 * PROOF_TIMEOUT_MS);
  const command = [process.execPath, PROOF_CHILD, folder, how];
  const { exitCode } = await runProgram(command, { timeoutMs: PROOF_TIMEOUT_MS, signal });
  return exitCode;
}

async function prove(folder: string, uncleanEnds: number): Promise<void> {
  try {
    const exitCode = await runChild(folder, "read");
    if (exitCode === 0) return;
    if (exitCode === PROOF_LOCKED) {
      throw new HoldfastError("INDEX_LOCKED", `another process has the index open: ${folder}`);
    }
  } catch (error) {
    if (hasCode(error, "TIMEOUT") || hasCode(error, "SPAWN_FAILED")) return;
    throw error;
  }
  const why = `${String(uncleanEnds)} uses in a row ended in the middle, and it cannot be read as a whole`;
  throw new HoldfastError("INDEX_DAMAGED", `the local index is damaged: ${why}`);
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return "";
    throw error;
  }
}
