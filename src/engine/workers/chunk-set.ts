/**
 * Which chunks are stored: a table in shared memory that the main thread writes and the workers read. A chunk is
 * DURABLE, or pending for one job (a pack that is not yet synced); workers rely on durable ones and on their own
 * job's. It grows by replacement; a removed id leaves a mark until the next growth, so a reader is never misled.
 */
import type { ChunkId } from "../types.js";

export declare class ChunkSet {
  /** `capacity` is the number of ids expected; it grows by itself. */
  constructor(capacity?: number);
  /** What a worker needs to read it. Valid until the set grows; hand it over with each job. */
  readonly buffer: SharedArrayBuffer;
  /** Ids in it, pending ones included. */
  readonly size: number;
  /** True when durable. */
  isDurable(id: ChunkId): boolean;
  addDurable(id: ChunkId): void;
  /** Marks as pending for a job (a number from `newJob`) unless it is durable. */
  addPending(id: ChunkId, job: number): void;
  /** True when it was there. Not while a batch that may rely on it is under way (`WorkerPool.idle`). */
  delete(id: ChunkId): boolean;
  /** Job numbers, never reused within a process. */
  newJob(): number;
  /** All pending ids of a job become durable: its packs are in the store. */
  confirmJob(job: number): void;
  /** All pending ids of a job are dropped: it failed. */
  abandonJob(job: number): void;
}
