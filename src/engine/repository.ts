/**
 * The engine's door: one repository, opened for writing (under the store's lock) or reading. Everything that is
 * acknowledged here is durable; everything that is read here is verified.
 */
import type { Timer } from "../base/clock.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import type { ResourceStack } from "../base/lifecycle.js";
import type { Secret } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { SpaceInfo } from "../storage/backend.js";
import { createBackup } from "./backup.js";
import { commitChanges } from "./commit.js";
import type { RepositoryCore } from "./core.js";
import { type RotateOptions, type Rotation, addKey, addRecoveryKey, removeKey, rotateKeys } from "./key-ring.js";
import { type SlotInfo, listSlots } from "./keys.js";
import { initRepository, openCore } from "./open.js";
import type {
  BackupAnnotation,
  BackupProgress,
  BackupRequest,
  CommitReceipt,
  EntryFilter,
  InitOptions,
  InitResult,
  OpenOptions,
  PathChange,
  PathDifference,
  SealReceipt,
} from "./repository-types.js";
import { sealOwnLog } from "./seal.js";
import { annotateBackup, backupEntries, deleteBackups, diffBackups, evenPathsOf, findBackup } from "./snapshots.js";
import { StoreFacts } from "./store-facts.js";
import type { DatedEntry, Entry, FileNode, Manifest, RepositoryStats, Version } from "./types.js";
import { type BlocksSince, type FileBlocks, blockChanges } from "./block-changes.js";
import { currentEntries, currentEntry, entriesAfter, entriesAt, entryAt, isRemoved, versionsOf } from "./versions.js";

export type {
  BackupAnnotation,
  BackupContext,
  BackupProgress,
  BackupRequest,
  BackupSource,
  CommitReceipt,
  EntryFilter,
  InitOptions,
  InitResult,
  OpenOptions,
  PathChange,
  PathDifference,
  SealReceipt,
  Unlock,
  WalkFailure,
  WalkedEntry,
  WalkedNode,
} from "./repository-types.js";

/** The log is sealed when it is larger than this, and when it is older. */
const SEAL_BYTES = 32 * 2 ** 20;
const SEAL_AGE_MS = 15 * 60_000;

export class Repository implements AsyncDisposable {
  /** For the engine's own files (`restore`, `check`, `gc`); others use the methods. */
  readonly core: RepositoryCore;
  readonly #owned: ResourceStack;
  readonly #facts: StoreFacts;
  readonly #closing = new AbortController();
  readonly #indexDamage = new AbortController();
  #sealing: Promise<void> | undefined;
  #timer: Timer | undefined;

