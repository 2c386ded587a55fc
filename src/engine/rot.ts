/**
 * Content that changed though nobody wrote it: size, inode and times are as they were when it was stored, the digest is
 * not. Every write moves the ctime in time, and no program can set it, so this is what a failing disk looks like. It
 * must not become the newest version; the last good one stays.
 */
import { type CurrentRecord, STATE_OFFSET, stateOf } from "./index/entry-index.js";
import { isMarkedAbsent, isMarkedTorn } from "./tree/codec.js";
import type { FileNode } from "./types.js";

/**
 * A shared writable mapping moves the ctime at its first store into a clean page only: later stores move nothing until
 * the page was written back, 35 s later by default (expiry 30 s, flusher every 5 s). A version that was read sooner after
 * its ctime than two such periods may have missed a store: then a difference is a change, ms.
 */
const UNSEEN_STORES_MS = 70_000;
/** Only the time of the commit is kept, not that of the reading before it: a round of a backup takes so long at most, ms. */
const ROUND_MARGIN_MS = 20_000;
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
  return isSameStat && timeMs - Number(stat.ctimeNs / NS_PER_MS) >= UNSEEN_STORES_MS + ROUND_MARGIN_MS;
}
