/**
 * Whether a missing or emptied file is a log that SQLite put away with its last connection. Put back beside its
 * database it would be replayed into it, and what was committed since would be lost.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type BytePath, pathBytes } from "../../base/paths.js";
import { SQLITE_MAGIC, databaseOfLog, mayOwnLog } from "../../base/sqlite-files.js";
import { SAFE_READ_FLAGS } from "../inspect/shape.js";

/** True for a log, a journal or the shared memory of a database that stands beside it. */
export function isLogOfStandingDatabase(path: BytePath): boolean {
  const database = databaseOfLog(path);
  if (database === undefined) return false;
  let fd: number | undefined;
  try {
    fd = openSync(pathBytes(database), SAFE_READ_FLAGS);
    if (!fstatSync(fd).isFile()) return false;
    const beginning = Buffer.alloc(SQLITE_MAGIC.length);
    const count = readSync(fd, beginning, 0, beginning.length, 0);
    return mayOwnLog(database, beginning.subarray(0, count), path);
  } catch {
    return false; // it is missing too, or not ours to see
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
