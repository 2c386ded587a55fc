/** Writes one pack into a staging file, hashing as it goes; buffered, one fsync at the end. */
import type { FileIo } from "../../storage/file-io.js";
import type { RepositoryKeys } from "../keys.js";
import type { FinishedPack, PackKind } from "./format.js";
import type { SealedRecord } from "./record.js";

export interface PackWriterOptions {
  readonly stagingFolder: string;
  readonly kind: PackKind;
  readonly keys: RepositoryKeys;
  readonly io?: FileIo;
}

export declare class PackWriter implements AsyncDisposable {
  /** Creates the staging file at the first record. Nothing is written before. */
  constructor(options: PackWriterOptions);
  /** Bytes so far, without trailer and footer. */
  readonly sizeBytes: number;
  /** Adds a sealed record (also one copied raw from another pack or the log) and gives its offset. STORE_FULL, STORE_IO. */
  add(record: SealedRecord): Promise<number>;
  /** Writes trailer and footer and syncs. Undefined when no record was added. The writer is closed afterwards. */
  finish(): Promise<FinishedPack | undefined>;
  /** Removes the staging file unless it was finished. */
  [Symbol.asyncDispose](): Promise<void>;
}
