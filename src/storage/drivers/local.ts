/**
 * A store in a folder of a local file system. An object is written to a staging file, synced, and linked to its name,
 * which must be new; then the folder is synced. So an object is whole or not there, never overwritten, and its name
 * survives a power cut. Where the file system has no hard links, the name is checked and then taken by rename.
 */
import { randomBytes } from "node:crypto";
import { type BigIntStats, constants, type Dirent } from "node:fs";
import { open, realpath, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { STAGING_PREFIX } from "../../base/atomic-file.js";
import { errnoOf, HoldfastError } from "../../base/errors.js";
import type { Backend, ObjectInfo, SpaceInfo } from "../backend.js";
import { type FileIo, type IoReader, makeFoldersDurably, readFully } from "../file-io.js";
import { storeAwayError, storeError } from "../store-error.js";

/** Keys are ASCII names with `/` between; no name begins with a dot. */
const KEY = /^[A-Za-z0-9_-][A-Za-z0-9._-]*(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/;
const STAGING_NAME = "staging";
/** Errors of `link` on file systems without hard links. */
const NO_LINKS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);
const COMPARE_BYTES = 2 ** 20;

export interface LocalBackendOptions {
  readonly create: boolean;
  readonly io: FileIo;
}

export class LocalBackend implements Backend {
  readonly url: string;
  readonly stagingFolder: string;
  readonly #root: string;
  /** The folder itself, as it was opened. */
  readonly #ground: BigIntStats;
  readonly #io: FileIo;
  /** Folders known to be there, with durable names. */
  readonly #madeFolders = new Set<string>();

  private constructor(root: string, ground: BigIntStats, io: FileIo) {
    this.#root = root;
    this.#ground = ground;
    this.#io = io;
    this.url = pathToFileURL(root).href;
    this.stagingFolder = join(root, STAGING_NAME);
  }

  /** Opens a folder as a store. Throws REPO_NOT_FOUND when it is missing and not to be made. */
  static async open(folder: string, options: LocalBackendOptions): Promise<LocalBackend> {
    try {
      if (options.create) {
        await makeFoldersDurably(options.io, folder);
        await makeFoldersDurably(options.io, join(folder, STAGING_NAME));
      }
      const root = await realpath(folder);
      const ground = await stat(root, { bigint: true });
      if (!ground.isDirectory()) throw new HoldfastError("REPO_NOT_FOUND", `${folder} is no folder`);
      return new LocalBackend(root, ground, options.io);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw storeError(error, `opening the store ${folder}`);
      if (options.create) {
        const hint = "Choose a folder on a file system that takes new ones.";
        throw new HoldfastError("STORE_IO", `the folder ${folder} cannot be made`, { cause: error, hint });
      }
      throw new HoldfastError("REPO_NOT_FOUND", `there is no folder ${folder}`, { cause: error });
    }
  }

  async put(key: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    const target = this.#pathOf(key);
    signal.throwIfAborted();
    const staged = join(this.stagingFolder, `${STAGING_PREFIX}${randomBytes(12).toString("hex")}`);
    await this.#doing(`storing ${key}`, async () => {
      try {
        await this.#makeFolder(this.stagingFolder);
        await this.#stage(staged, data);
        await this.#adopt(key, staged, target);
      } catch (error) {
        await this.#dropStaged(staged);
        throw error;
      }
    });
  }

  async putFile(key: string, stagedPath: string, signal: AbortSignal): Promise<void> {
    const target = this.#pathOf(key);
    signal.throwIfAborted();
    await this.#doing(`storing ${key}`, () => this.#adopt(key, stagedPath, target));
  }

  async get(key: string, signal: AbortSignal): Promise<Buffer> {
    const path = this.#pathOf(key);
    return await this.#reading(key, path, (file) => readRange(file, 0, file.sizeBytes, signal));
  }

  async getRange(key: string, offset: number, length: number, signal: AbortSignal): Promise<Buffer> {
    const path = this.#pathOf(key);
    return await this.#reading(key, path, (file) =>
      readRange(file, offset, Math.max(0, Math.min(length, file.sizeBytes - offset)), signal),
    );
  }

  async stat(key: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    signal.throwIfAborted();
    try {
      const info = await this.#io.stat(this.#pathOf(key));
      return info.isFile() ? { key, sizeBytes: info.size, modifiedMs: info.mtimeMs } : undefined;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw storeError(error, `looking at ${key}`);
    }
  }

  async *list(prefix: string, signal: AbortSignal): AsyncIterable<ObjectInfo> {
    const folder = prefix.includes("/") ? prefix.slice(0, prefix.lastIndexOf("/") + 1) : "";
    if (folder !== "") this.#pathOf(folder.slice(0, -1));
    yield* this.#listFolder(folder, prefix, signal);
  }

  async delete(key: string, signal: AbortSignal): Promise<void> {
    const path = this.#pathOf(key);
    signal.throwIfAborted();
    try {
      await this.#io.unlink(path);
      await this.#io.syncFolder(dirname(path));
    } catch (error) {
      if (!isMissing(error)) throw storeError(error, `removing ${key}`);
    }
  }

  async space(): Promise<SpaceInfo | undefined> {
    try {
      const info = await statfs(this.#root);
      return { totalBytes: info.blocks * info.bsize, freeBytes: info.bavail * info.bsize };
    } catch (error) {
      throw storeError(error, "asking for free space");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.resolve(); // nothing is held open between calls
  }

  #pathOf(key: string): string {
    if (!KEY.test(key) || key === STAGING_NAME || key.startsWith(`${STAGING_NAME}/`)) {
      throw new HoldfastError("INTERNAL", `"${key}" is no object key`);
    }
    return join(this.#root, key);
  }

  async #stage(path: string, data: Uint8Array): Promise<void> {
    const file = await this.#io.create(path);
    try {
      await file.write([data], 0);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Gives a synced staging file its name, if the name is new; the staging file is gone afterwards. */
  async #adopt(key: string, staged: string, target: string): Promise<void> {
    await this.#makeFolder(dirname(target));
    try {
      await this.#io.link(staged, target);
      await this.#io.unlink(staged);
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === "EEXIST") await this.#acceptEqual(key, staged, target);
      else if (errno !== undefined && NO_LINKS.has(errno)) await this.#adoptByRename(key, staged, target);
      else throw error;
    }
    await this.#io.syncFolder(dirname(target));
  }

  async #adoptByRename(key: string, staged: string, target: string): Promise<void> {
    if (await isThere(this.#io, target)) await this.#acceptEqual(key, staged, target);
    else await this.#io.rename(staged, target);
  }

  /** An equal object is there already: make sure that it is durable, as ours would be. */
  async #acceptEqual(key: string, staged: string, target: string): Promise<void> {
    if (!(await sameContent(this.#io, staged, target))) {
      throw new HoldfastError("OBJECT_EXISTS", `another object has the key ${key}`);
    }
    const file = await open(target, constants.O_RDONLY);
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    await this.#io.unlink(staged);
  }

  /** Once for each folder and process: a folder found may come from a crash before its name was durable. */
  async #makeFolder(folder: string): Promise<void> {
    if (folder === this.#root || this.#madeFolders.has(folder)) return;
    const parent = dirname(folder);
    if (parent === this.#root) await this.#assertGround();
    await this.#makeFolder(parent);
    await this.#io.makeFolder(folder);
    await this.#io.syncFolder(parent);
    this.#madeFolders.add(folder);
  }

  /** Where the store's disk is not mounted any more nothing is made in the empty place. */
  async #assertGround(): Promise<void> {
    const now = await stat(this.#root, { bigint: true }).catch(() => undefined);
    if (now?.ino !== this.#ground.ino || now.dev !== this.#ground.dev) throw storeAwayError(this.#root);
  }

  async #dropStaged(staged: string): Promise<void> {
    try {
      await this.#io.unlink(staged);
    } catch {
      // what stays is cleared with the staging folder; the first error is the one to report
    }
  }

  async #reading(key: string, path: string, read: (file: IoReader) => Promise<Buffer>): Promise<Buffer> {
    return await this.#doing(`reading ${key}`, async () => {
      const file = await this.#io.open(path);
      try {
        return await read(file);
      } finally {
        await file.close();
      }
    });
  }

  async #doing<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (errnoOf(error) === "ENOENT") await this.#assertGround();
      if (errnoOf(error) === "EISDIR" || errnoOf(error) === "ENOTDIR") {
        throw new HoldfastError("OBJECT_MISSING", `${what}: there is no such object`, { cause: error });
      }
      throw storeError(error, what);
    }
  }

  async *#listFolder(folder: string, prefix: string, signal: AbortSignal): AsyncIterable<ObjectInfo> {
    signal.throwIfAborted();
    for (const entry of await entriesOf(this.#io, join(this.#root, folder))) {
      const key = `${folder}${entry.name}`;
      if (entry.isDirectory()) {
        const below = `${key}/`;
        if (below.startsWith(prefix) || prefix.startsWith(below)) yield* this.#listFolder(below, prefix, signal);
      } else if (key.startsWith(prefix) && KEY.test(key)) {
        const info = await this.stat(key, signal);
        if (info !== undefined) yield info; // removed meanwhile otherwise
      }
    }
  }
}

