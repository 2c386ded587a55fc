/**
 * Reading content: a chunk by its id from any place that has it whole, and a file from its chunks, every byte verified.
 * A place that fails is marked suspect, so that the next commit which has the chunk stores it again.
 */
import { createHash } from "node:crypto";
import { HoldfastError, hasCode, messageOf } from "../base/errors.js";
import type { Logger } from "../base/observe.js";
import type { Backend } from "../storage/backend.js";
import type { Catalog } from "./index/catalog.js";
import { holderObjectKey, isSamePlace } from "./index/chunk-index.js";
import type { LevelOperation } from "./index/level-store.js";
import type { ChunkLocation } from "./index/locations.js";
import { storeMark } from "./index/suspect-packs.js";
import type { RepositoryKeys } from "./keys.js";
import type { ParityStore } from "./parity/group-store.js";
import { chunkOfBundle } from "./pack/reader.js";
import type { RecordOpener } from "./pack/record.js";
import { NodeCache } from "./tree/node-cache.js";
import type { ChunkId, FileNode } from "./types.js";
import type { ChunkSet } from "./workers/chunk-set.js";

/** Opened bundles kept for the neighbours of a chunk, about 1 MiB each. */
const BUNDLES_KEPT = 8;
/** A pack can go while we read (sealing, garbage collection); its chunks have a new place then. */
const LOOKUPS_MAX = 3;

export interface ContentReaderOptions {
  readonly backend: Backend;
  readonly keys: RepositoryKeys;
  readonly opener: RecordOpener;
  readonly catalog: Catalog;
  readonly chunkSet: ChunkSet;
  readonly parity: ParityStore;
  /** True when the store may be written: a pack in which something is damaged is then marked there. */
  readonly writable: boolean;
  /**
   * Takes in what another process moved; asked when a pack or segment is gone that the index still lists. Undefined for
   * the writer, whose index moves with what it does.
   */
  readonly refresh?: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly log: Logger;
}

export class ContentReader {
  readonly #options: ContentReaderOptions;
  readonly #bundles = new Map<string, Buffer>();
  /** Numbers of packs and segments that are gone: what took their place was asked for. */
  readonly #gone = new Set<number>();
  /** Tree nodes for looking at folders. */
  readonly nodes = new NodeCache((id, signal) => this.chunk(id, signal));

  constructor(options: ContentReaderOptions) {
    this.#options = options;
  }

