/** Backups as file systems: what `mount` and `serve webdav` ask of the daemon, and the documents of that. */
import type { BytePath } from "../base/paths.js";

/** One name in a folder of a backup, with all that a file system shows of it. */
export interface NodeDocument {
  readonly name: string;
  readonly name_b64?: string;
  readonly source: string;
  readonly kind: string;
  readonly size_bytes: number;
  /** Four octal digits. */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  /** `device:inode` at the time of the backup: equal for hard links. */
  readonly inode: string;
  /** ns since the epoch, as decimal text. */
  readonly mtime_ns: string;
  readonly ctime_ns: string;
  readonly sha256?: string;
  readonly link_target_b64?: string;
  readonly device?: { readonly major: number; readonly minor: number };
  readonly xattrs?: readonly { readonly name_b64: string; readonly value_b64: string }[];
  /** True for a folder on the way to a source, of which nothing is kept. */
  readonly implied?: true;
}
export interface FolderRequest {
  readonly folder: BytePath;
  /** From this name on (bytes as characters). */
  readonly from_name?: string;
  readonly source?: string;
}
/** Head of one file in the answer of `contents`: its length as 4 bytes (LE), this as JSON, then `size_bytes` bytes. */
export interface ContentHead {
  readonly sha256: string;
  readonly size_bytes: number;
}

/** Backups as `mount` and `serve webdav` show them. Errors: BACKUP_NOT_FOUND, VERSION_NOT_FOUND, RECORD_DAMAGED. */
export interface BrowseService {
  folder(id: string, request: FolderRequest, signal: AbortSignal): AsyncIterable<NodeDocument>;
  /** Part of a file, at most to its end. */
  range(
    id: string,
    path: BytePath,
    range: { readonly offset: number; readonly length: number },
    signal: AbortSignal,
  ): Promise<AsyncIterable<Buffer>>;
  /** Small files of a folder, `count` names looked at; what cannot be read is left out. */
  contents(id: string, request: FolderRequest, count: number, signal: AbortSignal): AsyncIterable<Buffer>;
}
