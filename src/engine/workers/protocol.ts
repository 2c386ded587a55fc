/** What the main thread and its workers say to each other: whole batches, plain data. */
import { type ErrorCode, HoldfastError } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import type { ChunkProfileName } from "../chunk/profiles.js";
import type { Compression } from "../codec/codec.js";
import type { RepositoryKeys } from "../keys.js";
import type { FinishedPack } from "../pack/format.js";
import type { PackProof } from "../pack/prove.js";
import type { BundledChunk, RecordType, SealedRecord } from "../pack/record.js";
import type { NameAnswer, NameRequest, PlaceAnswer, PlaceRequest } from "../restore/protocol.js";
import type { ChunkId } from "../types.js";
import type { DigestRequest } from "./digest-batch.js";
import type { RecompressRequest } from "./recompress.js";

/** Limits of one batch; callers cut their work by them. */
export const BATCH_FILES_MAX = 512;
export const BATCH_BYTES_AIM = 8 * 2 ** 20;
/** Sealed bytes that one batch returns in memory; the rest goes to a pack. */
export const INLINE_BYTES_MAX = 32 * 2 ** 20;

/** What a worker is born with. */
export interface WorkerBirth {
  readonly keys: RepositoryKeys;
  readonly storeUrl: string;
  readonly stagingFolder: string;
  /** CANCEL_SLOTS numbers: a task whose id stands at `id % CANCEL_SLOTS` is to be broken off. */
  readonly cancelled: SharedArrayBuffer;
  /** One number: threads of the pool that have no task; the pool writes it. */
  readonly spare: SharedArrayBuffer;
  /** One number: offers of this thread that are not sealed yet. It counts up, the pool down. */
  readonly offered: SharedArrayBuffer;
}

/** More than the tasks that ever wait for one thread. */
export const CANCEL_SLOTS = 256;

export interface IngestBatch {
  /** From `chunkSet.newJob()`: batches of one job may rely on each other's chunks. */
  readonly job: number;
  /** `inline`: sealed records come back in memory. `pack`: they go to the worker's own staged pack. */
  readonly mode: "inline" | "pack";
  readonly compression: Compression;
  /** How content above 64 KiB is cut; `general` unless told. */
  readonly profile?: ChunkProfileName;
  readonly paths: readonly BytePath[];
}

/**
 * A chunk of a large file that a thread which has nothing to do is to seal, so that one file keeps several busy. It goes
 * into that thread's pack of the job. Only in pack mode.
 */
export interface SealRequest {
  readonly job: number;
  readonly compression: Compression;
  readonly id: ChunkId;
  /** Memory of its own, which is handed over. */
  readonly plain: Uint8Array;
}

/** What became of one path. */
export type FileOutcome =
  /** `unstamped` is its state without a commit (`tree/unstamped.ts`). */
  | { readonly kind: "read"; readonly path: BytePath; readonly unstamped: Buffer }
  | { readonly kind: "vanished"; readonly path: BytePath }
  | { readonly kind: "unreadable"; readonly path: BytePath; readonly errno: string }
  /** Sockets and other things that have no content to keep. */
  | { readonly kind: "skipped"; readonly path: BytePath; readonly reason: string };

export type FailedOutcome = Exclude<FileOutcome, { readonly kind: "read" }>;

export interface IngestResult {
  /** In the order of the paths. */
  readonly outcomes: readonly FileOutcome[];
  /** Inline mode: new records. They are not in the ChunkSet; add them when they are durable. */
  readonly records: readonly SealedRecord[];
  /** Packs that were closed meanwhile, synced: pack mode, and inline mode for content above the inline limit. */
  readonly packs: readonly FinishedPack[];
  /** Paths of the batch that are immutable or append-only. */
  readonly immutable: readonly BytePath[];
  /** Bytes read. */
  readonly readBytes: number;
}

/** A range of records of one object to be opened. */
export interface ReadRequest {
  /** Key of the object in the store, or an absolute path of a log segment. */
  readonly object: { readonly key: string } | { readonly file: string };
  readonly records: readonly { readonly offsetBytes: number; readonly recordBytes: number }[];
}

