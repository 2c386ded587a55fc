/** Telling, in a worker thread and at the last moment, whether what is to be replaced is still what was kept. */
import type { BigIntStats } from "node:fs";
import { HoldfastError } from "../../base/errors.js";

/** Of what has the time 0, as files of images and archives often have: 0 says that nothing stood there. */
const TIME_ZERO = 1n;

/**
 * What tells a later state of a file from this one, ns (of times beyond 64 bits those), never 0: ctime; of an inode with
 * several names mtime, for its ctime moves when another of them goes.
 */
export function stampOf(stat: BigIntStats): bigint {
  return stampOfTime(stat.nlink > 1n ? stat.mtimeNs : stat.ctimeNs);
}

/** Throws TARGET_EXISTS unless what stands there has the stamp of what was kept; 0: nothing stood there. */
export function assertKept(present: BigIntStats | undefined, stampNs: bigint): void {
  const stamps = present === undefined ? [0n] : [present.ctimeNs, present.mtimeNs].map(stampOfTime);
  if (stamps.includes(stampNs)) return;
  throw new HoldfastError("TARGET_EXISTS", "it was changed while it was to be restored; it stays as it is");
}

function stampOfTime(timeNs: bigint): bigint {
  const stampNs = BigInt.asIntN(64, timeNs);
  return stampNs === 0n ? TIME_ZERO : stampNs;
}
