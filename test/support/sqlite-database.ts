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
