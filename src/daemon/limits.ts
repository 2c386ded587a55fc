/**
 * What `limits.memory` means for the parts: how many worker threads there are and how many changes are remembered while
 * they cannot be stored. It bounds what work adds; a wall around the whole process is the service manager's (`MemoryMax=`).
 */
import { availableParallelism } from "node:os";
import type { LimitsConfiguration } from "../config/configuration.js";
import { PENDING_PATHS_MAX } from "../policy/change-queue.js";

/** What the daemon needs before any worker runs: the program, the index's caches, the registry of many files. */
const BASE_BYTES = 192 * 2 ** 20;
/** One worker at work: its heap, the files it reads and the packs it fills. */
const WORKER_BYTES = 96 * 2 ** 20;
/** More worker threads by themselves bring nothing: one disk is kept busy by them. */
const WORKERS_UNASKED_MAX = 4;
/** One remembered change with its path and its place in the tables. */
const CHANGE_BYTES = 1024;
/** Remembered changes may take this share of the limit. */
const CHANGES_SHARE = 1 / 8;

/** Worker threads that fit: what is asked for or one per processor, fewer where memory is short, never none. */
export function workersWithin({ memoryBytes, workers }: LimitsConfiguration): number {
  const wanted = workers ?? Math.min(availableParallelism(), WORKERS_UNASKED_MAX);
  return Math.max(1, Math.min(wanted, Math.floor((memoryBytes - BASE_BYTES) / WORKER_BYTES)));
}

/** Changes of one source that are remembered one by one; beyond, the source is looked through anew. */
export function changesWithin({ memoryBytes }: LimitsConfiguration): number {
  return Math.min(PENDING_PATHS_MAX, Math.max(1, Math.floor((memoryBytes * CHANGES_SHARE) / CHANGE_BYTES)));
}
