/**
 * Whether a missing or emptied file is a log that SQLite put away with its last connection. Put back beside its
 * database it would be replayed into it, and what was committed since would be lost. But SQLite writes a write-ahead log
 * back before it puts it away: beside a database that nobody touched since the log was written, the log was lost, and
 * replayed it gives what was there.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type BytePath, pathBytes } from "../../base/paths.js";
import { SQLITE_LOG_HEADER_BYTES, SQLITE_MAGIC, databaseOfLog, mayOwnLog } from "../../base/sqlite-files.js";
import type { StatTuple } from "../../engine/types.js";
import { SAFE_READ_FLAGS } from "../inspect/shape.js";

/** True for a log, a journal or the shared memory that SQLite may have put away; `registered` is what stood there. */
export function isPutAwayLog(path: BytePath, registered: StatTuple): boolean {
  const changedNs = changeOfOwner(path);
  if (changedNs === undefined) return false;
  const isWriteAhead = path.endsWith("-wal") && registered.sizeBytes > SQLITE_LOG_HEADER_BYTES;
  return !isWriteAhead || changedNs >= registered.mtimeNs;
}

/** True for a log, a journal or the shared memory of a database that stands beside it. */
export function isLogOfStandingDatabase(path: BytePath): boolean {
  return changeOfOwner(path) !== undefined;
}

/** When the database that stands beside this log of its was last touched, ns: nobody can set that. Undefined: none. */
function changeOfOwner(path: BytePath): bigint | undefined {
  const database = databaseOfLog(path);
  if (database === undefined) return undefined;
  let fd: number | undefined;
  try {
    fd = openSync(pathBytes(database), SAFE_READ_FLAGS);
    const stat = fstatSync(fd, { bigint: true });
    if (!stat.isFile()) return undefined;
    const beginning = Buffer.alloc(SQLITE_MAGIC.length);
    const count = readSync(fd, beginning, 0, beginning.length, 0);
    return mayOwnLog(database, beginning.subarray(0, count), path) ? stat.ctimeNs : undefined;
  } catch {
    return undefined; // it is missing too, or not ours to see
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
