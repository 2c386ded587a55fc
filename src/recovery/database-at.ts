/**
 * An SQLite database of a time, with all that was committed by then: what is stored of the database itself is only as
 * new as its last checkpoint; the commits since stand in its log. Both are taken from the repository as of that time and
 * laid one over the other, so that one whole file comes of it, which appears in one step and needs no log.
 *
 * The log decides: it holds every commit since it began anew, so over any state of the database that was stored while it
 * was that log, it gives the same, however much of it had been written back by then. Where the log had begun anew and the
 * database was not stored since, the last log before that is taken: what was committed in between is in neither.
 */
import type { BytePath } from "../base/paths.js";
import { SQLITE_LOG_HEADER_BYTES, type SqliteLogMark, sqliteLogMark } from "../base/sqlite-files.js";
import type { FileNode, Version } from "../engine/types.js";
import type { VersionReader } from "./ports.js";
import { readSqliteLog } from "./strategies/sqlite-log.js";
import { type Overlay, missingPages } from "./strategies/sqlite-overlay.js";

/** The log is held in memory. */
const LOG_BYTES_MAX = 256 * 2 ** 20;
/** Stored logs that are looked at, from the wanted time backwards, for one that goes with the database. */
const LOGS_MAX = 50;

export interface DatabaseAt extends Overlay {
  readonly base: FileNode;
  /** When the log was stored, wall ms: every commit until then is in it. */
  readonly timeMs: number;
  /** When the log was last written to, ns. */
  readonly mtimeNs: bigint;
}

/** The database of a time; undefined when no log with commits was stored beside it, so that it is whole by itself. */
export async function databaseAt(
  reader: VersionReader,
  path: BytePath,
  atMs: number,
  signal: AbortSignal,
): Promise<DatabaseAt | undefined> {
  const logPath = `${path}-wal` as BytePath;
  let log = await reader.entryAt(logPath, atMs);
  for (let left = LOGS_MAX; left > 0 && log !== undefined; left -= 1) {
    signal.throwIfAborted();
    const mark = await markOf(reader, log, signal);
    const base = await reader.entryAt(path, mark === undefined ? atMs : log.timeMs);
    if (base?.node?.kind === "file" && (await isOfOnePiece(reader, { base, log, mark }, signal)))
      return mark === undefined ? undefined : await overlaid(reader, base.node, log, signal);
    log = await reader.entryAt(logPath, log.timeMs - 1);
  }
  return undefined;
}

interface Pair {
  readonly base: Version;
  readonly log: Version;
  /** Undefined: the log holds nothing, or is gone. */
  readonly mark: SqliteLogMark | undefined;
}

/** Whether the log had not begun anew between the time at which the database was stored and its own. */
async function isOfOnePiece(reader: VersionReader, { base, log, mark }: Pair, signal: AbortSignal): Promise<boolean> {
  if (mark === undefined && base.timeMs >= log.timeMs) return true; // written back before, and stored since
  const beside = await reader.entryAt(log.path, base.timeMs);
  const markBeside = beside === undefined ? undefined : await markOf(reader, beside, signal);
  if (markBeside === undefined) return mark === undefined || mark.isFirst;
  return markBeside.generation === mark?.generation;
}

async function overlaid(
  reader: VersionReader,
  base: FileNode,
  { node, timeMs }: Version,
  signal: AbortSignal,
): Promise<DatabaseAt | undefined> {
  if (node === undefined || node.stat.sizeBytes > LOG_BYTES_MAX) return undefined;
  const bytes = await beginningOf(reader.readContent(node, signal), LOG_BYTES_MAX);
  const log = readSqliteLog(bytes);
  if (log === undefined || missingPages({ log, base }) > 0) return undefined;
  return { log, bytes, base, timeMs, mtimeNs: node.stat.mtimeNs };
}

async function markOf(
  reader: VersionReader,
  { path, node }: Version,
  signal: AbortSignal,
): Promise<SqliteLogMark | undefined> {
  if (node?.kind !== "file") return undefined;
  return sqliteLogMark(path, await beginningOf(reader.readContent(node, signal), SQLITE_LOG_HEADER_BYTES));
}

async function beginningOf(content: AsyncIterable<Buffer>, bytesMax: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of content) {
    parts.push(part);
    sizeBytes += part.length;
    if (sizeBytes >= bytesMax) break;
  }
  return Buffer.concat(parts);
}
