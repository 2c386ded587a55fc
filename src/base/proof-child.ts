/**
 * A process of its own that reads a LevelDB from end to end and has it rewritten: `proof-child.js FOLDER read|repair`.
 * It ends with 0 when that could be done (after a repair, if asked), with PROOF_LOCKED when another process uses it; a
 * damaged table may well kill it. It does not outlive who started it: the next start would find the folder in use.
 */
import { argv } from "node:process";
import { ClassicLevel } from "classic-level";
import { errnoOf } from "./errors.js";
import { PROOF_LOCKED } from "./unclean-ends.js";

const PROOF_FAILED = 4;
const PAIRS_AT_ONCE = 1000;
const FIRST_KEY = Buffer.alloc(0);
/** No bucket of ours is numbered so high. */
const LAST_KEY = Buffer.of(255);

async function proveWhole(folder: string): Promise<void> {
  const database = new ClassicLevel<Buffer, Buffer>(folder, {
    keyEncoding: "buffer",
    valueEncoding: "buffer",
    createIfMissing: false,
  });
  await database.open();
  const iterator = database.iterator({ fillCache: false });
  for (;;) {
    const page = await iterator.nextv(PAIRS_AT_ONCE);
    if (page.length === 0) break;
    await database.getMany(page.map(([key]) => key)); // a search goes by other parts of a table than reading on
  }
  await iterator.close();
  await database.compactRange(FIRST_KEY, LAST_KEY);
  await database.close();
}

function exitCodeOf(error: unknown): number {
  const cause = error instanceof Error ? error.cause : undefined;
  return errnoOf(cause) === "LEVEL_LOCKED" ? PROOF_LOCKED : PROOF_FAILED;
}

/** How soon it is noticed that the parent was killed, ms. */
const PARENT_LOOK_MS = 50;

const parentPid = process.ppid;
setInterval(() => {
  if (process.ppid !== parentPid) process.kill(process.pid, "SIGKILL");
}, PARENT_LOOK_MS).unref();
const [, , folder = "", how = "read"] = argv;
const repaired = how === "repair" ? ClassicLevel.repair(folder) : Promise.resolve();
repaired
  .then(() => proveWhole(folder))
  .catch((error: unknown) => {
    process.exitCode = exitCodeOf(error);
  });
