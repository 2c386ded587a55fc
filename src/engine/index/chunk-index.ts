/**
 * The catalog's part that knows where chunks lie: packs and log segments by number, and the places of each chunk.
 * Packs are few and held in memory; chunks are looked up in LevelDB.
 */
import type { PackEntry, PackKind } from "../pack/format.js";
import { packKey } from "../pack/format.js";
import { ByteReader, ByteWriter } from "../tree/bytes.js";
import type { ChunkId } from "../types.js";
import { DURABLE_KEY_BYTES, type ChunkSet } from "../workers/chunk-set.js";
import type { IndexedPack } from "./fragments.js";
import { BUCKET, type LevelOperation, type LevelStore, afterPrefix, bucketKey } from "./level-store.js";
import { Unwritten } from "./unwritten.js";
import { type ChunkLocation, decodeLocations, encodeLocations, firstLengthBytes, hasGoodPlace } from "./locations.js";

/** `w` is a segment of the write-ahead log: its chunks move into packs when it is sealed. */
export type HolderKind = PackKind | "w";

/** A pack or log segment. */
export interface ChunkHolder {
  readonly number: number;
  readonly kind: HolderKind;
  /** SHA-256 of a pack; `<writer>/<segment>` of a log segment. */
  readonly name: string;
  readonly sizeBytes: number;
  /** The fragment that lists it; "" for log segments and packs found without one. */
  readonly fragment: string;
}

export interface ChunkCounts {
  chunks: number;
  uniqueBytes: number;
  suspectChunks: number;
}

/** What is thought of places that are put in. */
export type PlaceTrust =
  /** Good, but a place that is known to be suspect stays so: a list of records proves none of them. */
  | "listed"
  /** Read and good. */
  | "proven"
  | "suspect";

export interface PutOptions {
  /** Asked once for each chunk: where it says that no good place was known, and no chunk is suspect, none is looked for. */
  readonly wasKnown?: ((id: ChunkId) => boolean) | undefined;
  /** Default `listed`. */
  readonly trust?: PlaceTrust;
}

/** A new place of a chunk. */
export interface FoundChunk {
  readonly id: ChunkId;
  readonly location: ChunkLocation;
}

/** Notes: version (u32), chunks and suspect ones (u48 each), unique bytes (u64), then the key of each durable chunk. */
const NOTES_VERSION = 1;
const NOTES_HEAD_BYTES = 24;

export class ChunkIndex {
  readonly #level: LevelStore;
  readonly #holders = new Map<number, ChunkHolder>();
  readonly #numbers = new Map<string, number>();
  readonly #unwritten = new Unwritten();
  #nextNumber = 1;
  readonly counts: ChunkCounts = { chunks: 0, uniqueBytes: 0, suspectChunks: 0 };
  /** The table that says which chunks have a good copy, once it is filled. */
  #durable: ChunkSet | undefined;
  /** True when places of chunks changed since the index was opened. */
  #hasChanged = false;

  constructor(level: LevelStore) {
    this.#level = level;
  }

  /** Reads packs into memory. */
  async load(): Promise<void> {
    for await (const page of this.#level.pages(...bucketRange("pack"))) {
      for (const [key, value] of page) this.#remember(decodeHolder(key.readUInt32BE(1), value));
    }
  }

  /**
   * Adds every chunk that has a good copy to the table and counts them all: out of the notes of the last clean close,
   * and where there are none, or something has changed since, by reading every place of a chunk.
   */
  async fill(durable: ChunkSet): Promise<void> {
    const { notes } = this.#level;
    if (notes === undefined || this.#hasChanged || !this.#fillFrom(notes, durable)) await this.#survey(durable);
    this.#durable = durable;
    this.#level.takeNotes = () => this.#takeNotes();
  }

  async #survey(durable: ChunkSet): Promise<void> {
    Object.assign(this.counts, { chunks: 0, uniqueBytes: 0, suspectChunks: 0 } satisfies ChunkCounts);
    for await (const page of this.#level.pages(...bucketRange("chunk"))) {
      for (const [key, value] of page) {
        this.counts.chunks += 1;
        this.counts.uniqueBytes += firstLengthBytes(value);
        if (hasGoodPlace(value)) durable.addDurableAt(key, 1);
        else this.counts.suspectChunks += 1;
      }
    }
  }

