/** Real SQLite databases with a write-ahead log that was not written back, as a program that runs or crashed has them. */
import { execFileSync } from "node:child_process";
import { renameSync } from "node:fs";

/**
 * Makes `file` by `sql` and leaves it as it is in the midst of work: the statements of `before` are written back into
 * the database, those of `after` stand only in `file-wal`.
 */
export function makeLiveDatabase(file: string, before: string, after: string): void {
  const work = `${file}.work`;
  const script = [
    ...["PRAGMA journal_mode = wal;", "PRAGMA wal_autocheckpoint = 0;", before],
    ...["PRAGMA wal_checkpoint(truncate);", after],
    ...[`.system cp '${work}' '${file}'`, `.system cp '${work}-wal' '${file}-wal'`],
  ];
  sqlite(work, script.join("\n"));
  execFileSync("rm", ["-f", work, `${work}-wal`, `${work}-shm`]);
}

/**
 * Makes `file` as a crash in the midst of a transaction leaves it: `change` is half written into the database, and
 * `file-journal` holds what undoes that. `committed` is the same database after the transaction.
 */
export function makeCrashedDatabase(file: string, change: string, committed: string): void {
  const work = `${file}.work`;
  const script = [
    "CREATE TABLE t(id INTEGER PRIMARY KEY, x);",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO t SELECT i, 'old' || hex(zeroblob(150)) FROM n;",
    ...["PRAGMA cache_size = 2;", "PRAGMA cache_spill = 1;", "BEGIN IMMEDIATE;", change],
    ...[`.system cp '${work}' '${file}'`, `.system cp '${work}-journal' '${file}-journal'`],
    ...["COMMIT;", `.system cp '${work}' '${committed}'`],
  ];
  sqlite(work, script.join("\n"));
  execFileSync("rm", ["-f", work, `${work}-journal`]);
}

/** What the SQLite program prints of the statements; the file must exist. */
export function query(file: string, sql: string): string {
  return sqlite(file, sql).trim();
}

/** Takes the log away from the database, so that it is read alone. */
export function setLogAside(file: string): void {
  renameSync(`${file}-wal`, `${file}-wal.aside`);
}

function sqlite(file: string, script: string): string {
  return execFileSync("sqlite3", ["-bail", file], { input: `${script}\n`, encoding: "utf8" });
}