  /** The bytes of a chunk, verified against its id. Throws CHUNK_MISSING, RECORD_DAMAGED, STORE_IO. */
  async chunk(id: ChunkId, signal: AbortSignal): Promise<Buffer> {
    let damage: unknown;
    for (let lookup = 0; lookup < LOOKUPS_MAX; lookup += 1) {
      const locations = this.#options.catalog.chunks.locations(id);
      if (locations.length === 0) break;
      for (const location of locations) {
        try {
          return await this.#readAt(id, location, signal);
        } catch (error) {
          signal.throwIfAborted();
          if (hasCode(error, "OBJECT_MISSING") && !this.#isStillThere(id, location)) continue;
          if (hasCode(error, "OBJECT_MISSING") && (await this.#refreshed(location.pack, signal))) continue;
          if (!isDamage(error)) throw error;
          damage = error;
          await this.markSuspect(id, messageOf(error), location);
        }
      }
      if (damage !== undefined) break;
    }
    const made = await this.#fromParity(id, signal);
    if (made !== undefined) return made;
    if (damage === undefined) throw new HoldfastError("CHUNK_MISSING", `chunk ${id} is not in the store`);
    throw new HoldfastError("RECORD_DAMAGED", `chunk ${id} cannot be read: ${messageOf(damage)}`, { cause: damage });
  }

  /** The content of a file in order. Throws RECORD_DAMAGED when it is not the content that was stored. */
  async *content(node: FileNode, signal: AbortSignal): AsyncGenerator<Buffer> {
    const hash = createHash("sha256");
    for (const { id, lengthBytes } of node.chunks ?? []) {
      const bytes = await this.chunk(id, signal);
      if (bytes.length !== lengthBytes) throw new HoldfastError("RECORD_DAMAGED", `chunk ${id} has another length`);
      hash.update(bytes);
      yield bytes;
    }
    if (node.sha256 !== undefined && hash.digest("hex") !== node.sha256) {
      throw new HoldfastError("RECORD_DAMAGED", "the chunks of a file do not make up its digest");
    }
  }

  /** Notes that a copy of a chunk is bad; without a good copy left it is no longer relied upon. */
  async markSuspect(id: ChunkId, reason: string, location?: ChunkLocation): Promise<void> {
    const { catalog, chunkSet, log } = this.#options;
    for (const { pack } of location === undefined ? catalog.chunks.locations(id) : [location])
      await this.markPack(pack);
    const operations: LevelOperation[] = [];
    const lost = catalog.chunks.markSuspect(
      operations,
      id,
      (place) => location === undefined || isSamePlace(place, location),
    );
    if (operations.length === 0) return;
    if (lost) chunkSet.delete(id);
    log.warn("chunk.suspect", { chunk: id, reason, lost });
    await catalog.write(operations);
  }

  /**
   * Leaves a mark in the store that a pack (by its number) is damaged: the index alone could be lost, and what it says be
   * relied upon again. A collection writes what is needed of a marked pack anew. False when the store takes no mark.
   */
  async markPack(number: number): Promise<boolean> {
    const { catalog, backend, writable, log } = this.#options;
    const holder = catalog.chunks.holder(number);
    if (!writable || holder === undefined || holder.kind === "w") return false;
    const marked = { kind: holder.kind, name: holder.name };
    if (catalog.suspects.has(marked)) return true;
    if (!(await storeMark(backend, marked, log))) return false;
    const operations: LevelOperation[] = [];
    catalog.suspects.put(operations, marked);
    await catalog.write(operations);
    return true;
  }

  /** The chunk out of the parity of a pack that should have it. Its place stays suspect, so that it is stored again. */
  async #fromParity(id: ChunkId, signal: AbortSignal): Promise<Buffer | undefined> {
    const { catalog, parity, log } = this.#options;
    for (const location of catalog.chunks.locations(id)) {
      const holder = catalog.chunks.holder(location.pack);
      if (holder === undefined || holder.kind === "w") continue;
      const place = { offsetBytes: location.offsetBytes, lengthBytes: location.recordBytes };
      const bytes = await parity.range({ kind: holder.kind, sha256: holder.name }, place, signal);
      try {
        if (bytes === undefined) continue;
        const plain = this.#plainOf(id, location, bytes);
        log.warn("chunk.from_parity", { chunk: id, pack: holder.name });
        return plain;
      } catch (error) {
        if (!isDamage(error)) throw error;
      }
    }
    return undefined;
  }

  /** The chunk out of its record's bytes. Throws RECORD_DAMAGED. */
  #plainOf(id: ChunkId, { innerOffsetBytes, lengthBytes }: ChunkLocation, record: Buffer): Buffer {
    const { keys, opener } = this.#options;
    const { header, plain } = opener.open(record);
    if (innerOffsetBytes !== undefined)
      return chunkOfBundle(keys, plain, { id, offsetBytes: innerOffsetBytes, lengthBytes });
    if (header.id !== id) throw new HoldfastError("RECORD_DAMAGED", `another record stands in place of chunk ${id}`);
    return plain;
  }

  async #readAt(id: ChunkId, location: ChunkLocation, signal: AbortSignal): Promise<Buffer> {
    const { backend, keys, opener, catalog } = this.#options;
    const holder = catalog.chunks.holder(location.pack);
    if (holder === undefined) throw new HoldfastError("OBJECT_MISSING", `the pack of chunk ${id} is not known`);
    const bundleName = `${String(location.pack)}:${String(location.offsetBytes)}`;
    let plain = location.innerOffsetBytes === undefined ? undefined : this.#bundles.get(bundleName);
    if (plain === undefined) {
      const key = holderObjectKey(holder);
      const bytes = await backend.getRange(key, location.offsetBytes, location.recordBytes, signal);
      if (bytes.length < location.recordBytes) throw new HoldfastError("RECORD_DAMAGED", `${key} is cut short`);
      const opened = opener.open(bytes);
      plain = opened.plain;
      if (location.innerOffsetBytes === undefined && opened.header.id !== id) {
        throw new HoldfastError("RECORD_DAMAGED", `another record stands where chunk ${id} should be`);
      }
    }
    if (location.innerOffsetBytes === undefined) return plain;
    this.#keepBundle(bundleName, plain);
    const { innerOffsetBytes: offsetBytes, lengthBytes } = location;
    return chunkOfBundle(keys, plain, { id, offsetBytes, lengthBytes });
  }

  #keepBundle(name: string, plain: Buffer): void {
    this.#bundles.delete(name);
    this.#bundles.set(name, plain);
    if (this.#bundles.size <= BUNDLES_KEPT) return;
    for (const oldest of this.#bundles.keys()) {
      this.#bundles.delete(oldest);
      return;
    }
  }

  /** True when it was not known that this pack is gone: its chunks may have another place now. */
  async #refreshed(pack: number, signal: AbortSignal): Promise<boolean> {
    const { refresh } = this.#options;
    if (refresh === undefined || this.#gone.has(pack)) return false;
    this.#gone.add(pack);
    await refresh(signal);
    return true;
  }

  /** False when the catalog now knows other places only: the chunk was moved while we read. */
  #isStillThere(id: ChunkId, place: ChunkLocation): boolean {
    return this.#options.catalog.chunks
      .locations(id)
      .some((location) => location.pack === place.pack && location.offsetBytes === place.offsetBytes);
  }
}

/** What a damaged or lost copy looks like; anything else is a fault of the moment and is passed on. */
function isDamage(error: unknown): boolean {
  return ["RECORD_DAMAGED", "OBJECT_MISSING", "OBJECT_DAMAGED", "STORE_IO"].some(
    (code) => error instanceof HoldfastError && error.code === code,
  );
}
