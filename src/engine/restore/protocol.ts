/**
 * What a restore and the worker threads say to each other: a batch of regular files to be put in place, with where
 * their bytes lie in the store, and what became of each. Plain data; folders travel as open descriptors, which all
 * threads of a process share.
 */
import type { ErrorCode } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import type { MetadataGap } from "../metadata.js";

export const OVERWRITE = ["always", "if-changed", "never"] as const;
export type Overwrite = (typeof OVERWRITE)[number];

export type RestoredAs = "write" | "replace" | "patch" | "link" | "node";

export interface PutOptions {
  readonly overwrite: Overwrite;
  /** Changes only the blocks of an existing file that differ, keeping its inode. Not safe against a crash midway. */
  readonly inPlace: boolean;
  readonly dryRun: boolean;
  /** Reads every written file back and compares it. */
  readonly verify: boolean;
  /** Runs of zeros become holes. */
  readonly sparse: boolean;
  /** Staging names of this run begin so. */
  readonly stagingPrefix: string;
}

/** A folder that the main thread holds open until the batch is answered. */
export interface FolderHandle {
  readonly fd: number;
  readonly path: BytePath;
  readonly root: BytePath;
}

/** One regular file. */
export interface FileOrder {
  /** Position in the request's folders. */
  readonly folder: number;
  readonly name: string;
  /** The folder was made by this run: nothing of that name was there. */
  readonly fresh: boolean;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** 64 hex characters: what is delivered has this digest, or nothing is. */
  readonly sha256: string;
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
  /** Its chunks are the places from here on. */
  readonly firstPlace: number;
  readonly placeCount: number;
}

/** Numbers of one place in `PlaceRequest.places`: object, offset, record bytes, offset inside (-1: none), length. */
export const PLACE_NUMBERS = 5;
export const NOT_INSIDE = -1;

export interface PlaceRequest {
  readonly storeFolder: string;
  /** Keys of the objects that hold the chunks. */
  readonly objects: readonly string[];
  readonly places: Float64Array;
  readonly folders: readonly FolderHandle[];
  readonly files: readonly FileOrder[];
  readonly options: PutOptions;
}

export type PutOutcome =
  | {
      readonly kind: "done";
      readonly action: RestoredAs | "skip";
      /** Bytes of content written. */
      readonly bytes: number;
      readonly gaps: readonly MetadataGap[];
      /** What stands there has the wanted content: hard links to it may be made. */
      readonly holdsContent: boolean;
    }
  /** The places did not give the content; nothing was changed. */
  | { readonly kind: "unreadable"; readonly message: string }
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly message: string };

export interface PlaceAnswer {
  /** In the order of the files. */
  readonly outcomes: readonly PutOutcome[];
}
