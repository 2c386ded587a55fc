/**
 * The LevelDB beneath the catalog: numbered buckets, and one queue for writes, so that batches land in the order they
 * were asked for and many small ones become one. It holds nothing that the store cannot give back. LevelDB does not
 * look at its own checksums when it reads, so each value carries one; whatever is found wrong is INDEX_DAMAGED, and the
 * next start makes the index again.
 */
import { writeFileSync } from "node:fs";
import { mkdir, readFile, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { Level } from "level";
import { HoldfastError, errnoOf, messageOf } from "../../base/errors.js";
import { noteClosed, noteOpened } from "../../base/unclean-ends.js";
import { storeError } from "../../storage/store-error.js";
import { NOTES_NAME, breakSeal, sealFolder } from "./index-seal.js";

/** First byte of every key. Numbers are permanent; a retired one stays listed. */
export const BUCKET = {
  meta: 1,
  chunk: 2,
  pack: 3,
  packByName: 4,
  current: 5,
  history: 6,
  digest: 7,
  commit: 8,
  backup: 9,
  fragment: 10,
  removed: 11,
  verified: 12,
  suspect: 13,
  partial: 14,
  logEnd: 15,
  leaves: 16,
} as const;
export type BucketName = keyof typeof BUCKET;

export type LevelOperation =
  | { readonly type: "put"; readonly key: Buffer; readonly value: Buffer }
  | { readonly type: "del"; readonly key: Buffer };

/** One LevelDB batch holds at most this many operations: about 10 MB of entries. */
const BATCH_OPERATIONS_MAX = 20_000;
/** Pairs fetched from LevelDB at once while iterating. */
const ITERATOR_PAIRS = 1000;
/** Blocks that are opened for use; the files themselves lie in the system's cache. */
const BLOCK_CACHE_BYTES = 6 * 2 ** 20;
/** Tables that stay mapped, 2 MiB each; LevelDB takes no fewer. Unbounded they would grow with the index for ever. */
const OPEN_FILES_MAX = 74;
const WRITE_BUFFER_BYTES = 8 * 2 ** 20;

/** CRC-32 of key and value, little-endian, behind each value. */
const CRC_BYTES = 4;
/** Lies beside LevelDB's files once one of them proved damaged. */
const DAMAGE_MARK = "holdfast-damaged";
/** What LevelDB writes into its own log when it skips a part of its write-ahead log. */
const SKIPPED_PART = ": dropping ";
/** With less than this left on its disk, a failed write is put down to the full disk, bytes. */
const DISK_FULL_BYTES = 4 * 2 ** 20;

type Database = Level<Buffer, Buffer>;

export class LevelStore implements AsyncDisposable {
  readonly #database: Database;
  readonly #folder: string;
  #queue: LevelOperation[] = [];
  #flushing: Promise<void> | undefined;
  #hasFailed = false;
  /** What `takeNotes` left at the last clean close; true as long as nothing was written since. */
  readonly notes: Buffer | undefined;
  /** Asked at a clean close for what `notes` shall be at the next start; undefined: nothing. */
  takeNotes: () => Buffer | undefined = () => undefined;
  /** Told when something proves damaged, each time. */
  onDamaged: (error: HoldfastError) => void = () => undefined;

  private constructor(database: Database, folder: string, notes: Buffer | undefined) {
    this.#database = database;
    this.#folder = folder;
    this.notes = notes;
  }

  /**
   * Throws INDEX_LOCKED when another process has it open, INDEX_DAMAGED when LevelDB cannot read it; STORE_IO, STORE_FULL,
   * STORE_READ_ONLY, PERMISSION_DENIED when its disk is in trouble.
   */
  static async open(folder: string): Promise<LevelStore> {
    return await LevelStore.#opened(folder).catch((error: unknown) => {
      throw diskError(error, folder);
    });
  }

  static async #opened(folder: string): Promise<LevelStore> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    if (await isThere(join(folder, DAMAGE_MARK))) {
      throw new HoldfastError("INDEX_DAMAGED", "the local index proved damaged when it was used last");
    }
    const { wasSealed, changed } = await breakSeal(folder);
    if (changed !== undefined) {
      throw new HoldfastError("INDEX_DAMAGED", `${changed} of the local index changed while nobody used it`);
    }
    await noteOpened(folder);
    const database: Database = new Level<Buffer, Buffer>(folder, {
      keyEncoding: "buffer",
      valueEncoding: "buffer",
      cacheSize: BLOCK_CACHE_BYTES,
      writeBufferSize: WRITE_BUFFER_BYTES,
      maxOpenFiles: OPEN_FILES_MAX,
    });
    try {
      await database.open();
    } catch (error) {
      throw openingError(error, folder);
    }
    const notes = wasSealed ? await readFile(join(folder, NOTES_NAME)).catch(() => undefined) : undefined;
    if (!(await hasSkipped(folder))) return new LevelStore(database, folder, notes);
    await database.close();
    throw new HoldfastError("INDEX_DAMAGED", "the local index has lost a part of what was written to it");
  }

  /** Deletes the whole index folder; it must not be open. Throws as `open` does for a disk in trouble. */
  static async destroy(folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true }).catch((error: unknown) => {
      throw diskError(error, folder);
    });
  }

  /** Throws INDEX_DAMAGED. */
  get(key: Buffer): Buffer | undefined {
    let stored: Buffer | undefined;
    try {
      stored = this.#database.getSync(key);
    } catch (error) {
      throw this.#damaged(error);
    }
    return stored === undefined ? undefined : this.#checked(key, stored);
  }

  /** The value without its checksum. */
  #checked(key: Buffer, stored: Buffer): Buffer {
    const end = stored.length - CRC_BYTES;
    if (end < 0) throw this.#damaged("a value is cut off");
    const value = stored.subarray(0, end);
    if (stored.readUInt32LE(end) !== crc32(value, crc32(key))) throw this.#damaged("a checksum does not match");
    return value;
  }

  /** Leaves a mark, so that the next start makes the index again. */
  #damaged(cause: unknown): HoldfastError {
    try {
      writeFileSync(join(this.#folder, DAMAGE_MARK), "");
    } catch (error) {
      cause = new AggregateError([cause, error], `${reasonOf(cause)}; ${messageOf(error)}`);
    }
    const damaged = new HoldfastError("INDEX_DAMAGED", `the local index is damaged: ${reasonOf(cause)}`, { cause });
    this.onDamaged(damaged);
    return damaged;
  }

  /** Resolves when the operations are in LevelDB; earlier calls land before later ones. */
  async write(operations: readonly LevelOperation[]): Promise<void> {
    for (const operation of operations) this.#queue.push(operation);
    while (this.#queue.length > 0) {
      this.#flushing ??= this.#flush();
      await this.#flushing;
    }
    await this.#flushing;
  }

  async #flush(): Promise<void> {
    const batch = this.#queue.slice(0, BATCH_OPERATIONS_MAX);
    this.#queue = this.#queue.slice(BATCH_OPERATIONS_MAX);
    try {
      await this.#database.batch(batch.map(withChecksum));
    } catch (error) {
      // What was asked for stays first in the queue: the next write tries it again, so the order holds.
      this.#queue = [...batch, ...this.#queue];
      this.#hasFailed = true;
      throw await this.#writingError(error);
    } finally {
      this.#flushing = undefined;
    }
  }

  async #writingError(error: unknown): Promise<HoldfastError> {
    const space = await statfs(this.#folder).catch(() => undefined);
    if (space !== undefined && space.bavail * space.bsize < DISK_FULL_BYTES) {
      return new HoldfastError("STORE_FULL", `the disk of the local index is full: ${messageOf(error)}`, {
        cause: error,
        hint: "Free space on the file system of the state folder; holdfast goes on by itself.",
      });
    }
    return this.#damaged(error);
  }

  /**
   * Pairs with keys from `from` to before `to`, a page at a time, out of one snapshot. The next page is read, on another
   * thread, while one is worked on.
   */
  async *pages(from: Buffer, to: Buffer): AsyncGenerator<[Buffer, Buffer][]> {
    const iterator = this.#database.iterator({ gte: from, lt: to });
    const read = (): Promise<[Buffer, Buffer][]> => {
      const page = iterator.nextv(ITERATOR_PAIRS);
      page.catch(() => undefined); // heard where it is awaited
      return page;
    };
    let ahead = read();
    try {
      for (;;) {
        const page = await ahead.catch((error: unknown) => {
          throw this.#damaged(error);
        });
        if (page.length === 0) return;
        ahead = read();
        yield page.map(([key, stored]) => [key, this.#checked(key, stored)]);
      }
    } finally {
      await iterator.close();
    }
  }

  /** The first `limit` pairs of a range. */
  async first(from: Buffer, to: Buffer, limit: number): Promise<[Buffer, Buffer][]> {
    const iterator = this.#database.iterator({ gte: from, lt: to, limit });
    const pairs = await iterator.all().catch((error: unknown) => {
      throw this.#damaged(error);
    });
    return pairs.map(([key, stored]) => [key, this.#checked(key, stored)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing;
    await this.#database.close();
    try {
      await noteClosed(this.#folder);
      await this.#keepNotes();
      await sealFolder(this.#folder);
    } catch {
      // Not worth a failure: without the seal nothing is known at the next start, which then looks at everything.
    }
  }

  async #keepNotes(): Promise<void> {
    const path = join(this.#folder, NOTES_NAME);
    const notes = this.#hasFailed ? undefined : this.takeNotes();
    if (notes === undefined) await rm(path, { force: true });
    else if (this.notes?.equals(notes) !== true) await writeFile(path, notes);
  }
}

function withChecksum(operation: LevelOperation): LevelOperation {
  if (operation.type === "del") return operation;
  const { type, key, value } = operation;
  const stored = Buffer.allocUnsafe(value.length + CRC_BYTES);
  stored.set(value);
  stored.writeUInt32LE(crc32(value, crc32(key)), value.length);
  return { type, key, value: stored };
}

function reasonOf(cause: unknown): string {
  return typeof cause === "string" ? cause : messageOf(cause);
}

/** True when LevelDB dropped damaged parts of its write-ahead log while it opened: what follows would stand on gaps. */
async function hasSkipped(folder: string): Promise<boolean> {
  try {
    return (await readFile(join(folder, "LOG"), "latin1")).includes(SKIPPED_PART);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw openingError(error, folder);
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}

function openingError(error: unknown, folder: string): HoldfastError {
  const cause = error instanceof Error ? error.cause : undefined;
  if (errnoOf(cause) === "LEVEL_LOCKED") {
    return new HoldfastError("INDEX_LOCKED", `another process has the index open: ${folder}`, { cause: error });
  }
  return new HoldfastError("INDEX_DAMAGED", `the local index cannot be opened: ${messageOf(cause ?? error)}`, {
    cause: error,
    details: { folder },
  });
}

/** What the system said about the disk of the index. */
function diskError(error: unknown, folder: string): HoldfastError {
  if (error instanceof HoldfastError) return error;
  const { code, message } = storeError(error, `the local index ${folder} cannot be used`);
  return new HoldfastError(code, message, {
    cause: error,
    hint: "Look after the disk of the state folder, or name another folder; the index is made again from the store.",
  });
}

/** A key of a bucket out of parts. */
export function bucketKey(bucket: BucketName, ...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat([Buffer.of(BUCKET[bucket]), ...parts]);
}

/** The end of all keys that begin with `prefix`. */
export function afterPrefix(prefix: Buffer): Buffer {
  let length = prefix.length;
  while (length > 1 && prefix[length - 1] === 255) length -= 1;
  const end = Buffer.from(prefix.subarray(0, length));
  end[length - 1] = (end[length - 1] ?? 0) + 1;
  return end;
}
