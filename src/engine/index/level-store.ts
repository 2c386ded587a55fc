/**
 * The LevelDB beneath the catalog: numbered buckets, and one queue for writes, so that batches land in the order they
 * were asked for and many small ones become one. It holds nothing that the store cannot give back.
 */
import { mkdir, rm } from "node:fs/promises";
import { Level } from "level";
import { HoldfastError, errnoOf, messageOf } from "../../base/errors.js";

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
} as const;
export type BucketName = keyof typeof BUCKET;

export type LevelOperation =
  | { readonly type: "put"; readonly key: Buffer; readonly value: Buffer }
  | { readonly type: "del"; readonly key: Buffer };

/** One LevelDB batch holds at most this many operations: about 10 MB of entries. */
const BATCH_OPERATIONS_MAX = 20_000;
/** Pairs fetched from LevelDB at once while iterating. */
const ITERATOR_PAIRS = 1000;
const BLOCK_CACHE_BYTES = 16 * 2 ** 20;
const WRITE_BUFFER_BYTES = 8 * 2 ** 20;

type Database = Level<Buffer, Buffer>;

export class LevelStore implements AsyncDisposable {
  readonly #database: Database;
  #queue: LevelOperation[] = [];
  #flushing: Promise<void> | undefined;

  private constructor(database: Database) {
    this.#database = database;
  }

  /** Throws INDEX_LOCKED when another process has it open, INDEX_DAMAGED when LevelDB cannot read it. */
  static async open(folder: string): Promise<LevelStore> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const database: Database = new Level<Buffer, Buffer>(folder, {
      keyEncoding: "buffer",
      valueEncoding: "buffer",
      cacheSize: BLOCK_CACHE_BYTES,
      writeBufferSize: WRITE_BUFFER_BYTES,
    });
    try {
      await database.open();
    } catch (error) {
      throw openingError(error, folder);
    }
    return new LevelStore(database);
  }

  /** Deletes the whole index folder; it must not be open. */
  static async destroy(folder: string): Promise<void> {
    await rm(folder, { recursive: true, force: true });
  }

  get(key: Buffer): Buffer | undefined {
    return this.#database.getSync(key);
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
      await this.#database.batch(batch);
    } catch (error) {
      // What was asked for stays first in the queue: the next write tries it again, so the order holds.
      this.#queue = [...batch, ...this.#queue];
      throw new HoldfastError("INDEX_DAMAGED", `the local index cannot be written: ${messageOf(error)}`, {
        cause: error,
      });
    } finally {
      this.#flushing = undefined;
    }
  }

  /** Pairs with keys from `from` to before `to`, a page at a time, out of one snapshot. */
  async *pages(from: Buffer, to: Buffer): AsyncGenerator<[Buffer, Buffer][]> {
    const iterator = this.#database.iterator({ gte: from, lt: to });
    try {
      for (;;) {
        const page = await iterator.nextv(ITERATOR_PAIRS);
        if (page.length === 0) return;
        yield page;
      }
    } finally {
      await iterator.close();
    }
  }

  /** The first `limit` pairs of a range. */
  async first(from: Buffer, to: Buffer, limit: number): Promise<[Buffer, Buffer][]> {
    const pairs: [Buffer, Buffer][] = [];
    for await (const pair of this.#database.iterator({ gte: from, lt: to, limit })) pairs.push(pair);
    return pairs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    while (this.#flushing !== undefined) await this.#flushing;
    await this.#database.close();
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
