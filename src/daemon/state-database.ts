/**
 * The daemon's own memory in LevelDB, beside the engine's index: registry, incidents, outbox, schedule, sources added
 * at run time. It has one owner at a time. A database that LevelDB cannot open, or that has ended its process again and
 * again, is repaired by a child process; if that fails too, it is set aside (never deleted) and a new one begins:
 * protection goes on, the registry is rebuilt from the store.
 */
import { statfsSync } from "node:fs";
import { rename } from "node:fs/promises";
import { join } from "node:path";
import { Level } from "level";
import type { Clock } from "../base/clock.js";
import { HoldfastError, errnoOf, hasCode, messageOf } from "../base/errors.js";
import { noteClosed, noteOpened, repairApart } from "../base/unclean-ends.js";
import type { Logger } from "../base/observe.js";
import { isCompactable, leaveTornLogs } from "./torn-log.js";

export type StateDatabase = Level;

/** A sweep reads it in order and a look reads one record: larger ones would only hold memory. */
const BLOCK_CACHE_BYTES = 2 * 2 ** 20;
const WRITE_BUFFER_BYTES = 2 * 2 ** 20;
/** For what the buffer holds as a table, a new log and the list of tables. */
const TABLE_ROOM_BYTES = WRITE_BUFFER_BYTES + 2 ** 20;
/** Tables that stay mapped, 2 MiB each; LevelDB takes no fewer. */
const OPEN_FILES_MAX = 74;

/** Opens the database below the state folder. Throws INDEX_LOCKED when another process has it. */
export async function openStateDatabase(stateDir: string, clock: Clock, log: Logger): Promise<StateDatabase> {
  const folder = join(stateDir, "journal");
  try {
    await noteOpened(folder);
    return await openAt(folder, log);
  } catch (error) {
    if (isLocked(error)) throw lockedError(folder, error);
    log.error("state.damaged", { folder, message: messageOf(error) });
  }
  try {
    if (!(await repairApart(folder))) throw new HoldfastError("INDEX_DAMAGED", "it could not be repaired");
    const repaired = await openAt(folder, log);
    log.warn("state.repaired", { folder });
    return repaired;
  } catch (error) {
    if (isLocked(error)) throw lockedError(folder, error);
    const aside = `${folder}.damaged-${String(clock.nowMs())}`;
    await rename(folder, aside);
    log.error("state.set_aside", { folder, aside, message: messageOf(error) });
    return await openAt(folder, log);
  }
}

/** Closes the database; without this its use counts as one that ended in the middle. */
export async function closeStateDatabase(stateDir: string, database: StateDatabase): Promise<void> {
  await database.close();
  await noteClosed(join(stateDir, "journal"));
}

async function openAt(folder: string, log: Logger): Promise<StateDatabase> {
  const database = new Level<string, string>(folder, {
    cacheSize: BLOCK_CACHE_BYTES,
    writeBufferSize: WRITE_BUFFER_BYTES,
    maxOpenFiles: OPEN_FILES_MAX,
  });
  await database.open();
  if (isCompactable(database)) leaveTornLogs(database, log, () => hasRoom(folder));
  return database;
}

function hasRoom(folder: string): boolean {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize >= TABLE_ROOM_BYTES;
}

function isLocked(error: unknown): boolean {
  if (hasCode(error, "INDEX_LOCKED")) return true;
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (errnoOf(cause) === "LEVEL_LOCKED") return true;
  }
  return false;
}

function lockedError(folder: string, cause: unknown): HoldfastError {
  return new HoldfastError("INDEX_LOCKED", `another holdfast process uses ${folder}`, { cause });
}
