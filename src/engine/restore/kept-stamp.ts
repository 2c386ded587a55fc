/** Telling, in a worker thread and at the last moment, whether what is to be replaced is still what was kept. */
import type { BigIntStats } from "node:fs";
import { HoldfastError } from "../../base/errors.js";

/**
 * What tells a later state of a file from this one, ns: ctime; of an inode with several names mtime, for its ctime moves
 * when another of them goes.
 */
export function stampOf(stat: BigIntStats): bigint {
  return stat.nlink > 1n ? stat.mtimeNs : stat.ctimeNs;
}

/** Throws TARGET_EXISTS unless what stands there has the stamp of what was kept; 0: nothing stood there. */
export function assertKept(present: BigIntStats | undefined, stampNs: bigint): void {
  if (present === undefined ? stampNs === 0n : [present.ctimeNs, present.mtimeNs].includes(stampNs)) return;
  throw new HoldfastError("TARGET_EXISTS", "it was changed while it was to be restored; it stays as it is");
}
