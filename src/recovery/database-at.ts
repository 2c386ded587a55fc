/**
 * An SQLite database of a time, with all that was committed by then: what is stored of the database itself is only as
 * new as its last checkpoint; the commits since stand in its log. Both are taken from the repository as of that time and
 * laid one over the other, so that one whole file comes of it, which appears in one step and needs no log.
 *
 * The log decides: it holds every commit since it began anew, so over any state of the database that was stored while it
 * was that log, it gives the same, however much of it had been written back by then. Where the log had begun anew and the
 * database was not stored since, the last log before that is taken: what was committed in between is in neither.
 *
 * A database without such a log may have been stored in the midst of a transaction: then the journal that was stored
 * beside it holds the pages as they were before, and with them it is what was committed last.
 */
import type { BytePath } from "../base/paths.js";
import { SQLITE_LOG_HEADER_BYTES, type SqliteLogMark, sqliteLogMark } from "../base/sqlite-files.js";
import type { FileNode, Version } from "../engine/types.js";
import type { VersionReader } from "./ports.js";
import { SQLITE_CHANGE_COUNTER, journalHeaderAt, originalPages } from "../base/sqlite-journal.js";
import { readSqliteLog } from "./strategies/sqlite-log.js";
import { type Overlay, missingPages } from "./strategies/sqlite-overlay.js";

/** The log is held in memory. */
const LOG_BYTES_MAX = 256 * 2 ** 20;
/** Stored logs that are looked at, from the wanted time backwards, for one that goes with the database. */
const LOGS_MAX = 50;

export interface DatabaseAt extends Overlay {
  readonly base: FileNode;
  /** A write-ahead log whose commits are added, or a journal whose transaction is taken back. */
  readonly by: "log" | "journal";
  /** When the log (with a journal: the database) was stored, wall ms: every commit until then is in it. */
  readonly timeMs: number;
  /** When the log (with a journal: the database) was last written to, ns. */
  readonly mtimeNs: bigint;
}

/** The database of a time; undefined when it is whole as it was stored. */
export async function databaseAt(
  reader: VersionReader,
  path: BytePath,
  atMs: number,
  signal: AbortSignal,
): Promise<DatabaseAt | undefined> {
  return (await withLog(reader, path, atMs, signal)) ?? (await rolledBack(reader, path, atMs, signal));
}

async function withLog(
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
  const bytes = await contentOf(reader, { node }, signal);
  const log = bytes === undefined ? undefined : readSqliteLog(bytes);
  if (node === undefined || bytes === undefined || log === undefined || missingPages({ log, base }) > 0)
    return undefined;
  return { log, bytes, base, by: "log", timeMs, mtimeNs: node.stat.mtimeNs };
}

/** The database as it was stored amid a transaction, without what that had written. */
async function rolledBack(
  reader: VersionReader,
  path: BytePath,
  atMs: number,
  signal: AbortSignal,
): Promise<DatabaseAt | undefined> {
  const stored = await reader.entryAt(path, atMs);
  const journal = await journalAt(reader, path, atMs, signal);
  const header = journal === undefined ? undefined : journalHeaderAt(journal.bytes, 0);
  if (stored?.node?.kind !== "file" || journal === undefined || header === undefined) return undefined;
  const { bytes } = journal;
  const pages = new Map<number, number>();
  // The first content of a page is the one before the transaction.
  for (const { number, offset } of originalPages(bytes, header))
    if (number <= header.pageCount && !pages.has(number)) pages.set(number, offset);
  const { pageBytes, pageCount } = header;
  const log = { pageBytes, pageCount, pages, commits: 0 };
  const base = stored.node;
  if (pages.size === 0 || missingPages({ log, base }) > 0) return undefined;
  const first = pages.get(1);
  const isUnderWay =
    first === undefined
      ? // That page may follow at the very end of a transaction: whether the end came in between cannot be told.
        stored.timeMs <= journal.timeMs
      : await hasCounterOf(reader, base, bytes.subarray(first), signal);
  if (!isUnderWay) return undefined;
  return { log, bytes, base, by: "journal", timeMs: stored.timeMs, mtimeNs: base.stat.mtimeNs };
}

/** False: the transaction was committed when the database was stored, or is not of this state of it. */
async function hasCounterOf(
  reader: VersionReader,
  base: FileNode,
  firstPage: Buffer,
  signal: AbortSignal,
): Promise<boolean> {
  const now = await beginningOf(reader.readContent(base, signal), SQLITE_CHANGE_COUNTER.to);
  return counterOf(now).equals(counterOf(firstPage));
}

/**
 * The journal that was stored beside a database at that time, as it stood last in the same transaction: it only grows,
 * and has a page before the database is written there, so the longest undoes whatever was stored meanwhile.
 */
async function journalAt(
  reader: VersionReader,
  path: BytePath,
  atMs: number,
  signal: AbortSignal,
): Promise<{ readonly bytes: Buffer; readonly timeMs: number } | undefined> {
  const journalPath = `${path}-journal` as BytePath;
  const journal = await reader.entryAt(journalPath, atMs);
  const mark = journal === undefined ? undefined : await markOf(reader, journal, signal);
  if (journal === undefined || mark === undefined) return undefined;
  const later = (await reader.versions(journalPath, { limit: LOGS_MAX })).filter(
    ({ timeMs }) => timeMs > journal.timeMs,
  );
  let last = journal;
  for (const version of later) {
    if ((await markOf(reader, version, signal))?.generation !== mark.generation) continue;
    last = version;
    break;
  }
  const bytes = await contentOf(reader, last, signal);
  return bytes === undefined ? undefined : { bytes, timeMs: last.timeMs };
}

async function contentOf(
  reader: VersionReader,
  { node }: Pick<Version, "node">,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  if (node === undefined || node.stat.sizeBytes > LOG_BYTES_MAX) return undefined;
  return await beginningOf(reader.readContent(node, signal), LOG_BYTES_MAX);
}

function counterOf(page: Buffer): Buffer {
  return page.subarray(SQLITE_CHANGE_COUNTER.from, SQLITE_CHANGE_COUNTER.to);
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
