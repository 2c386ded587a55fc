/**
 * The few file calls that a store rests on, as a port, so that tests can make any single one of them fail or can replay
 * what a power cut leaves behind. The write-ahead log, the packs and the local backend are written and read only through
 * it. Errors are the system's own (`errnoOf` names them); the callers turn them into store errors.
 */
import { closeSync, constants, type Dirent, fstatSync, openSync, readSync, type Stats } from "node:fs";
import { type FileHandle, link, mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
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

/** A file open for reading. */
export interface IoReader {
  /** Its size when it was opened, bytes. */
  readonly sizeBytes: number;
  /** Reads into the buffer, from the offset; gives the number of bytes, which may be fewer, and is 0 at the end. */
  read(target: Uint8Array, offsetBytes: number): Promise<number>;
  close(): Promise<void>;
}

/** The same for a thread that has nothing else to do while it reads. */
export interface IoReaderNow {
  readonly sizeBytes: number;
  read(target: Uint8Array, offsetBytes: number): number;
  close(): void;
}

/** The file system as far as a store needs it. */
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
  /** Opens a file for reading; a symbolic link at the end of the path is refused. */
  open(path: string): Promise<IoReader>;
  openNow(path: string): IoReaderNow;
  /** What lies in a folder, in no order. */
  list(path: string): Promise<Dirent[]>;
  stat(path: string): Promise<Stats>;
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
  open: (path) => SystemReader.open(path),
  openNow: (path) => new SystemReaderNow(path),
  list: (path) => readdir(path, { withFileTypes: true }),
  stat,
};

/** Reads until the buffer is full or the file gives no more; gives the number of bytes. */
export async function readFully(file: IoReader, target: Uint8Array, offsetBytes: number): Promise<number> {
  let filled = 0;
  for (let count = 1; count > 0 && filled < target.length; filled += count) {
    count = await file.read(target.subarray(filled), offsetBytes + filled);
  }
  return filled;
}

/** As `readFully`, at once. */
export function readFullyNow(file: IoReaderNow, target: Uint8Array, offsetBytes: number): number {
  let filled = 0;
  for (let count = 1; count > 0 && filled < target.length; filled += count) {
    count = file.read(target.subarray(filled), offsetBytes + filled);
  }
  return filled;
}

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

class SystemReader implements IoReader {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle, sizeBytes: number) {
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
  }

  static async open(path: string): Promise<SystemReader> {
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      return new SystemReader(handle, (await handle.stat()).size);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<number> {
    return (await this.#handle.read(target, 0, target.length, offsetBytes)).bytesRead;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

class SystemReaderNow implements IoReaderNow {
  readonly sizeBytes: number;
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    this.sizeBytes = this.#sizeOrClose();
  }

  #sizeOrClose(): number {
    try {
      return fstatSync(this.#fd).size;
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  read(target: Uint8Array, offsetBytes: number): number {
    return readSync(this.#fd, target, 0, target.length, offsetBytes);
  }

  close(): void {
    closeSync(this.#fd);
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
