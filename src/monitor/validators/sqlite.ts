/**
 * Checks of SQLite databases. The header alone is pure. The whole check runs `PRAGMA integrity_check` on a private copy
 * of the database and the log that lies beside it: with node-sqlite3-wasm, else with the sqlite3 program; where neither
 * is there only the header is checked, and the validator's name says so.
 */
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type * as Sqlite from "node-sqlite3-wasm";
import { errnoOf, messageOf } from "../../base/errors.js";
import { type BytePath, pathBytes } from "../../base/paths.js";
import { runProgram } from "../../base/spawn.js";
import { SQLITE_MAGIC } from "../../base/sqlite-files.js";
import type { Complaint, FileValidator, Validator } from "../validator.js";
import { invalid, unchecked } from "./invalid.js";

const HEADER_BYTES = 100;
const PROGRAM_TIMEOUT_MS = 60_000;
/** Says whether the pages hold together; the first fault is enough. */
const CHECK = "PRAGMA integrity_check(1)";
/** A database in WAL mode opens without shared memory only when nobody else may come. It is a private copy. */
const EXCLUSIVE = "PRAGMA locking_mode=EXCLUSIVE";

export const sqliteHeaderValidator: Validator = { name: "sqlite (header only)", check: headerFault };

function headerFault(content: Buffer): Complaint | undefined {
  if (content.length === 0) return undefined; // an empty file is an empty database
  if (content.toString("latin1", 0, SQLITE_MAGIC.length) !== SQLITE_MAGIC)
    return invalid("it does not begin as SQLite");
  if (content.length < HEADER_BYTES) return invalid("the SQLite header is cut");
  const written = content.readUInt16BE(16);
  const pageBytes = written === 1 ? 65_536 : written;
  if (pageBytes < 512 || (pageBytes & (pageBytes - 1)) !== 0) return invalid("the SQLite page size is impossible");
  if (content[21] !== 64 || content[22] !== 32 || content[23] !== 32) return invalid("the SQLite header is broken");
  const pages = content.readUInt32BE(28);
  // The count of pages counts only when the two counters of changes agree; old programs do not write it.
  const isCurrent = content.readUInt32BE(24) === content.readUInt32BE(92);
  if (isCurrent && pages * pageBytes > content.length)
    return invalid("the SQLite file is shorter than its header says");
  return undefined;
}

/** How the pages are checked here; undefined when there is no way. */
type PageCheck = (copy: string) => Promise<Complaint | undefined>;

/** The check with the best means there are. */
export async function sqliteValidator(): Promise<FileValidator | Validator> {
  const check = wasmCheck() ?? (await programCheck());
  if (check === undefined) return sqliteHeaderValidator;
  return {
    name: "sqlite",
    checkFile: async (file, content) => {
      const fault = headerFault(content);
      return fault !== undefined || content.length === 0 ? fault : await onCopy(file, content, check);
    },
  };
}

async function onCopy(file: BytePath, content: Buffer, check: PageCheck): Promise<Complaint | undefined> {
  const folder = await mkdtemp(join(tmpdir(), "holdfast-sqlite-"));
  try {
    const copy = join(folder, "copy.db");
    await writeFile(copy, content, { mode: 0o600 });
    await copyFile(pathBytes(joinLog(file)), `${copy}-wal`).catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw error;
    });
    return await check(copy);
  } catch (error) {
    return unchecked(`the database could not be copied: ${messageOf(error)}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function joinLog(file: BytePath): BytePath {
  return `${file}-wal` as BytePath;
}

function wasmCheck(): PageCheck | undefined {
  let library: typeof Sqlite;
  try {
    library = createRequire(import.meta.url)("node-sqlite3-wasm") as typeof Sqlite;
  } catch {
    return undefined; // an optional package
  }
  const { Database, SQLite3Error } = library;
  return (copy) => {
    let database: InstanceType<typeof Database> | undefined;
    try {
      database = new Database(copy, { fileMustExist: true });
      database.exec(EXCLUSIVE);
      const row = database.get(CHECK);
      return Promise.resolve(verdictOf(row === null ? "" : Object.values(row)[0]));
    } catch (error) {
      if (error instanceof SQLite3Error) return Promise.resolve(invalid("SQLite cannot read its pages"));
      return Promise.resolve(unchecked("SQLite could not be run"));
    } finally {
      database?.close();
    }
  };
}

async function programCheck(): Promise<PageCheck | undefined> {
  const signal = AbortSignal.timeout(PROGRAM_TIMEOUT_MS);
  const options = { timeoutMs: PROGRAM_TIMEOUT_MS, signal };
  try {
    await runProgram(["sqlite3", "-version"], options);
  } catch {
    return undefined;
  }
  return async (copy) => {
    const limit = { timeoutMs: PROGRAM_TIMEOUT_MS, signal: AbortSignal.timeout(PROGRAM_TIMEOUT_MS) };
    const { exitCode, stdout } = await runProgram(["sqlite3", "-batch", copy, CHECK], limit);
    return exitCode === 0 ? verdictOf(stdout.toString("utf8").trim()) : invalid("SQLite cannot read its pages");
  };
}

function verdictOf(answer: unknown): Complaint | undefined {
  return answer === "ok" ? undefined : invalid("SQLite found broken pages");
}
