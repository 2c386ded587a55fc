/**
 * The files of one SQLite database: beside `name` stand `name-wal` (what was committed and not yet written back),
 * `name-journal` (what a transaction under way has overwritten) and `name-shm` (shared memory, made anew when missing).
 * SQLite makes and removes them by itself and trusts whatever lies there: an older or newer log beside a database is
 * replayed into it and ruins it. So the files are one thing, wherever files are judged or put back.
 */
import type { BytePath } from "./paths.js";

export const SQLITE_MAGIC = "SQLite format 3\0";
/** Bytes at the beginning of a log that tell whether it holds anything, and which one it is. */
export const SQLITE_LOG_HEADER_BYTES = 32;
/** Begins a `-journal` that SQLite would replay; zeroed when the transaction is over. */
export const SQLITE_JOURNAL_MAGIC = Buffer.from("d9d505f920a163d7", "hex");

const LOG_SUFFIXES = ["-wal", "-journal"] as const;
const SUFFIXES = [...LOG_SUFFIXES, "-shm"] as const;
const WAL_MAGIC = 0x377f0682;
/** What a name must end with for its `-journal` to count as SQLite's where the content does not tell (encrypted). */
const DATABASE_NAME = /\.(?:db|db3|sqlite|sqlite3)$/i;

/** A log that SQLite would replay. */
export interface SqliteLogMark {
  /** The same for all that is written until the log begins anew: its salts, or the journal's nonce and first size. */
  readonly generation: string;
  /** The log has not begun anew since its file was made. */
  readonly isFirst: boolean;
}

/** The database whose log, journal or shared memory has this name; undefined for any other name. */
export function databaseOfLog(path: BytePath): BytePath | undefined {
  const suffix = SUFFIXES.find((each) => path.endsWith(each) && !path.endsWith(`/${each}`));
  return suffix === undefined ? undefined : (path.slice(0, -suffix.length) as BytePath);
}

/** Where the logs of a database lie that SQLite replays when it is opened. */
export function logsOfDatabase(database: BytePath): readonly BytePath[] {
  return LOG_SUFFIXES.map((suffix) => `${database}${suffix}` as BytePath);
}

/** What the first bytes of a log say; undefined when SQLite would not replay it. */
export function sqliteLogMark(log: BytePath, header: Buffer): SqliteLogMark | undefined {
  if (header.length < SQLITE_LOG_HEADER_BYTES) return undefined;
  if (log.endsWith("-journal")) {
    if (!header.subarray(0, 8).equals(SQLITE_JOURNAL_MAGIC)) return undefined; // finished: its header was zeroed
    return { generation: header.toString("hex", 12, 20), isFirst: false };
  }
  if ((header.readUInt32BE(0) & ~1) !== WAL_MAGIC) return undefined;
  return { generation: header.toString("hex", 16, 24), isFirst: header.readUInt32BE(12) === 0 };
}

/** Whether a file that begins so, and has this name, is a database whose `log` SQLite may have put away. */
export function mayOwnLog(database: BytePath, beginning: Buffer, log: BytePath): boolean {
  if (!log.endsWith("-journal")) return true; // nobody else names files so
  if (beginning.length === 0 || beginning.toString("latin1", 0, SQLITE_MAGIC.length) === SQLITE_MAGIC) return true;
  return DATABASE_NAME.test(database);
}