/** Entries in key order (a folder counts as its name with `/`), without staging and hidden names. */
async function entriesOf(io: FileIo, folder: string): Promise<Dirent[]> {
  const sortKey = (entry: Dirent): string => (entry.isDirectory() ? `${entry.name}/` : entry.name);
  try {
    const entries = await io.list(folder);
    return entries
      .filter((entry) => !entry.name.startsWith(".") && entry.name !== STAGING_NAME)
      .sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  } catch (error) {
    if (isMissing(error)) return [];
    throw storeError(error, "listing the store");
  }
}

/** Exactly these bytes of a file. Throws STORE_IO when it gives fewer than it has. */
async function readRange(file: IoReader, offset: number, length: number, signal: AbortSignal): Promise<Buffer> {
  signal.throwIfAborted();
  const buffer = Buffer.allocUnsafe(length);
  const count = await readFully(file, buffer, offset);
  signal.throwIfAborted();
  if (count < length) throw new HoldfastError("STORE_IO", "a file gave fewer bytes than it has");
  return buffer;
}

async function sameContent(io: FileIo, one: string, other: string): Promise<boolean> {
  const first = await io.open(one);
  try {
    const second = await io.open(other);
    try {
      return await sameBytes(first, second);
    } finally {
      await second.close();
    }
  } finally {
    await first.close();
  }
}

async function sameBytes(first: IoReader, second: IoReader): Promise<boolean> {
  const never = new AbortController().signal;
  const { sizeBytes } = first;
  if (second.sizeBytes !== sizeBytes) return false;
  for (let offset = 0; offset < sizeBytes; offset += COMPARE_BYTES) {
    const length = Math.min(COMPARE_BYTES, sizeBytes - offset);
    const part = await readRange(first, offset, length, never);
    if (!part.equals(await readRange(second, offset, length, never))) return false;
  }
  return true;
}

async function isThere(io: FileIo, path: string): Promise<boolean> {
  try {
    await io.stat(path);
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ENOENT" || errno === "ENOTDIR";
}
