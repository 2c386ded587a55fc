/**
 * Where repaired records go: new packs beside what is damaged. Nothing is taken over that does not open to the chunk it
 * is to be; a bundle is taken over whole.
 */
import type { RepositoryCore } from "../core.js";
import { readBundle } from "../pack/bundle.js";
import { chunkOfBundle } from "../pack/reader.js";
import type { FinishedPack, PackEntry, PackKind } from "../pack/format.js";
import type { OpenedRecord, SealedRecord } from "../pack/record.js";
import type { PackWriter } from "../pack/writer.js";
import type { ChunkId } from "../types.js";
import { isDamage, type LostChunks } from "./lost.js";

export class FoundRecords implements AsyncDisposable {
  readonly #core: RepositoryCore;
  readonly #lost: LostChunks;
  readonly #keeps: boolean;
  readonly #writers = new Map<PackKind, PackWriter>();
  readonly #packs: FinishedPack[] = [];
  /** Chunks found so far. */
  count = 0;

  /** What is found is taken off `lost`; with `keeps` false it is only counted. */
  constructor(core: RepositoryCore, lost: LostChunks, keeps: boolean) {
    this.#core = core;
    this.#lost = lost;
    this.#keeps = keeps;
  }

  /** Takes a record that a list says to hold lost chunks; false when it does not open to them. */
  async offer(entry: PackEntry, bytes: Buffer): Promise<boolean> {
    if (!this.#isWhole(entry, bytes)) return false;
    await this.add({ ...entry, bytes });
    return true;
  }

  /** Takes a record that was opened, and so proven. Throws RECORD_DAMAGED when it is a bundle and not whole. */
  async addOpened({ header, plain }: OpenedRecord, bytes: Buffer): Promise<void> {
    const { id, type, plainBytes } = header;
    const inner = type === "bundle" ? readBundle(plain) : undefined;
    for (const chunk of inner ?? []) chunkOfBundle(this.#core.parts.keys, plain, chunk);
    await this.add({ id, type, plainBytes, bytes, ...(inner === undefined ? {} : { inner }) });
  }

  /** Takes a record that is known to be whole. */
  async add(record: SealedRecord): Promise<void> {
    for (const id of record.inner?.map((chunk) => chunk.id) ?? [record.id]) if (this.#lost.delete(id)) this.count += 1;
    if (!this.#keeps) return;
    const kind = record.type === "tree_node" ? "m" : "d";
    const writer = this.#writers.get(kind) ?? this.#core.newPack(kind);
    this.#writers.set(kind, writer);
    await writer.add(record);
    if (writer.full) await this.#close(kind);
  }

  #isWhole(entry: PackEntry, bytes: Buffer): boolean {
    const { opener, keys } = this.#core.parts;
    try {
      const { header, plain } = opener.open(bytes);
      if (header.id !== entry.id || header.type !== entry.type) return false;
      for (const chunk of entry.inner ?? []) chunkOfBundle(keys, plain, chunk);
      return true;
    } catch (error) {
      if (!isDamage(error)) throw error;
      return false;
    }
  }

  async #close(kind: PackKind): Promise<void> {
    const pack = await this.#writers.get(kind)?.finish();
    this.#writers.delete(kind);
    if (pack !== undefined) this.#packs.push(pack);
  }

  /** Makes what was found durable and known to the catalog; gives the bytes of the new packs. */
  async store(signal: AbortSignal): Promise<number> {
    for (const kind of [...this.#writers.keys()]) await this.#close(kind);
    const packs = this.#packs.splice(0);
    return await this.#core.maintenance.run(() => this.#core.storePacks(packs, signal), signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const writer of this.#writers.values()) await writer[Symbol.asyncDispose]();
  }
}

/** True when a record holds a chunk that is lost. */
export function holdsLost(entry: PackEntry, lost: ReadonlyMap<ChunkId, unknown>): boolean {
  return entry.inner?.some(({ id }) => lost.has(id)) ?? lost.has(entry.id);
}