  private constructor(core: RepositoryCore, owned: ResourceStack) {
    this.core = core;
    this.#owned = owned;
    this.#facts = new StoreFacts(core);
    core.parts.catalog.onDamaged((error) => this.#indexDamage.abort(error));
    if (core.parts.lease !== undefined) core.parts.lease.onLost = (error) => this.#indexDamage.abort(error);
    if (core.parts.write !== undefined) {
      this.#timer = core.parts.clock.every(SEAL_AGE_MS, () => this.#sealInBackground());
    }
  }

  /** Makes a repository in an empty or missing place. Throws REPO_EXISTS, REPO_NOT_EMPTY, STORE_READ_ONLY. */
  static async init(options: InitOptions): Promise<InitResult> {
    return await initRepository(options);
  }

  /**
   * Opens a repository, replaying what a crash left. Throws REPO_NOT_FOUND, REPO_LOCKED, INDEX_LOCKED,
   * REPO_KEY_WRONG, REPO_KEY_MISSING, REPO_FORMAT_UNSUPPORTED, REPO_CONFIG_DAMAGED, STORE_READ_ONLY.
   */
  static async open(options: OpenOptions): Promise<Repository> {
    const { core, owned } = await openCore(options);
    return new Repository(core, owned);
  }

  /** 64 hex characters. */
  get id(): string {
    return this.core.parts.config.repository_id;
  }

  get encrypted(): boolean {
    return this.core.encrypted;
  }

  get readOnly(): boolean {
    return this.core.parts.write === undefined;
  }

  /**
   * Aborted when this must be opened again: with INDEX_DAMAGED when the local index proves damaged in use (it is made
   * again at the next `open`), with REPO_LOCKED when another process took over the writing.
   */
  get indexDamage(): AbortSignal {
    return this.#indexDamage.signal;
  }

  /** Whose log and commits this process writes; kept in the state folder. */
  get writerId(): string {
    return this.core.parts.writerId;
  }

  /** Reads the files, stores what is new, and resolves when it is durable. Throws STORE_FULL, STORE_IO, INTERRUPTED. */
  async commitChanges(source: string, changes: readonly PathChange[], signal: AbortSignal): Promise<CommitReceipt> {
    const receipt = await commitChanges(this.core, source, changes, signal);
    if (this.core.writeSide().wal.sizeBytes >= SEAL_BYTES) this.#sealInBackground();
    return receipt;
  }

  /** Changes will come soon: what they need is made ready, so that they do not wait for it. Cheap. */
  expectChanges(): void {
    if (this.core.parts.write !== undefined) this.core.parts.pool.warm();
  }

  /** The last known state of a path, also of one that the last backup no longer found. */
  current(path: BytePath, source?: string): Entry | undefined {
    return currentEntry(this.core, path, source);
  }

  /** The last known states of a source, or of what is at and below `under`, in path order. */
  currentEntries(source: string, under?: BytePath, matches?: (path: BytePath) => boolean): AsyncIterable<DatedEntry> {
    return currentEntries(this.core, source, under, matches);
  }

  /**
   * Of another generation than before, numbers of commits say nothing: the index was made again, as it is for a store
   * that was put back to an earlier state and gave the same numbers to other commits.
   */
  get generation(): string {
    return this.core.parts.catalog.generation;
  }

  /** No commit above this number changed an entry of the source. */
  lastChange(source: string): number {
    return this.core.parts.catalog.entries.lastChange(source);
  }

  /** Paths about `stretchEntries` entries apart, by which a walk of a large source can be parted; none for a small one. */
  evenPaths(source: string, stretchEntries: number, signal: AbortSignal): Promise<readonly BytePath[]> {
    return evenPathsOf(this.core, source, stretchEntries, signal);
  }

  /** The current entries of a source that commits after this number made, in path order. */
  entriesAfter(source: string, seq: number): AsyncIterable<DatedEntry> {
    return entriesAfter(this.core, source, seq);
  }

  /** True when the last thing known of a path is that its removal was accepted. */
  async isRemoved(source: string, path: BytePath): Promise<boolean> {
    return await isRemoved(this.core, source, path);
  }

  /** The newest version of a path made until then; its node is undefined when it was removed. */
  async entryAt(path: BytePath, atMs: number, source?: string): Promise<Version | undefined> {
    return await entryAt(this.core, path, atMs, source);
  }

  /** The state of a source (or of what is at and below `under`) at a time, in path order. */
  entriesAt(source: string, atMs: number, signal: AbortSignal, under?: BytePath): AsyncIterable<DatedEntry> {
    return entriesAt(this.core, { source, under }, atMs, signal);
  }

  /** Newest first; at most `limit` (default 1,000). */
  async versions(
    path: BytePath,
    options: { readonly limit?: number; readonly source?: string } = {},
  ): Promise<Version[]> {
    return await versionsOf(this.core, path, options);
  }

  /** The large files of a source, and how many of their blocks changed. */
  blockChanges(since: BlocksSince, signal: AbortSignal): AsyncIterable<FileBlocks> {
    return blockChanges(this.core, since, signal);
  }

  /** Current paths with exactly this content. `sha256` is 64 hex characters. */
  async pathsWithDigest(sha256: string): Promise<{ readonly source: string; readonly path: BytePath }[]> {
    if (!/^[0-9a-f]{64}$/.test(sha256)) return [];
    return await this.core.parts.catalog.entries.pathsWithDigest(sha256);
  }

  /** Names of all sources that have current entries. */
  async sourceNames(): Promise<string[]> {
    return await this.core.parts.catalog.entries.sources();
  }

  /** The content of a file, verified by chunk and at the end as a whole. Throws RECORD_DAMAGED, CHUNK_MISSING. */
  readContent(node: FileNode, signal: AbortSignal): AsyncIterable<Buffer> {
    return this.core.parts.content.content(node, signal);
  }

  /** Makes a backup. Unreadable files keep their last good version and are counted in the manifest. */
  async createBackup(
    request: BackupRequest,
    signal: AbortSignal,
    onProgress?: (progress: BackupProgress) => void,
  ): Promise<Manifest> {
    return await createBackup(this.core, request, signal, onProgress);
  }

  /** Oldest first. */
  async listBackups(): Promise<Manifest[]> {
    return await Promise.resolve(this.core.parts.catalog.commits.backups().map(({ manifest }) => manifest));
  }

  /** By id, unique prefix, or "latest". Throws BACKUP_NOT_FOUND, BACKUP_AMBIGUOUS. */
  async backup(idOrPrefix: string): Promise<Manifest> {
    return await Promise.resolve().then(() => findBackup(this.core, idOrPrefix).manifest);
  }

  /** What a backup holds, in path order, source after source. */
  backupEntries(id: string, filter: EntryFilter, signal: AbortSignal): AsyncIterable<Entry> {
    return backupEntries(this.core, id, filter, signal);
  }

  async annotateBackup(id: string, annotation: BackupAnnotation, signal: AbortSignal): Promise<Manifest> {
    return await annotateBackup(this.core, id, annotation, signal);
  }

  /** Throws BACKUP_PINNED. Space comes back at the next `gc`. */
  async deleteBackups(ids: readonly string[], signal: AbortSignal): Promise<void> {
    await deleteBackups(this.core, ids, signal);
  }

  diffBackups(a: string, b: string, signal: AbortSignal): AsyncIterable<PathDifference> {
    return diffBackups(this.core, a, b, signal);
  }

  /** Moves what the write-ahead log holds into packs. */
  async seal(signal: AbortSignal): Promise<SealReceipt> {
    return await sealOwnLog(this.core, signal);
  }

  async stats(): Promise<RepositoryStats> {
    return await this.#facts.stats();
  }

  async spaceInfo(): Promise<SpaceInfo | undefined> {
    return await this.core.parts.backend.space();
  }

  /** Adds a recovery key; older ones stay valid until removed. Throws UNSUPPORTED without encryption. */
  async newRecoveryKey(signal: AbortSignal): Promise<Secret> {
    return await addRecoveryKey(this.core, signal);
  }

  /** Adds a key that opens the repository; those that are there stay valid. Throws UNSUPPORTED without encryption. */
  async addKey(key: RotateOptions, signal: AbortSignal): Promise<SlotInfo> {
    return await addKey(this.core, key, signal);
  }

  /** Removes a key by its slot's id or a unique prefix. Throws NOT_FOUND; LIMIT_REACHED for the last and the one in use. */
  async removeKey(idOrPrefix: string, signal: AbortSignal): Promise<SlotInfo> {
    return await removeKey(this.core, idOrPrefix, signal);
  }

  /** Seals new data under a new master from the next open on; only the given key and a new recovery key stay valid. */
  async rotateKeys(key: RotateOptions, signal: AbortSignal): Promise<Rotation> {
    return await rotateKeys(this.core, key, signal);
  }

  /** The key slots of the repository; none without encryption. */
  async listKeys(signal: AbortSignal): Promise<SlotInfo[]> {
    return await listSlots(this.core.parts.backend, signal);
  }

  #sealInBackground(): void {
    if (this.#sealing !== undefined || this.#closing.signal.aborted) return;
    this.#sealing = this.#trySeal(this.#closing.signal).finally(() => {
      this.#sealing = undefined;
    });
  }

  /** A log that cannot be sealed stays as it is: nothing is lost, and the next time tries again. */
  async #trySeal(signal: AbortSignal): Promise<void> {
    try {
      await sealOwnLog(this.core, signal);
      await this.#facts.publish();
    } catch (error) {
      if (!signal.aborted) this.core.log.warn("wal.seal_failed", { reason: messageOf(error) });
    }
  }

  /** Seals the log and closes everything. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new HoldfastError("INTERRUPTED", "the repository is being closed"));
    this.#timer?.cancel();
    await this.#sealing;
    if (this.core.parts.write !== undefined) await this.#trySeal(new AbortController().signal);
    await this.#owned[Symbol.asyncDispose]();
  }
}
