/**
 * The worker threads that do the heavy part of a backup: read, chunk, hash, look up, compress, seal, write packs. A
 * batch of files goes to one worker whole (shared nothing but the ChunkSet); messages are batches, never chunks.
 */
import type { Observer } from "../../base/observe.js";
import type { BytePath } from "../../base/paths.js";
import type { CodecName } from "../codec/codec.js";
import type { ChunkProfileName } from "../chunk/profiles.js";
import type { RepositoryKeys } from "../keys.js";
import type { FinishedPack } from "../pack/format.js";
import type { PackProof } from "../pack/reader.js";
import type { SealedRecord } from "../pack/record.js";
import type { FileNode } from "../types.js";
import type { ChunkSet } from "./chunk-set.js";

/** Limits of one batch; callers cut their work by them. */
export const BATCH_FILES_MAX = 512;
export const BATCH_BYTES_AIM = 8 * 2 ** 20;

export interface WorkerPoolOptions {
  readonly keys: RepositoryKeys;
  /** Path or URL of the store: workers open it themselves for reading. */
  readonly storeUrl: string;
  readonly stagingFolder: string;
  readonly chunkSet: ChunkSet;
  /** 1 to 16; default min(cores, 4). */
  readonly workers?: number;
  readonly observer: Observer;
}

export interface IngestBatch {
  /** From `chunkSet.newJob()`: batches of one job may rely on each other's chunks. */
  readonly job: number;
  /** `inline`: sealed records come back in memory. `pack`: they go to the worker's own staged pack. */
  readonly mode: "inline" | "pack";
  readonly codec: CodecName;
  readonly profile?: ChunkProfileName;
  readonly paths: readonly BytePath[];
}

/** What became of one path. */
export type FileOutcome =
  | { readonly kind: "read"; readonly path: BytePath; readonly node: FileNode }
  | { readonly kind: "vanished"; readonly path: BytePath }
  | { readonly kind: "unreadable"; readonly path: BytePath; readonly errno: string }
  /** Sockets and other things that have no content to keep. */
  | { readonly kind: "skipped"; readonly path: BytePath; readonly reason: string };

export interface IngestResult {
  /** In the order of the paths. */
  readonly outcomes: readonly FileOutcome[];
  /** Inline mode: new records. They are not in the ChunkSet; add them when they are durable. */
  readonly records: readonly SealedRecord[];
  /** Packs that were closed meanwhile, synced: pack mode, and inline mode for content above the inline limit. */
  readonly packs: readonly FinishedPack[];
  /** Bytes read. */
  readonly readBytes: number;
}

/** A range of records of one pack to be opened. */
export interface ReadRequest {
  /** Key of the object in the store, or an absolute path of a log segment. */
  readonly object: { readonly key: string } | { readonly file: string };
  readonly records: readonly { readonly offsetBytes: number; readonly recordBytes: number }[];
}

export interface ReadAnswer {
  /** Plain bytes of each record in request order; undefined where it is damaged or missing. */
  readonly plains: readonly (Buffer | undefined)[];
}

export declare class WorkerPool implements AsyncDisposable {
  static start(options: WorkerPoolOptions): Promise<WorkerPool>;
  readonly workers: number;
  /**
   * Reads a batch. The ids of pack mode are marked pending for the job before it resolves. Waits for a free worker.
   * Rejects with STORE_FULL, STORE_IO, INTERRUPTED, and INTERNAL when the worker died: the whole job is void then.
   */
  ingest(batch: IngestBatch, signal: AbortSignal): Promise<IngestResult>;
  /** Closes the open packs of a job in all workers. Store them, then `chunkSet.confirmJob`. */
  finishPacks(job: number, signal: AbortSignal): Promise<FinishedPack[]>;
  /** Drops the open packs of a job and its pending ids. */
  abandon(job: number): Promise<void>;
  /** Opens every record of a pack of the store. Throws OBJECT_MISSING. */
  prove(
    pack: { readonly key: string; readonly sha256: string; readonly sizeBytes: number },
    signal: AbortSignal,
  ): Promise<PackProof>;
  /** Reads and opens records in a worker; ids are verified. */
  read(request: ReadRequest, signal: AbortSignal): Promise<ReadAnswer>;
  /** Resolves when no batch is under way. */
  idle(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
