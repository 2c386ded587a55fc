/** Shapes of what callers hand to a repository and get back; `repository.ts` exports them again. No behaviour. */
import type { Clock } from "../base/clock.js";
import type { Observer, Secret } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { Compression } from "./codec/codec.js";
import type { KeyService } from "../storage/key-service.js";
import type { FileIo } from "../storage/file-io.js";
import type { BackupType, Entry, Manifest, NodeKind, StatTuple, UnreadablePath } from "./types.js";

/** One way to open an encrypted repository. */
export interface Unlock {
  readonly password?: Secret;
  /** The content of a key file. */
  readonly keyBytes?: Buffer;
  readonly recoveryKey?: Secret;
  /** AWS KMS or Vault: unwraps the key of a slot. */
  readonly keyService?: KeyService;
}

export interface InitOptions {
  /** A folder (absolute path) or URL. */
  readonly storeUrl: string;
  /** Tells the local index of an older repository apart; not written by `init`. */
  readonly stateDir?: string;
  readonly encrypt: boolean;
  /** Without a password and key bytes a random key is made and returned. */
  readonly password?: Secret;
  readonly keyBytes?: Buffer;
  /** Wraps the key in place of a password or key bytes. */
  readonly keyService?: KeyService;
  /** How a password is stretched; default scrypt. */
  readonly passwordKdf?: "scrypt" | "pbkdf2-sha256";
  /** Called when the place was found free, before anything is made there. */
  readonly onFree?: () => Promise<void>;
  /** File calls of the store; the system's unless a test makes them fail. */
  readonly io?: FileIo;
  readonly clock: Clock;
  readonly observer: Observer;
}

export interface InitResult {
  /** 64 hex characters. */
  readonly repositoryId: string;
  /** To be shown once; only of an encrypted repository. */
  readonly recoveryKey?: Secret;
  /** The key file's content, when neither password nor key bytes were given. */
  readonly keyBytes?: Buffer;
}

export interface OpenOptions {
  readonly storeUrl: string;
  /** Holds the local index (`index/`) and this writer's id. Disposable. */
  readonly stateDir: string;
  readonly unlock: Unlock | undefined;
  /** Told that a key is tried, which with a password leaves this thread idle for a quarter of a second. */
  readonly onUnlocking?: () => void;
  /** No lock, no writes to the store; the index is still kept in `stateDir`. */
  readonly readOnly?: boolean;
  /** Worker threads; default one per processor, at most 4. */
  readonly workers?: number;
  /** File calls of the store that this thread makes; the system's unless a test makes them fail. */
  readonly io?: FileIo;
  readonly clock: Clock;
  readonly observer: Observer;
  readonly signal: AbortSignal;
}

export interface PathChange {
  readonly path: BytePath;
  readonly kind: "upsert" | "remove";
}

/** What one on-change commit did; it is durable when the receipt is there. */
export interface CommitReceipt {
  /** Number of the commit, growing; 0 when nothing had to be written. */
  readonly seq: number;
  /** Wall ms; the time of the new versions. */
  readonly timeMs: number;
  /** Nothing in it was read before, wall ms. */
  readonly readFromMs: number;
  readonly stored: readonly Entry[];
  /** Every path that was to be removed and is not there now, whether or not it was before. */
  readonly removed: readonly BytePath[];
  readonly unreadable: readonly UnreadablePath[];
  /** Gone before they could be read: nothing was recorded for them. */
  readonly vanished: readonly BytePath[];
  /** Same content and metadata as the current version; no new version. Holds the fresh stat. */
  readonly unchanged: readonly Entry[];
}

/** A path as a walk found it. */
export interface WalkedNode {
  readonly path: BytePath;
  readonly kind: NodeKind;
  readonly stat: StatTuple;
}

/** A path that the walk could not look at: it and all below it keep their last good versions. Or a socket (SOCKET_ERRNO). */
export interface WalkFailure {
  readonly path: BytePath;
  /** The system's error name, such as EACCES. */
  readonly errno: string;
}

export type WalkedEntry = WalkedNode | WalkFailure;

export interface BackupSource {
  readonly name: string;
  /** Folders and files the source consists of; absolute. */
  readonly roots: readonly BytePath[];
  /** Every path of the source, folders included, in any order, each once. In byte order, as WalkedBatch, it is quickest. */
  readonly walk: AsyncIterable<Iterable<WalkedEntry>>;
  /** True: `walk` names only what may differ from what is stored; all else is in the backup as it is stored. */
  readonly restIsStored?: boolean;
  /** Why all of the source is walked, for the manifest. */
  readonly walkedBecause?: string;
  /** True: what stands at the path is not to become its newest version. Asked of paths that would be read only. */
  readonly heldBack?: (path: BytePath) => boolean;
  /** When a reading began that found a path with this content, wall ms; undefined when nobody knows. */
  readonly verifiedMs?: (path: BytePath, sha256: string) => number | undefined;
  /** Told of a file whose content changed though nobody wrote it; its last good version stays the newest. */
  readonly onSuspect?: (path: BytePath) => void;
  /** Refuses (ENCRYPTION_REQUIRED) when the repository is not encrypted. */
  readonly encryptionRequired: boolean;
}

/** Facts for the manifest that the engine cannot know. */
export interface BackupContext {
  readonly hostname?: string;
  readonly gitCommit?: string | null;
  readonly gitBranch?: string | null;
  readonly systemVersion?: string;
}

export interface BackupRequest {
  readonly type: BackupType;
  readonly sources: readonly BackupSource[];
  readonly tags?: readonly string[];
  /** How new data is compressed; default `zstd:2` where zstd can be had, else `lz4`. */
  readonly compression?: Compression;
  /** Asked for while the sources are read; a promise of it must not reject. */
  readonly context?: BackupContext | Promise<BackupContext>;
}

export interface BackupProgress {
  readonly source: string;
  readonly filesSeen: number;
  readonly filesRead: number;
  readonly bytesRead: number;
}

export interface BackupAnnotation {
  readonly pinned?: boolean;
  readonly validation?: Partial<Manifest["validation"]>;
  readonly retention?: Partial<Omit<Manifest["retention"], "pinned">>;
}

export const DIFF_CHANGES = ["added", "removed", "content", "metadata"] as const;

export interface PathDifference {
  readonly source: string;
  readonly path: BytePath;
  readonly change: (typeof DIFF_CHANGES)[number];
}

export interface EntryFilter {
  /** Only this path and what lies below it. */
  readonly under?: BytePath;
  readonly source?: string;
}

export interface SealReceipt {
  readonly segments: number;
  readonly chunks: number;
  readonly sealedBytes: number;
}
