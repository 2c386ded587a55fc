/**
 * Content that changed though nobody wrote it: size, inode and times are as they were when it was stored, the digest is
 * not. Every write moves the ctime, which no program can set, so this is what a failing disk looks like. It must not
 * become the newest version; the last good one stays.
 */
import { type CurrentRecord, STATE_OFFSET, stateOf } from "./index/entry-index.js";
import { isMarkedAbsent, isMarkedTorn } from "./tree/codec.js";
import type { FileNode } from "./types.js";

/**
 * Two writes within one tick of the kernel's clock (10 ms at most) have one ctime. A version that was stored this soon
 * after its ctime may have missed the second: then a difference is a change, ms.
 */
const SAME_TICK_MS = 1000;
const NS_PER_MS = 1_000_000n;

/** True when what was read now cannot have been written: compare it with the current record of its path. */
export function looksRotten(known: CurrentRecord | undefined, node: FileNode): boolean {
  if (known === undefined || node.kind !== "file" || node.torn === true) return false;
  if (isMarkedAbsent(known.value, STATE_OFFSET) || isMarkedTorn(known.value, STATE_OFFSET)) return false;
  const { node: stored, timeMs } = stateOf(known);
  if (stored.kind !== "file" || stored.sha256 === undefined || stored.sha256 === node.sha256) return false;
  const { stat } = node;
  const isSameStat =
    stored.stat.ino === stat.ino &&
    stored.stat.sizeBytes === stat.sizeBytes &&
    stored.stat.mtimeNs === stat.mtimeNs &&
    stored.stat.ctimeNs === stat.ctimeNs;
  return isSameStat && timeMs - Number(stat.ctimeNs / NS_PER_MS) >= SAME_TICK_MS;
}
