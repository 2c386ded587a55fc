/**
 * The few file calls that durability rests on, as a port, so that tests can make any single one of them fail or can
 * replay what a power cut leaves behind. The write-ahead log, the pack writer and the local backend write only
 * through it. Errors are the system's own (`errnoOf` names them); the callers turn them into store errors.
 */
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { syncFolder } from "../base/atomic-file.js";
import { errnoOf } from "../base/errors.js";

/** A file open for writing. */
export interface IoFile {
  /** Writes all parts back to back at the offset, or throws; a throw may leave a part of them written. */
  write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void>;
  /** fdatasync: the bytes and the size are durable. */
  datasync(): Promise<void>;
  /** fsync. */
  sync(): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  close(): Promise<void>;
}

/** The file system as far as durable writing needs it. */
export interface FileIo {
  /** Creates a new file, mode 0600; fails with EEXIST when the name is taken. */
  create(path: string): Promise<IoFile>;
  rename(from: string, to: string): Promise<void>;
  /** A second name for a file; fails with EEXIST when the name is taken. */
  link(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  /** Makes a folder, mode 0700; false when it was there. The parent must exist. */
  makeFolder(path: string): Promise<boolean>;
  /** Makes the names in a folder durable. */
  syncFolder(path: string): Promise<void>;
}

/** The real file system. */
export const systemIo: FileIo = {
  create: async (path) =>
    new SystemFile(await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600)),
  rename,
  link,
  unlink,
  makeFolder: async (path) => {
    try {
      await mkdir(path, { mode: 0o700 });
      return true;
    } catch (error) {
      if (errnoOf(error) === "EEXIST") return false;
      throw error;
    }
  },
  syncFolder,
};

/** Makes a folder and its missing parents, each name durable. */
export async function makeFoldersDurably(io: FileIo, path: string): Promise<void> {
  try {
    if (!(await io.makeFolder(path))) return;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" || dirname(path) === path) throw error;
    await makeFoldersDurably(io, dirname(path));
    if (!(await io.makeFolder(path))) return;
  }
  await io.syncFolder(dirname(path));
}

class SystemFile implements IoFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    let left = parts.filter((part) => part.length > 0);
    let offset = offsetBytes;
    while (left.length > 0) {
      const { bytesWritten } = await this.#handle.writev(left.slice(0, WRITEV_PARTS_MAX), offset);
      offset += bytesWritten;
      left = withoutFirstBytes(left, bytesWritten);
    }
  }

  async datasync(): Promise<void> {
    await this.#handle.datasync();
  }

  async sync(): Promise<void> {
    await this.#handle.sync();
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#handle.truncate(sizeBytes);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** The system takes at most IOV_MAX = 1024 parts in one call. */
const WRITEV_PARTS_MAX = 1024;

function withoutFirstBytes(parts: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  let index = 0;
  for (let part = parts[index]; part !== undefined && skip >= part.length; part = parts[index]) {
    skip -= part.length;
    index += 1;
  }
  const rest = parts.slice(index);
  if (skip > 0 && rest[0] !== undefined) rest[0] = rest[0].subarray(skip);
  return rest;
}
