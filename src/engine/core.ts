/**
 * What the engine's files share of one open repository: its parts, its locks, and the few steps that many need
 * (numbers, storing packs, writing commit objects). `Repository` is the door in front of it.
 */
import { basename } from "node:path";
import type { Clock } from "../base/clock.js";
import { Mutex, mapLimited } from "../base/concurrency.js";
import { HoldfastError, hasCode } from "../base/errors.js";
import type { Logger, Observer } from "../base/observe.js";
import type { Backend } from "../storage/backend.js";
import type { FileIo } from "../storage/file-io.js";
import { type CommitAppender, type CommitBody, type StoredCommit, sha256Of } from "./commit-log.js";
import type { ContentReader } from "./content.js";
import type { Catalog } from "./index/catalog.js";
import { type FoundChunk, type PutOptions, chunksOfEntries } from "./index/chunk-index.js";
import { type Fragment, type IndexedPack, encodeFragment } from "./index/fragments.js";
import type { LevelOperation } from "./index/level-store.js";
import type { UnreadObjects } from "./index/unread-objects.js";
import type { KeyRing, RepositoryKeys } from "./keys.js";
import { Gate, NameLocks } from "./lease/gate.js";
import type { WriterLease } from "./lease/writer-lease.js";
import { type FinishedPack, type PackEntry, type PackKind, packKey } from "./pack/format.js";
import { type RecordOpener, RecordSealer, type SealedRecord } from "./pack/record.js";
import { PackWriter } from "./pack/writer.js";
import type { ParityStore } from "./parity/group-store.js";
import type { RepositoryConfig } from "./repository-config.js";
import type { Delta } from "./tree/delta.js";
import type { WalDamage, WalPlace, WriteAheadLog } from "./wal/log.js";
import type { ChunkId } from "./types.js";
import { WalTail } from "./wal-tail.js";
import type { ChunkSet } from "./workers/chunk-set.js";
import type { WorkerPool } from "./workers/pool.js";

/** Packs moved into the store at once; each costs an fsync. */
const PACKS_AT_ONCE = 2;
/** Records of one fragment: about 3 MiB, well below the 16 MiB a record may open to. */
const FRAGMENT_CHUNKS_MAX = 50_000;

/** What only an open for writing has. */
export interface WriteSide {
  readonly wal: WriteAheadLog;
  readonly commits: CommitAppender;
}

export interface CoreParts {
  readonly backend: Backend;
  readonly config: RepositoryConfig;
  readonly keys: RepositoryKeys;
  /** As opened; `RepositoryCore.keyRing` is the one in force. */
  readonly keyRing: KeyRing;
  readonly opener: RecordOpener;
  readonly catalog: Catalog;
  readonly chunkSet: ChunkSet;
  readonly content: ContentReader;
  readonly parity: ParityStore;
  readonly pool: WorkerPool;
  readonly writerId: string;
  readonly write: WriteSide | undefined;
  readonly lease: WriterLease | undefined;
  /** What the start could not take in. */
  readonly unread: UnreadObjects;
  readonly io: FileIo;
  readonly clock: Clock;
  readonly observer: Observer;
  /** Largest commit number in the store. */
  readonly lastSeq: number;
}

/** A record in a write-ahead log. */
export interface LogRecord extends Omit<SealedRecord, "bytes"> {
  readonly place: WalPlace;
}

export class RepositoryCore {
  readonly parts: CoreParts;
  /** On-change commits pass together; garbage collection passes alone when it condemns. */
  readonly commitGate = new Gate();
  /** One backup or one garbage collection at a time. */
  readonly longWork = new Mutex();
  /** Around appending to the log and noting it; sealing passes alone when it begins a new segment. */
  readonly appendGate = new Gate();
  /** Sealing, storing a checkpoint, collecting: one at a time. */
  readonly maintenance = new Mutex();
  readonly pathLocks = new NameLocks();
  /** What the start found damaged in write-ahead logs. */
  readonly logDamage: WalDamage[] = [];
  readonly tail = new WalTail();
  /** Told of every delta once it is in the catalog (a running backup, a marking garbage collection). */
  readonly deltaListeners = new Set<(delta: Delta) => void>();
  /** For adding key slots; a rotation replaces it, while sealing goes on under `parts.keys` until the next open. */
  keyRing: KeyRing;
  #seq: number;
  #commitTurn = new Mutex();

  constructor(parts: CoreParts) {
    this.parts = parts;
    this.#seq = parts.lastSeq;
    this.keyRing = parts.keyRing;
  }

  get log(): Logger {
    return this.parts.observer.log;
  }

  get encrypted(): boolean {
    return this.parts.config.encrypted;
  }

  /** The next commit number; also the order in which versions are told apart. */
  nextSeq(): number {
    this.#seq += 1;
    return this.#seq;
  }

  /** Makes sure that later numbers are above one found in a log. */
  sawSeq(seq: number): void {
    this.#seq = Math.max(this.#seq, seq);
  }

  get lastSeq(): number {
    return this.#seq;
  }

  /** The parts for writing. Throws STORE_READ_ONLY when the repository was opened for reading. */
  writeSide(): WriteSide {
    if (this.parts.write === undefined) {
      throw new HoldfastError("STORE_READ_ONLY", "the repository is open for reading only");
    }
    return this.parts.write;
  }

  /** To be asked before something is removed or replaced. Throws REPO_LOCKED when another process took over. */
  assertMine(): void {
    this.parts.lease?.assertHeld();
  }

