/**
 * What a restore and the worker threads say to each other: a batch of regular files to be written, with where their
 * bytes lie in the store; what became of each; and, once they are on disk, their names. Plain data, in columns where
 * there is something for every file. Folders and files travel as open descriptors, which all threads of a process
 * share.
 */
import type { ErrorCode } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import type { MetadataGap } from "../metadata.js";
import type { FileColumns } from "./file-columns.js";

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
  /** Replaces what has the expected ctime and nothing else: only that was kept. */
  readonly onlyKept?: boolean;
  /** New files are staged by a name of their own even where there are files without one. */
  readonly namedOnly?: boolean;
}

/** A folder that the main thread holds open until the batch is answered. */
export interface FolderHandle {
  readonly fd: number;
  readonly path: BytePath;
  readonly root: BytePath;
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
  readonly files: FileColumns;
  readonly options: PutOptions;
}

/** Done and, if it was written anew, waiting for its name. */
export interface DoneOutcome {
  readonly kind: "done";
  readonly action: RestoredAs | "skip";
  /** Bytes of content written. */
  readonly bytes: number;
  readonly gaps: readonly MetadataGap[];
  /** What stands there has the wanted content: hard links to it may be made. */
  readonly holdsContent: boolean;
}

export type PutOutcome =
  | DoneOutcome
  /** The places did not give the content; nothing was changed. */
  | { readonly kind: "unreadable"; readonly message: string }
  | { readonly kind: "failed"; readonly code: ErrorCode; readonly message: string };

/** A staging name that is to become the file's own. */
export interface StagedName {
  readonly staged: string;
  /** Something is there that it takes the place of. */
  readonly replaces: boolean;
}

export interface PlaceAnswer {
  /** By position: what is no plain writing of a whole new file. */
  readonly outcomes: ReadonlyMap<number, PutOutcome>;
  /** Open descriptors of the files that wait for their names; -1 where none does. Whoever has the answer owns them. */
  readonly waiting: Int32Array;
  /** Those of them that have a staging name. */
  readonly named: ReadonlyMap<number, StagedName>;
}

export const NOT_WAITING = -1;

/** Gives the waiting files of a batch their names and closes them, whatever becomes of it. */
export interface NameRequest {
  readonly folders: readonly FolderHandle[];
  readonly files: FileColumns;
  readonly waiting: Int32Array;
  readonly named: ReadonlyMap<number, StagedName>;
  readonly onlyKept: boolean;
}

export interface NameAnswer {
  /** By position: those that got no name, and why. */
  readonly failed: ReadonlyMap<number, PutOutcome>;
  /** Positions of files without a name that cannot get one here: they have to be staged by name. */
  readonly unnamable: readonly number[];
}
