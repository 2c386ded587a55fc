/**
 * The write-ahead log: sealed records and commit frames appended to numbered segments, acknowledged by group commit
 * (one write and one fdatasync for everything that waits). What is acknowledged survives a power cut. A segment whose
 * fdatasync failed is never trusted again; the log goes on in a new one. `docs/repository-format.md`, section
 * Write-ahead log.
 */
import type { Observer } from "../../base/observe.js";
import type { FileIo } from "../../storage/file-io.js";
import type { RepositoryKeys } from "../keys.js";
import type { SealedRecord } from "../pack/record.js";
import type { ChunkId } from "../types.js";

/** Where a record lies in the log. */
export interface WalPlace {
  readonly segment: number;
  readonly offsetBytes: number;
  readonly recordBytes: number;
}

export interface WalReceipt {
  /** Number of the commit: consecutive, from 1. */
  readonly seq: number;
  /** Places of the given records, in their order. */
  readonly places: readonly WalPlace[];
  /** Place of the commit frame. */
  readonly frame: WalPlace;
}

export interface WalCommit {
  readonly records: readonly SealedRecord[];
  /** The caller's own bytes (a delta), sealed inside the frame. At most PLAIN_BYTES_MAX - 64. */
  readonly payload: Uint8Array;
}

/** Where the log goes on: after a replay its `end`, in a new repository `LOG_START`. */
export interface WalPosition {
  readonly nextSeq: number;
  /** SHA-256 of the last frame record, hex; zeros at the start. */
  readonly lastFrameHash: string;
  readonly nextSegment: number;
}

export declare const LOG_START: WalPosition;

export interface WalOptions {
  /** `wal/<writer>` in the store folder; made when missing. */
  readonly folder: string;
  readonly keys: RepositoryKeys;
  readonly observer: Observer;
  readonly io?: FileIo;
  /** A new segment begins when one reaches this size, bytes; default 32 MiB. */
  readonly segmentBytesMax?: number;
}

export interface SegmentInfo {
  readonly segment: number;
  readonly path: string;
  readonly sizeBytes: number;
}

export declare class WriteAheadLog implements AsyncDisposable {
  /** Opens nothing yet: the first append creates a segment. */
  constructor(options: WalOptions, position: WalPosition);
  /**
   * Resolves when records and frame are durable. Rejects with STORE_FULL, STORE_IO, STORE_READ_ONLY: nothing of this
   * commit counts then, and the next append tries again. Waits while WAL_QUEUE_BYTES_MAX are queued.
   */
  append(commit: WalCommit, signal: AbortSignal): Promise<WalReceipt>;
  /** Closes the open segment, so that all segments so far can be sealed; the next append begins a new one. */
  rotate(): Promise<void>;
  /** Segments on disk, oldest first, the open one included. */
  segments(): readonly SegmentInfo[];
  /** Bytes in all segments. */
  readonly sizeBytes: number;
  /** Where the next commit goes; `end` of a replay at this moment. */
  readonly position: WalPosition;
  /** Removes the segments up to and including this one, oldest first. */
  removeThrough(segment: number): Promise<void>;
  /** Path of a segment, for readers. */
  segmentPath(segment: number): string;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A committed frame with the records that were appended with it. */
export interface ReplayedCommit {
  readonly seq: number;
  readonly payload: Buffer;
  readonly frame: WalPlace;
  readonly records: readonly ReplayedRecord[];
}

export interface ReplayedRecord extends SealedRecord {
  readonly id: ChunkId;
  readonly place: WalPlace;
}

/** Damage before the last valid frame of the log: acknowledged data is hit. */
export interface WalDamage {
  readonly segment: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly reason: string;
}

export interface WalReplay {
  readonly end: WalPosition;
  readonly segments: readonly SegmentInfo[];
  readonly damage: readonly WalDamage[];
  /** Bytes cut from torn tails: never acknowledged. */
  readonly tornBytes: number;
}

/** Reads a log from its first segment, calling `onCommit` for each committed frame in order. A missing folder is an empty log. */
export declare function replayLog(
  folder: string,
  keys: RepositoryKeys,
  onCommit: (commit: ReplayedCommit) => Promise<void> | void,
  signal: AbortSignal,
): Promise<WalReplay>;