  /** Brings a delta into the catalog. */
  async applyDelta(delta: Delta): Promise<void> {
    const operations: LevelOperation[] = [];
    this.parts.catalog.entries.apply(operations, delta);
    await this.parts.catalog.write(operations);
    for (const listener of this.deltaListeners) listener(delta);
  }

  /** Brings a commit of a write-ahead log into catalog, dedup table and tail. `segmentPath` names a segment's file. */
  async applyLogCommit(
    log: { readonly writer: string; readonly tail: WalTail; readonly segmentPath: (segment: number) => string },
    commit: {
      readonly frame: WalPlace;
      readonly frameHash: string;
      readonly payload: Uint8Array;
      readonly records: readonly LogRecord[];
    },
    delta: Delta,
  ): Promise<void> {
    const { catalog, chunkSet } = this.parts;
    const operations: LevelOperation[] = [];
    const found: FoundChunk[] = [];
    for (const { place, type, id, plainBytes, inner } of commit.records) {
      const path = log.segmentPath(place.segment);
      const name = segmentName(log.writer, path);
      const holder =
        catalog.chunks.holderNamed("w", name) ??
        catalog.chunks.putHolder(operations, { kind: "w", name, sizeBytes: 0, fragment: "" });
      const { offsetBytes, recordBytes } = place;
      const entry: PackEntry = {
        ...{ type, id, offsetBytes, recordBytes, plainBytes },
        ...(inner === undefined ? {} : { inner }),
      };
      log.tail.addEntry(place.segment, path, entry);
      found.push(...chunksOfEntries(holder.number, [entry]));
    }
    const { frame, frameHash } = commit;
    const framePath = log.segmentPath(frame.segment);
    log.tail.addDelta(frame.segment, framePath, delta.seq, commit.payload);
    catalog.logEnds.put(operations, segmentName(log.writer, framePath), { ...frame, frameHash });
    catalog.chunks.putChunks(operations, found);
    await catalog.write(operations);
    for (const { id } of found) chunkSet.addDurable(id);
    await this.applyDelta(delta);
  }

  /** A writer for a new pack in the staging folder. */
  newPack(kind: PackKind): PackWriter {
    const { backend, keys, io } = this.parts;
    return new PackWriter({ stagingFolder: backend.stagingFolder, kind, keys, io });
  }

  /** Moves closed packs into the store and lists them in index fragments; their chunks are durable afterwards. */
  async storePacks(packs: readonly FinishedPack[], signal: AbortSignal): Promise<number> {
    const { backend, chunkSet } = this.parts;
    if (packs.length === 0) return 0;
    await mapLimited(packs, PACKS_AT_ONCE, signal, async (pack) => {
      await backend.putFile(packKey(pack.kind, pack.sha256), pack.stagingPath, signal);
    });
    // The packs and the fragment are in the store by then, so that each chunk counts from the moment it is listed.
    const addDurable = (id: ChunkId): boolean => chunkSet.addDurable(id);
    for (const group of fragmentGroups(packs)) await this.storeFragment(group, [], signal, { wasKnown: addDurable });
    return packs.reduce((sum, pack) => sum + pack.sizeBytes, 0);
  }

  /** Writes one fragment and brings its packs into the catalog. */
  async storeFragment(
    packs: readonly IndexedPack[],
    supersedes: readonly string[],
    signal: AbortSignal,
    options: PutOptions = {},
  ): Promise<string> {
    const name = await this.writeFragment({ packs, supersedes }, signal);
    const { catalog } = this.parts;
    const operations: LevelOperation[] = [];
    for (const pack of packs) catalog.chunks.putPack(operations, pack, name, options);
    catalog.commits.putFragment(operations, name);
    await catalog.write(operations);
    return name;
  }

  /** Writes a fragment's object; gives its name. */
  async writeFragment(fragment: Fragment, signal: AbortSignal): Promise<string> {
    const { backend, keys } = this.parts;
    const bytes = new RecordSealer(keys).seal("fragment", encodeFragment(fragment), "lz4").bytes;
    const name = sha256Of(bytes);
    await backend.put(`index/${name}`, bytes, signal);
    return name;
  }

  /** Writes a commit object with a number of its own and notes it in the catalog. */
  async commit(body: CommitBody, deltas: readonly Uint8Array[], signal: AbortSignal): Promise<StoredCommit> {
    const { commits } = this.writeSide();
    const { catalog, clock } = this.parts;
    return await this.#commitTurn.run(async () => {
      this.assertMine();
      const commit = { number: this.nextSeq(), timeMs: clock.nowMs(), body };
      const stored = await commits.append(commit, deltas, signal).catch((error: unknown) => {
        if (hasCode(error, "OBJECT_EXISTS")) this.assertMine(); // whoever took over has taken the number
        throw error;
      });
      const operations: LevelOperation[] = [];
      catalog.commits.putCommit(operations, stored);
      await catalog.write(operations);
      return stored;
    }, signal);
  }
}

/** How the catalog calls a segment of a writer's log. */
export function segmentName(writer: string, path: string): string {
  return `${writer}/${basename(path, ".seg")}`;
}

/** Cuts packs into groups that fit one fragment each. */
export function* fragmentGroups<P extends IndexedPack>(packs: readonly P[]): Generator<P[]> {
  let group: P[] = [];
  let chunks = 0;
  for (const pack of packs) {
    const more = pack.entries.reduce((sum, entry) => sum + 1 + (entry.inner?.length ?? 0), 0);
    if (group.length > 0 && chunks + more > FRAGMENT_CHUNKS_MAX) {
      yield group;
      group = [];
      chunks = 0;
    }
    group.push(pack);
    chunks += more;
  }
  if (group.length > 0) yield group;
}