  /** False when the notes are of another version. */
  #fillFrom(notes: Buffer, durable: ChunkSet): boolean {
    if (notes.length < NOTES_HEAD_BYTES || notes.readUInt32LE(0) !== NOTES_VERSION) return false;
    this.counts.chunks = notes.readUIntLE(4, 6);
    this.counts.suspectChunks = notes.readUIntLE(10, 6);
    this.counts.uniqueBytes = Number(notes.readBigUInt64LE(16));
    durable.reserve(this.counts.chunks);
    for (let at = NOTES_HEAD_BYTES; at < notes.length; at += DURABLE_KEY_BYTES) durable.addDurableAt(notes, at);
    return true;
  }

  /** Undefined when they would not say what the index says, as after a write that failed. */
  #takeNotes(): Buffer | undefined {
    if (!this.#hasChanged && this.#level.notes !== undefined) return this.#level.notes;
    const { chunks, suspectChunks, uniqueBytes } = this.counts;
    const keys = this.#durable?.durableKeys();
    if (keys?.length !== (chunks - suspectChunks) * DURABLE_KEY_BYTES) return undefined;
    const head = Buffer.alloc(NOTES_HEAD_BYTES);
    head.writeUInt32LE(NOTES_VERSION, 0);
    head.writeUIntLE(chunks, 4, 6);
    head.writeUIntLE(suspectChunks, 10, 6);
    head.writeBigUInt64LE(BigInt(uniqueBytes), 16);
    return Buffer.concat([head, keys]);
  }

  #remember(holder: ChunkHolder): void {
    this.#holders.set(holder.number, holder);
    this.#numbers.set(`${holder.kind}${holder.name}`, holder.number);
    this.#nextNumber = Math.max(this.#nextNumber, holder.number + 1);
  }

  holders(): IterableIterator<ChunkHolder> {
    return this.#holders.values();
  }

  holder(number: number): ChunkHolder | undefined {
    return this.#holders.get(number);
  }

  holderNamed(kind: HolderKind, name: string): ChunkHolder | undefined {
    const number = this.#numbers.get(`${kind}${name}`);
    return number === undefined ? undefined : this.#holders.get(number);
  }

  /** The places of a chunk, good ones first. */
  locations(id: ChunkId): ChunkLocation[] {
    return goodFirst(this.#level.get(chunkKey(id)));
  }

  /** The same once these operations are written: two packs of one round may hold the same chunk. */
  #locationsAfter(operations: readonly LevelOperation[], id: ChunkId): ChunkLocation[] {
    const key = chunkKey(id);
    const unwritten = this.#unwritten.find(operations, key);
    return goodFirst(unwritten === undefined ? this.#level.get(key) : unwritten.value);
  }

  /** Registers a holder (known ones keep their number) and appends the operations that keep it. */
  putHolder(operations: LevelOperation[], holder: Omit<ChunkHolder, "number">): ChunkHolder {
    const number = this.#numbers.get(`${holder.kind}${holder.name}`) ?? this.#nextNumber;
    const kept = { ...holder, number };
    this.#remember(kept);
    operations.push({ type: "put", key: holderKey(number), value: encodeHolder(kept) });
    return kept;
  }

  /** Registers a pack with all its chunks. */
  putPack(operations: LevelOperation[], pack: IndexedPack, fragment: string, options: PutOptions = {}): void {
    const { kind, sha256, sizeBytes } = pack;
    const holder = this.putHolder(operations, { kind, name: sha256, sizeBytes, fragment });
    this.putChunks(operations, chunksOfEntries(holder.number, pack.entries), options);
  }

  /** Adds places of chunks: a good place is kept beside, and put before, what is known. */
  putChunks(operations: LevelOperation[], found: Iterable<FoundChunk>, options: PutOptions = {}): void {
    const { wasKnown = () => true, trust = "listed" } = options;
    this.#hasChanged = true;
    for (const { id, location } of found) {
      const known = wasKnown(id) || this.counts.suspectChunks > 0 ? this.#locationsAfter(operations, id) : [];
      const same = known.find((other) => isSamePlace(other, location));
      const suspect = trust === "suspect" || (trust === "listed" && same?.suspect === true);
      const others = known.filter((other) => other !== same);
      const places = suspect ? [...others, { ...location, suspect }] : [location, ...others];
      if (known.length === 0) {
        this.counts.chunks += 1;
        this.counts.uniqueBytes += location.lengthBytes;
      }
      const wasLost = known.length > 0 && known.every((other) => other.suspect);
      this.counts.suspectChunks += Number(places.every((place) => place.suspect)) - Number(wasLost);
      operations.push({ type: "put", key: chunkKey(id), value: encodeLocations(places) });
    }
  }

  /** Drops a holder and every place in it that is among `chunks`. A chunk without a place left is forgotten. */
  dropHolder(operations: LevelOperation[], number: number, chunks: Iterable<ChunkId>): void {
    for (const id of chunks) this.dropPlaces(operations, id, new Set([number]));
    const holder = this.#holders.get(number);
    if (holder === undefined) return;
    this.#holders.delete(number);
    this.#numbers.delete(`${holder.kind}${holder.name}`);
    operations.push({ type: "del", key: holderKey(number) });
  }

  /** Forgets the places of a chunk in some holders; a chunk without a place left is forgotten. */
  dropPlaces(operations: LevelOperation[], id: ChunkId, numbers: ReadonlySet<number>): void {
    const known = this.locations(id);
    const left = known.filter((location) => !numbers.has(location.pack));
    if (left.length === known.length) return;
    this.#hasChanged = true;
    if (left.length > 0) {
      operations.push({ type: "put", key: chunkKey(id), value: encodeLocations(left) });
      return;
    }
    this.counts.chunks -= 1;
    this.counts.uniqueBytes -= known[0]?.lengthBytes ?? 0;
    if (known.every((location) => location.suspect)) this.counts.suspectChunks -= 1;
    operations.push({ type: "del", key: chunkKey(id) });
  }

  /** Marks places of a chunk suspect. True when no good place is left. */
  markSuspect(operations: LevelOperation[], id: ChunkId, isMeant: (place: ChunkLocation) => boolean): boolean {
    const known = this.locations(id);
    if (known.length === 0 || known.every((place) => place.suspect)) return known.length > 0;
    this.#hasChanged = true;
    const marked = known.map((place) => (isMeant(place) ? { ...place, suspect: true } : place));
    operations.push({ type: "put", key: chunkKey(id), value: encodeLocations(marked) });
    const lost = marked.every((place) => place.suspect);
    if (lost) this.counts.suspectChunks += 1;
    return lost;
  }

  /** Trusts the places of a chunk in some holders again. True when it had no good place before. */
  trust(operations: LevelOperation[], id: ChunkId, numbers: ReadonlySet<number>): boolean {
    const known = this.locations(id);
    const trusted = known.map((place) => (numbers.has(place.pack) ? { ...place, suspect: false } : place));
    const wasLost = known.every((place) => place.suspect);
    this.#hasChanged = true;
    operations.push({ type: "put", key: chunkKey(id), value: encodeLocations(trusted) });
    const isFound = wasLost && trusted.some((place) => !place.suspect);
    if (isFound) this.counts.suspectChunks -= 1;
    return isFound;
  }

  /** Every chunk with its places, page by page. */
  async *all(): AsyncGenerator<{ readonly id: ChunkId; readonly locations: readonly ChunkLocation[] }[]> {
    for await (const page of this.#level.pages(...bucketRange("chunk"))) {
      yield page.map(([key, value]) => ({ id: chunkOfKey(key), locations: decodeLocations(value) }));
    }
  }
}

