/**
 * Whether a missing or emptied file is a log that SQLite put away with its last connection. Put back beside its
 * database it would be replayed into it, and what was committed since would be lost. But SQLite writes a write-ahead log
 * back before it puts it away: beside a database that nobody touched since the log was written, the log was lost, and
 * replayed it gives what was there. So is a rollback journal beside a database that was left half written.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { messageOf } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";
import { type BytePath, pathBytes, pathText } from "../../base/paths.js";
import { SQLITE_LOG_HEADER_BYTES, SQLITE_MAGIC, databaseOfLog, mayOwnLog } from "../../base/sqlite-files.js";
import { SAFE_READ_FLAGS } from "../inspect/shape.js";
import type { KnownVersions } from "../ports.js";
import type { RegistryRecord } from "../registry.js";
import { JOURNAL_BYTES_MAX, isNeededJournal } from "./rollback-journal.js";

/** A log as it was last known. */
export interface KnownLog {
  readonly source: string;
  readonly path: BytePath;
  readonly record: RegistryRecord;
}

interface LogParts {
  readonly known: KnownVersions;
  readonly log: Logger;
}

/** True for a log, a journal or the shared memory that SQLite may have put away. */
export async function isPutAwayLog(parts: LogParts, absent: KnownLog, signal: AbortSignal): Promise<boolean> {
  const fd = openOwner(absent.path);
  if (fd === undefined) return false;
  try {
    return await isPutAwayBeside(fd, parts, absent, signal);
  } catch {
    signal.throwIfAborted();
    return false; // the database cannot be read
  } finally {
    closeSync(fd);
  }
}

/** True for a log, a journal or the shared memory of a database that stands beside it. */
export function isLogOfStandingDatabase(path: BytePath): boolean {
  const fd = openOwner(path);
  if (fd !== undefined) closeSync(fd);
  return fd !== undefined;
}

async function isPutAwayBeside(fd: number, parts: LogParts, absent: KnownLog, signal: AbortSignal): Promise<boolean> {
  const { path, record } = absent;
  if (path.endsWith("-journal")) {
    const journal = await lastKnown(parts, absent, signal);
    return journal === undefined || !(await isNeededJournal(journal, fd, record.lastVerifiedMs));
  }
  const isWriteAhead = path.endsWith("-wal") && record.stat.sizeBytes > SQLITE_LOG_HEADER_BYTES;
  return !isWriteAhead || fstatSync(fd, { bigint: true }).ctimeNs >= record.stat.mtimeNs; // nobody can set that
}

/** The database that stands beside this log of its, open for reading; undefined: none. */
function openOwner(path: BytePath): number | undefined {
  const database = databaseOfLog(path);
  if (database === undefined) return undefined;
  let fd: number | undefined;
  try {
    fd = openSync(pathBytes(database), SAFE_READ_FLAGS);
    const beginning = Buffer.alloc(SQLITE_MAGIC.length);
    const isFile = fstatSync(fd).isFile();
    const count = isFile ? readSync(fd, beginning, 0, beginning.length, 0) : 0;
    if (isFile && mayOwnLog(database, beginning.subarray(0, count), path)) return fd;
  } catch {
    // it is missing too, or not ours to see
  }
  if (fd !== undefined) closeSync(fd);
  return undefined;
}

/** The beginning of what is stored of a journal; undefined when that is not what was registered, or cannot be read. */
async function lastKnown(
  { known, log }: LogParts,
  { source, path, record }: KnownLog,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  try {
    const entry = await known.current(path, source);
    if (entry?.node.kind !== "file" || entry.node.sha256 !== record.sha256) return undefined;
    const parts: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const part of known.readContent(entry.node, signal)) {
      parts.push(part);
      sizeBytes += part.length;
      if (sizeBytes >= JOURNAL_BYTES_MAX) break;
    }
    return Buffer.concat(parts).subarray(0, JOURNAL_BYTES_MAX);
  } catch (error) {
    signal.throwIfAborted();
    log.warn("watch.old_version_unreadable", { path: pathText(path), message: messageOf(error) });
    return undefined;
  }
}
