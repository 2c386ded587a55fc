/**
 * Logs of SQLite that stand where a database is restored, and are not restored with it: SQLite would replay them into the
 * older database and ruin it (base/sqlite-files.ts). Before other content comes to the database's place they are renamed
 * beside it, and the report says so; a database that is left as it is keeps its logs.
 */
import { createHash, randomBytes } from "node:crypto";
import { closeSync, constants, createReadStream, fstatSync, readSync } from "node:fs";
import { errnoOf, HoldfastError, messageOf } from "../../base/errors.js";
import { type BytePath, joinPath, pathText } from "../../base/paths.js";
import { SQLITE_LOG_HEADER_BYTES, logsOfDatabase, sqliteLogMark } from "../../base/sqlite-files.js";
import type { AnchoredFolder } from "../../base/anchored.js";
import type { WantedFile } from "./batches.js";
import type { OpenFolder } from "./folders.js";
import type { Ledger } from "./ledger.js";
import type { Overwrite } from "./protocol.js";

const READ_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;

export interface ForeignLogsOptions {
  readonly ledger: Ledger;
  readonly overwrite: Overwrite;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
}

type File = Pick<WantedFile, "entry" | "name" | "fresh"> & { readonly folder: OpenFolder };

interface Moved {
  readonly name: string;
  readonly keptAs: string;
}

export class ForeignLogs {
  readonly #options: ForeignLogsOptions;
  /** By the place of the database. */
  readonly #moved = new Map<BytePath, readonly Moved[]>();

  constructor(options: ForeignLogsOptions) {
    this.#options = options;
  }

  /** Clears the places of files that are about to be written; what comes with them in the same lot stays. */
  async setAside(files: readonly File[]): Promise<void> {
    let names: ReadonlySet<BytePath> | undefined;
    for (const file of files) {
      if (file.fresh) continue;
      const logs = logsBeside(file);
      if (logs.length === 0) continue;
      names ??= new Set(files.map(({ entry }) => entry.path));
      const restored = names;
      const foreign = logs.filter((log) => !restored.has(joinPath(file.folder.place, log)));
      if (foreign.length > 0 && (await this.#willChange(file))) this.#move(file, foreign);
    }
  }

  /** What became of a file whose place was cleared. */
  settled({ entry, folder }: File, isDone: boolean): void {
    const moved = this.#moved.get(entry.path);
    if (moved === undefined) return;
    this.#moved.delete(entry.path);
    for (const { name, keptAs } of moved) {
      if (isDone) this.#tell(joinPath(folder.place, name), `it was renamed to ${pathText(keptAs as BytePath)}`);
      else folder.anchored.renameToFree(keptAs, folder.anchored, name);
    }
  }

  async #willChange({ entry, name, folder }: File): Promise<boolean> {
    const isThere = folder.anchored.lstat(name) !== undefined;
    if (!isThere) return true;
    if (this.#options.overwrite === "never") return false;
    return (await digestOf(folder.anchored, name, this.#options.signal)) !== entry.node.sha256;
  }

  #move({ entry, folder }: File, logs: readonly string[]): void {
    if (this.#options.dryRun) {
      for (const name of logs) this.#tell(joinPath(folder.place, name), "it would be renamed");
      return;
    }
    const moved: Moved[] = [];
    for (const name of logs) {
      const keptAs = `${name}.kept-${randomBytes(4).toString("hex")}`;
      try {
        if (folder.anchored.renameToFree(name, folder.anchored, keptAs)) moved.push({ name, keptAs });
      } catch (error) {
        this.#tell(joinPath(folder.place, name), `it could not be renamed (${messageOf(error)})`);
      }
    }
    this.#moved.set(entry.path, moved);
  }

  #tell(log: BytePath, what: string): void {
    this.#options.ledger.warn(`${pathText(log)}: written for another state of the database that is restored: ${what}`);
  }
}

/** Names of logs beside a file that SQLite would replay. */
function logsBeside({ name, folder }: File): readonly string[] {
  return logsOfDatabase(name as BytePath).filter((log) => {
    return isFile(folder.anchored, log) && sqliteLogMark(log, headerOf(folder.anchored, log)) !== undefined;
  });
}

/** False also for what cannot be a name: too long with the ending, or hostile, which is the restore's to refuse. */
function isFile(folder: AnchoredFolder, name: string): boolean {
  try {
    return folder.lstat(name)?.isFile() === true;
  } catch (error) {
    if (errnoOf(error) === undefined && !(error instanceof HoldfastError)) throw error;
    return false;
  }
}

function headerOf(folder: AnchoredFolder, name: string): Buffer {
  const header = Buffer.alloc(SQLITE_LOG_HEADER_BYTES);
  const fd = openOrNone(folder, name);
  if (fd === undefined) return Buffer.alloc(0);
  try {
    return header.subarray(0, readSync(fd, header, 0, header.length, 0));
  } finally {
    closeSync(fd);
  }
}

/** Digest of a regular file; undefined when it is none, or cannot be read. */
async function digestOf(folder: AnchoredFolder, name: string, signal: AbortSignal): Promise<string | undefined> {
  const fd = openOrNone(folder, name);
  if (fd === undefined) return undefined;
  try {
    if (!fstatSync(fd).isFile()) return undefined;
    const digest = createHash("sha256");
    const content = createReadStream("", { fd, autoClose: false, start: 0, signal });
    for await (const part of content as AsyncIterable<Buffer>) digest.update(part);
    return digest.digest("hex");
  } finally {
    closeSync(fd);
  }
}

function openOrNone(folder: AnchoredFolder, name: string): number | undefined {
  try {
    return folder.openFile(name, READ_FLAGS);
  } catch (error) {
    if (errnoOf(error) === undefined && !(error instanceof HoldfastError)) throw error;
    return undefined;
  }
}
