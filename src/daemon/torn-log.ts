/**
 * Writes to LevelDB after one that failed. On a full disk LevelDB leaves a part of a record in its log, and at the next
 * start it passes over what was written behind that, though each such write succeeded. So the log is left behind before
 * the next write: what it holds goes into a table, and a new log begins. That is not begun without room for
 * a table: one that cannot be written to its end is an error that LevelDB tells nobody of, and keeps until it is opened anew.
 */
import type { Level } from "level";
import { HoldfastError, messageOf } from "../base/errors.js";
import type { Logger } from "../base/observe.js";

interface Compactable {
  compactRange(start: string, end: string): Promise<void>;
}

const WRITES = ["put", "del", "batch"] as const;
/** Nobody writes it: removing it tells whether LevelDB takes writes. */
const NO_KEY = "no key";

/**
 * From now on no write of the database, or of a sublevel, is acknowledged behind a part of another. Throws INDEX_DAMAGED
 * from a write when no new log can be begun; it is not made. `hasRoom`: a table can be written.
 */
export function leaveTornLogs(database: Level & Compactable, log: Logger, hasRoom: () => boolean): void {
  const remove = database.del.bind(database);
  let tears = 0;
  /** Of those, what a new log has left behind. */
  let tearsLeft = 0;
  let leaving: Promise<void> | undefined;

  const leave = async (): Promise<void> => {
    const tearsBefore = tears;
    try {
      if (!hasRoom()) throw new Error("there is too little room on its disk");
      await database.compactRange("", "");
      await remove(NO_KEY);
      tearsLeft = tearsBefore; // a write that failed meanwhile may have torn the new log
      log.info("state.writable_again");
    } catch (error) {
      const message = `the state database cannot begin a new log: ${messageOf(error)}`;
      throw new HoldfastError("INDEX_DAMAGED", message, { cause: error });
    }
  };

  /** Resolves when nothing that is torn by now is in front of what is written. */
  const left = async (): Promise<void> => {
    for (const tearsSeen = tears; tearsLeft < tearsSeen;)
      await (leaving ??= leave().finally(() => (leaving = undefined)));
  };

  const watched = async (write: () => Promise<unknown>): Promise<void> => {
    if (tears > tearsLeft) await left();
    try {
      await write();
    } catch (error) {
      if (tears === tearsLeft) log.error("state.not_writable", { message: messageOf(error) });
      tears += 1;
      throw error;
    }
    if (tears > tearsLeft) await left(); // torn while this one was under way
  };

  for (const name of WRITES) {
    const write = database[name].bind(database) as (...given: unknown[]) => Promise<unknown>;
    // Without arguments it is a batch that is to be filled.
    const value = (...given: unknown[]): unknown => (given.length === 0 ? write() : watched(() => write(...given)));
    Object.defineProperty(database, name, { value });
  }
}

/** Only Node's LevelDB offers it, which is what `level` is here. */
export function isCompactable(database: Level): database is Level & Compactable {
  return "compactRange" in database;
}
