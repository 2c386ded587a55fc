/**
 * What a worker does with each chunk: name it, look it up, and seal it when it is new, alone or in a bundle. One store
 * lives as long as its job in pack mode and as long as its batch inline.
 */
import { hash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Compression } from "../codec/codec.js";
import type { RepositoryKeys } from "../keys.js";
import { BundleBuilder } from "../pack/bundle.js";
import { chunkIdOfDigest, type RecordSealer } from "../pack/record.js";
import type { ChunkId, ChunkRef } from "../types.js";
import type { ChunkSetReader } from "./chunk-set.js";
import type { RecordSink } from "./sinks.js";

/** The codec's outputs are freed when the event loop turns: it does so after this many sealed bytes. */
const SEALED_BYTES_PER_TURN = 8 * 2 ** 20;

const ID_BYTES = 32;

export interface ChunkStoreOptions {
  readonly keys: RepositoryKeys;
  readonly sealer: RecordSealer;
  readonly sink: RecordSink;
  readonly compression: Compression;
  /** Gives a chunk to a thread that has nothing to do; false when there is none. The bytes are not kept. */
  readonly offer?: (id: ChunkId, plain: Uint8Array) => boolean;
}

export class ChunkStore {
  readonly sink: RecordSink;
  readonly #options: ChunkStoreOptions;
  /** Stored in this batch; the main thread marks them in the ChunkSet when the batch is answered. */
  readonly #own = new Set<ChunkId>();
  #known: ChunkSetReader | undefined;
  readonly #bundle = new BundleBuilder();
  #sealedBytes = 0;

  constructor(options: ChunkStoreOptions) {
    this.#options = options;
    this.sink = options.sink;
  }

  /** Begins a batch: `known` says which chunks need not be stored. */
  beginBatch(known: ChunkSetReader): void {
    this.#known = known;
    this.#own.clear();
  }

  /**
   * Stores a chunk if it is new. `bundled`: together with others. `sha256` is its digest, where it is known already.
   * The bytes are not kept after the call. Wait for the promise if there is one.
   */
  put(plain: Uint8Array, bundled: boolean, sha256 = hash("sha256", plain, "hex")): ChunkRef | Promise<ChunkRef> {
    const id = chunkIdOfDigest(this.#options.keys, sha256);
    const ref = { id, lengthBytes: plain.length };
    if (this.#own.has(id) || this.#known?.has(id) === true) return ref;
    this.#own.add(id);
    if (!bundled) return this.#options.offer?.(id, plain) === true ? ref : this.seal(id, plain).then(() => ref);
    this.#bundle.add(id, plain);
    return this.#bundle.isFull ? this.flush().then(() => ref) : ref;
  }

  /** Ids of what was stored in this batch, 32 bytes each. */
  newIds(): Uint8Array {
    const ids = new Uint8Array(this.#own.size * ID_BYTES);
    const view = Buffer.from(ids.buffer);
    let at = 0;
    for (const id of this.#own) at += view.write(id, at, "hex");
    return ids;
  }

  /** Seals what waits in the bundle. */
  async flush(): Promise<void> {
    if (this.#bundle.count === 0) return;
    const { plain, inner } = this.#bundle.take();
    const [only] = inner;
    if (only !== undefined && inner.length === 1) {
      await this.seal(only.id, plain.subarray(only.offsetBytes));
      return;
    }
    const record = this.#options.sealer.seal("bundle", plain, this.#options.compression);
    await this.sink.put({ ...record, inner });
    await this.#breathe(plain.length);
  }

  /** Seals a chunk alone, without looking whether it is stored. */
  async seal(id: ChunkId, plain: Uint8Array): Promise<void> {
    await this.sink.put(this.#options.sealer.seal("chunk", plain, this.#options.compression, id));
    await this.#breathe(plain.length);
  }

  async #breathe(bytes: number): Promise<void> {
    this.#sealedBytes += bytes;
    if (this.#sealedBytes < SEALED_BYTES_PER_TURN) return;
    this.#sealedBytes = 0;
    await nextTurn();
  }
}
