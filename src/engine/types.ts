/** What the engine speaks of: file nodes, versions, backups and their manifests. No behaviour, only shapes. */
import type { BackupType } from "../base/ids.js";
import type { BytePath } from "../base/paths.js";

export type { BackupType } from "../base/ids.js";

/** Id of a chunk: HMAC-SHA256 under the repository's id key (plain SHA-256 without encryption), 64 hex characters. */
export type ChunkId = string & { readonly __brand: "ChunkId" };

export const NODE_KINDS = ["file", "folder", "symlink", "fifo", "char_device", "block_device"] as const;
export type NodeKind = (typeof NODE_KINDS)[number];

/** Flags of an inode that are kept (`chattr`): it cannot be changed, only be added to, or is no matter for dumps. */
export const INODE_FLAGS = ["immutable", "append_only", "no_dump"] as const;
export type InodeFlag = (typeof INODE_FLAGS)[number];

/** What tells that a file is unchanged without reading it. Times in ns since the epoch (negative before 1970). */
export interface StatTuple {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export interface ChunkRef {
  readonly id: ChunkId;
  readonly lengthBytes: number;
}

/** Everything that is kept of one path at one time. */
export interface FileNode {
  readonly kind: NodeKind;
  /** The stat when it was read. `stat.sizeBytes` is the size for files and 0 for other kinds. */
  readonly stat: StatTuple;
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Number of names of the inode; above 1 for files with hard links. */
  readonly linkCount: number;
  /** SHA-256 of the whole content, 64 hex; files only. */
  readonly sha256?: string;
  /** Git's blob id of the content (SHA-1 of `blob <size>\0` + content), 40 hex; files only. */
  readonly gitBlobId?: string;
  /** The content, in order; files only (an empty file has no chunks). */
  readonly chunks?: readonly ChunkRef[];
  /** Target bytes as characters; symlinks only. */
  readonly linkTarget?: string;
  /** Extended attributes by name, ACLs included (`system.posix_acl_access`). Names as bytes-as-characters. */
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
  /** Device numbers; devices only. */
  readonly device?: { readonly major: number; readonly minor: number };
  /** True when the file changed while it was read and never came to rest. */
  readonly torn?: boolean;
  /** True when the file took less room than its size: it had holes, where it has zeros now. Files only. */
  readonly sparse?: boolean;
  /** In the order of INODE_FLAGS; only when there are some. */
  readonly inodeFlags?: readonly InodeFlag[];
}

export interface Entry {
  readonly source: string;
  readonly path: BytePath;
  readonly node: FileNode;
}

/** An entry with the time of its version, wall ms. */
export interface DatedEntry extends Entry {
  readonly timeMs: number;
}

/** One state of one path: what it became at that time, or that its removal was accepted. */
export interface Version {
  readonly source: string;
  readonly path: BytePath;
  /** When the commit was made, wall ms. */
  readonly timeMs: number;
  /** Undefined: removed at that time. */
  readonly node: FileNode | undefined;
}

export interface UnreadablePath {
  readonly path: BytePath;
  /** The system's error name, such as EACCES or EIO. */
  readonly errno: string;
}

/** The seeds' manifest of a backup, as `show ID --json` prints it. Times ISO 8601 UTC. */
export interface SourceManifest {
  readonly source: string;
  readonly files_total: number;
  readonly files_backed_up: number;
  readonly files_changed: number;
  readonly files_unreadable: number;
  /** Files of those that changed though nobody wrote them: their last good versions are in the backup. At most 100. */
  readonly suspected_paths?: readonly string[];
  /** Sockets that a walk met: nothing of them can be kept. Told when there are some, and at most 100 by name. */
  readonly sockets_skipped?: number;
  readonly socket_paths?: readonly string[];
  /** Of what was read: what is immutable or append-only (`chattr +i`, `+a`). A restore does not set that. */
  readonly immutable_files?: number;
  readonly immutable_paths?: readonly string[];
  /** False: the daemon knew what had changed, and nothing else was looked at. Manifests before 2026 do not say. */
  readonly walked?: boolean;
  /** Why it was walked, or nothing when that goes without saying. */
  readonly walked_because?: string;
  readonly total_size_bytes: number;
  readonly stored_size_bytes: number;
  /**
   * `sha256:` + digest over the digests of the tree's leaves, in order: each of the (path, digest, size, mode) list of
   * the leaf's entries. In manifests that do not say `walked`: over one such list of all entries.
   */
  readonly checksum: string;
  readonly compression: string;
  readonly encryption: string;
}

export interface Manifest {
  readonly backup_id: string;
  readonly timestamp: string;
  readonly backup_type: BackupType;
  readonly parent: string | null;
  readonly sources: readonly SourceManifest[];
  readonly metadata: {
    readonly hostname: string;
    readonly git_commit: string | null;
    readonly git_branch: string | null;
    readonly system_version: string;
    readonly backup_duration_seconds: number;
    readonly tags: readonly string[];
  };
  readonly validation: {
    readonly integrity_check: "passed" | "failed" | "not_run";
    readonly restore_test: "passed" | "failed" | "not_run";
    readonly verified_at: string | null;
  };
  readonly retention: {
    readonly tier: string;
    readonly expires_at: string | null;
    readonly kept_by: readonly string[];
    readonly archive_to_cold_storage_after: string | null;
    readonly pinned: boolean;
  };
}

export interface RepositoryStats {
  readonly chunks: number;
  /** Bytes of all distinct chunks before compression. */
  readonly uniqueBytes: number;
  /** Bytes that packs and the write-ahead log take. */
  readonly storedBytes: number;
  /** Bytes of the current versions of all protected files. */
  readonly logicalBytes: number;
  readonly packs: number;
  readonly suspectChunks: number;
  /** Objects of the store that the start could not take in: a disk that does not read, or damage. */
  readonly unreadObjects: number;
  readonly backups: number;
}
