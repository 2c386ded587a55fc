/**
 * The local index of one repository: chunks, paths, commits. Disposable: deleted, damaged or older than the store, it
 * is made again or caught up (`catch-up.ts`). It is only ever behind the store, never the only place of anything.
 */
import { type HoldfastError, hasCode } from "../../base/errors.js";
import { randomHex } from "../../base/ids.js";
import type { Logger } from "../../base/observe.js";
import { ChunkIndex } from "./chunk-index.js";
import { CommitIndex } from "./commit-index.js";
import { EntryIndex } from "./entry-index.js";
import { KeptLeaves } from "./kept-leaves.js";
import { LogEnds } from "./log-ends.js";
import { SuspectPacks } from "./suspect-packs.js";
import { VerifiedPacks } from "./verified-packs.js";
import { type LevelOperation, LevelStore, bucketKey } from "./level-store.js";

/** Raised when the meaning of anything in LevelDB changes: an older index is then made again. */
const INDEX_VERSION = "3";

export class Catalog implements AsyncDisposable {
  readonly #level: LevelStore;
  #generation = "";
  readonly chunks: ChunkIndex;
  readonly entries: EntryIndex;
  readonly commits: CommitIndex;
  readonly logEnds: LogEnds;
  readonly verified: VerifiedPacks;
  readonly suspects: SuspectPacks;
  readonly leaves: KeptLeaves;
  /** True when nothing was in it: everything has to be read from the store. */
  readonly isNew: boolean;

  private constructor(level: LevelStore, isNew: boolean) {
    this.#level = level;
    this.isNew = isNew;
    this.chunks = new ChunkIndex(level);
    this.entries = new EntryIndex(level);
    this.commits = new CommitIndex(level);
    this.logEnds = new LogEnds(level);
    this.verified = new VerifiedPacks(level);
    this.suspects = new SuspectPacks(level);
    this.leaves = new KeptLeaves(level);
  }

  /** Opens the index in `folder`, or begins a new one when it is damaged or of another repository. INDEX_LOCKED. */
  static async open(folder: string, repositoryId: string, log: Logger): Promise<Catalog> {
    const identity = `${INDEX_VERSION} ${repositoryId}`;
    let level: LevelStore | undefined;
    try {
      level = await LevelStore.open(folder);
      const found = level.get(metaKey("identity"))?.toString("utf8");
      if (found === identity) return new Catalog(level, false);
      if (found !== undefined)
        log.warn("index.replaced", { folder, reason: "it belongs to another repository or version" });
    } catch (error) {
      if (!hasCode(error, "INDEX_DAMAGED")) throw error;
      log.warn("index.replaced", { folder, reason: error.message });
    }
    await level?.[Symbol.asyncDispose]();
    return await Catalog.create(folder, identity);
  }

  /** A new, empty index in place of whatever is there. */
  static async recreate(folder: string, repositoryId: string): Promise<Catalog> {
    return await Catalog.create(folder, `${INDEX_VERSION} ${repositoryId}`);
  }

  private static async create(folder: string, identity: string): Promise<Catalog> {
    await LevelStore.destroy(folder);
    const level = await LevelStore.open(folder);
    await level.write([
      { type: "put", key: metaKey("identity"), value: Buffer.from(identity, "utf8") },
      { type: "put", key: metaKey("generation"), value: Buffer.from(randomHex(8), "utf8") },
    ]);
    return new Catalog(level, true);
  }

  /** Reads what is held in memory: generation, packs, commits, backups. */
  async load(): Promise<void> {
    this.#generation = this.#level.get(metaKey("generation"))?.toString("utf8") ?? "";
    await this.commits.load();
    await this.chunks.load();
    await this.verified.load();
    await this.suspects.load();
    await this.entries.load();
    // What the commits taken in so far changed is not told by source: each counts as having changed them all.
    for (const { kind, lastSeq } of this.commits.applied()) {
      if (kind === "deltas" || kind === "base") this.entries.changedThrough(lastSeq);
    }
  }

  /** Tells when something proves damaged from now on; the next `open` makes the index again. */
  onDamaged(listener: (error: HoldfastError) => void): void {
    this.#level.onDamaged = listener;
  }

  /**
   * Another one whenever the index was made again. Two numbers of commits can be compared only within one generation: a
   * store that was put back to an earlier state gives the same numbers to other commits, and its index is made again.
   */
  get generation(): string {
    return this.#generation;
  }

  /** Number of the last garbage collection that this index knows of; another one means: make it again. */
  get epoch(): number {
    return Number(this.#level.get(metaKey("epoch"))?.toString("utf8") ?? "0");
  }

  putEpoch(operations: LevelOperation[], epoch: number): void {
    operations.push({ type: "put", key: metaKey("epoch"), value: Buffer.from(String(epoch)) });
  }

  /** Number of the newest master key that it was opened with: it may hold what only that one opens. */
  get keyNumber(): number {
    return Number(this.#level.get(metaKey("key"))?.toString("utf8") ?? "0");
  }

  putKeyNumber(operations: LevelOperation[], keyNumber: number): void {
    operations.push({ type: "put", key: metaKey("key"), value: Buffer.from(String(keyNumber)) });
  }

  /** True: commits came back to the store that this index did not know of, so it is made again at the next open. */
  get isStale(): boolean {
    return this.#level.get(metaKey("stale")) !== undefined;
  }

  async markStale(): Promise<void> {
    await this.#level.write([{ type: "put", key: metaKey("stale"), value: Buffer.of(1) }]);
  }

  /** Resolves when the operations are in LevelDB. */
  async write(operations: readonly LevelOperation[]): Promise<void> {
    await this.#level.write(operations);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#level[Symbol.asyncDispose]();
  }
}

function metaKey(name: string): Buffer {
  return bucketKey("meta", Buffer.from(name));
}
