/**
 * The engine's door: one repository, opened for writing (under the store's lock) or reading. Everything that is
 * acknowledged here is durable; everything that is read here is verified.
 */
import type { Secret } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { SpaceInfo } from "../storage/backend.js";
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
import type { Entry, FileNode, Manifest, RepositoryStats, Version } from "./types.js";

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

export declare class Repository implements AsyncDisposable {
  static init(options: InitOptions): Promise<InitResult>;
  static open(options: OpenOptions): Promise<Repository>;

  readonly id: string;
  readonly encrypted: boolean;
  readonly readOnly: boolean;
  readonly writerId: string;

  /** Reads the files, stores what is new, and resolves when it is durable. Throws STORE_FULL, STORE_IO, INTERRUPTED. */
  commitChanges(source: string, changes: readonly PathChange[], signal: AbortSignal): Promise<CommitReceipt>;
  current(path: BytePath, source?: string): Entry | undefined;
  currentEntries(source: string): AsyncIterable<Entry>;
  entryAt(path: BytePath, atMs: number, source?: string): Promise<Version | undefined>;
  versions(path: BytePath, options?: { readonly limit?: number; readonly source?: string }): Promise<Version[]>;
  pathsWithDigest(sha256: string): Promise<{ readonly source: string; readonly path: BytePath }[]>;
  /** Names of all sources that have current entries. */
  sourceNames(): Promise<string[]>;
  readContent(node: FileNode, signal: AbortSignal): AsyncIterable<Buffer>;

  createBackup(
    request: BackupRequest,
    signal: AbortSignal,
    onProgress?: (progress: BackupProgress) => void,
  ): Promise<Manifest>;
  /** Oldest first. */
  listBackups(): Promise<Manifest[]>;
  /** By id, unique prefix, or "latest". Throws BACKUP_NOT_FOUND, BACKUP_AMBIGUOUS. */
  backup(idOrPrefix: string): Promise<Manifest>;
  backupEntries(id: string, filter: EntryFilter, signal: AbortSignal): AsyncIterable<Entry>;
  annotateBackup(id: string, annotation: BackupAnnotation, signal: AbortSignal): Promise<Manifest>;
  /** Throws BACKUP_PINNED. Space comes back at the next `gc`. */
  deleteBackups(ids: readonly string[], signal: AbortSignal): Promise<void>;
  diffBackups(a: string, b: string, signal: AbortSignal): AsyncIterable<PathDifference>;

  /** Moves what the write-ahead log holds into packs. */
  seal(signal: AbortSignal): Promise<SealReceipt>;
  stats(): Promise<RepositoryStats>;
  spaceInfo(): Promise<SpaceInfo | undefined>;
  newRecoveryKey(signal: AbortSignal): Promise<Secret>;

  [Symbol.asyncDispose](): Promise<void>;
}
