/**
 * The port to the backups of a repository as browsing needs them; the command line implements it over the API. A
 * backup never changes, so whatever was read once may be kept for as long as there is room.
 */
import type { BytePath } from "../base/paths.js";

export const BROWSE_KINDS = ["file", "folder", "symlink", "fifo", "char_device", "block_device"] as const;
export type BrowseKind = (typeof BROWSE_KINDS)[number];

export interface BrowseBackup {
  readonly id: string;
  /** Wall ms. */
  readonly timeMs: number;
  /** Bytes of all files in it. */
  readonly sizeBytes: number;
  readonly fileCount: number;
}

/** One name in a folder of a backup. Bytes as characters in `name`, `linkTarget` and names of attributes. */
export interface BrowseNode {
  readonly name: string;
  readonly source: string;
  readonly kind: BrowseKind;
  readonly sizeBytes: number;
  /** 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** Equal for hard links of one backup. */
  readonly inode: string;
  /** ns since the epoch. */
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Files only, 64 hex characters. */
  readonly sha256?: string;
  readonly linkTarget?: string;
  readonly xattrs?: ReadonlyMap<string, Buffer>;
  readonly device?: { readonly major: number; readonly minor: number };
}

/** A file of a backup. */
export interface BrowseFile {
  readonly backupId: string;
  readonly path: BytePath;
  readonly sizeBytes: number;
  /** Files with the same digest have the same bytes. */
  readonly sha256: string;
}

/** A run of names of one source in one folder. */
export interface FileRun {
  readonly backupId: string;
  readonly folder: BytePath;
  readonly source: string;
  readonly firstName: string;
  readonly count: number;
}

/** Errors are those of the engine: BACKUP_NOT_FOUND, VERSION_NOT_FOUND, RECORD_DAMAGED, DAEMON_UNREACHABLE. */
export interface BackupLibrary {
  /** Oldest first. */
  backups(signal: AbortSignal): Promise<readonly BrowseBackup[]>;
  /** All names in a folder. */
  folder(backupId: string, folder: BytePath, signal: AbortSignal): Promise<readonly BrowseNode[]>;
  /** Bytes of a file from an offset on, in parts. */
  read(file: BrowseFile, offsetBytes: number, lengthBytes: number, signal: AbortSignal): AsyncIterable<Buffer>;
  /** The small files among a run of names; some may be missing. */
  readMany(run: FileRun, signal: AbortSignal): AsyncIterable<{ readonly sha256: string; readonly bytes: Buffer }>;
}