export interface ReadAnswer {
  /** Plain bytes of each record in request order; undefined where it is damaged or cut off. */
  readonly plains: readonly (Buffer | undefined)[];
}

export interface ProveRequest {
  readonly key: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

export type WorkerTask =
  | { readonly kind: "ingest"; readonly batch: IngestBatch; readonly chunkSet: SharedArrayBuffer }
  | { readonly kind: "seal"; readonly request: SealRequest }
  | { readonly kind: "finish"; readonly job: number }
  | { readonly kind: "abandon"; readonly job: number }
  | { readonly kind: "prove"; readonly pack: ProveRequest }
  | { readonly kind: "read"; readonly request: ReadRequest }
  | { readonly kind: "digest"; readonly request: DigestRequest }
  | { readonly kind: "recompress"; readonly request: RecompressRequest }
  | { readonly kind: "place"; readonly request: PlaceRequest }
  | { readonly kind: "name"; readonly request: NameRequest };

export interface TaskMessage {
  readonly id: number;
  readonly task: WorkerTask;
}

/** The first message of a thread: everything is loaded. */
export const READY = "ready";
export type ReadyMessage = typeof READY;

/** Comes before the answer of the task that it is a part of. */
export interface OfferMessage {
  readonly offer: SealRequest;
}

/** Many byte strings in one transferable buffer. */
export interface Packed {
  readonly bytes: Uint8Array;
  /** Length of each, or -1 for none. */
  readonly lengths: readonly number[];
}

/** A record without its bytes, which travel packed. */
export interface RecordHead {
  readonly type: RecordType;
  readonly id: ChunkId;
  readonly plainBytes: number;
  readonly inner?: readonly BundledChunk[];
}

export interface IngestAnswer extends Omit<IngestResult, "records" | "outcomes"> {
  /** One state for each path of the batch; none for those among `failures`. */
  readonly states: Packed;
  /** By the index of the path. */
  readonly failures: ReadonlyMap<number, FailedOutcome>;
  /** Ids of the chunks that the batch stored, 32 bytes each. */
  readonly newIds: Uint8Array;
  readonly heads: readonly RecordHead[];
  readonly packed: Packed;
}

export type WorkerAnswer =
  | { readonly kind: "ingest"; readonly result: IngestAnswer }
  | { readonly kind: "seal" }
  | { readonly kind: "finish"; readonly packs: readonly FinishedPack[] }
  | { readonly kind: "abandon" }
  | { readonly kind: "prove"; readonly proof: PackProof }
  | { readonly kind: "read"; readonly packed: Packed }
  | { readonly kind: "digest"; readonly failed: readonly number[] }
  | { readonly kind: "recompress"; readonly pack: FinishedPack | undefined }
  | { readonly kind: "place"; readonly result: PlaceAnswer }
  | { readonly kind: "name"; readonly result: NameAnswer };

export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export type AnswerMessage =
  { readonly id: number; readonly answer: WorkerAnswer } | { readonly id: number; readonly error: WireError };

/** Packs byte strings into one buffer of their own. */
export function packBytes(parts: readonly (Uint8Array | undefined)[]): Packed {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + (part?.length ?? 0), 0));
  let at = 0;
  for (const part of parts) {
    if (part === undefined) continue;
    bytes.set(part, at);
    at += part.length;
  }
  return { bytes, lengths: parts.map((part) => part?.length ?? -1) };
}

/** The byte strings again; views of the one buffer. */
export function unpackBytes({ bytes, lengths }: Packed): (Buffer | undefined)[] {
  let at = 0;
  return lengths.map((length) => {
    if (length < 0) return undefined;
    const part = Buffer.from(bytes.buffer, bytes.byteOffset + at, length);
    at += length;
    return part;
  });
}

/** The error as data. */
export function wireError(error: HoldfastError): WireError {
  return { code: error.code, message: error.message, hint: error.hint, details: error.details };
}

/** The data as an error. */
export function fromWire(error: WireError): HoldfastError {
  return new HoldfastError(error.code, error.message, { hint: error.hint, details: error.details });
}