/** The key of a holder's object in the store. */
export function holderObjectKey(holder: ChunkHolder): string {
  return holder.kind === "w" ? `wal/${holder.name}.seg` : packKey(holder.kind, holder.name);
}

/** The chunks that a pack's records hold: bundles are taken apart. */
export function* chunksOfEntries(pack: number, entries: readonly PackEntry[]): Generator<FoundChunk> {
  for (const entry of entries) {
    const place = { pack, offsetBytes: entry.offsetBytes, recordBytes: entry.recordBytes, suspect: false };
    if (entry.type === "bundle") {
      for (const { id, offsetBytes, lengthBytes } of entry.inner ?? []) {
        yield { id, location: { ...place, lengthBytes, innerOffsetBytes: offsetBytes } };
      }
    } else if (entry.type === "chunk" || entry.type === "tree_node") {
      yield { id: entry.id, location: { ...place, lengthBytes: entry.plainBytes, innerOffsetBytes: undefined } };
    }
  }
}

function goodFirst(places: Buffer | undefined): ChunkLocation[] {
  if (places === undefined) return [];
  const found = decodeLocations(places);
  return found.length < 2 ? found : found.sort((a, b) => Number(a.suspect) - Number(b.suspect));
}

/** True when both say where the same record lies. */
export function isSamePlace(one: ChunkLocation, other: ChunkLocation): boolean {
  return one.pack === other.pack && one.offsetBytes === other.offsetBytes;
}

function bucketRange(bucket: "chunk" | "pack"): [Buffer, Buffer] {
  const prefix = bucketKey(bucket);
  return [prefix, afterPrefix(prefix)];
}

function chunkKey(id: ChunkId): Buffer {
  const key = Buffer.allocUnsafe(1 + 32);
  key[0] = BUCKET.chunk;
  key.write(id, 1, "hex");
  return key;
}

function chunkOfKey(key: Buffer): ChunkId {
  return key.toString("hex", 1) as ChunkId;
}

function holderKey(number: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(number);
  return bucketKey("pack", bytes);
}

function encodeHolder(holder: ChunkHolder): Buffer {
  const writer = new ByteWriter();
  writer.latin1(holder.kind);
  writer.sizedLatin1(holder.name);
  writer.varint(holder.sizeBytes);
  writer.sizedLatin1(holder.fragment);
  return writer.take();
}

function decodeHolder(number: number, value: Buffer): ChunkHolder {
  const reader = new ByteReader(value);
  const code = reader.latin1(1);
  const kind = code === "d" || code === "m" ? code : "w";
  return {
    number,
    kind,
    name: reader.sizedLatin1(),
    sizeBytes: reader.varint(),
    fragment: reader.sizedLatin1(),
  };
}
