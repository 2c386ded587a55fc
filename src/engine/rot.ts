/**
 * Content that changed though nobody wrote it: size, inode and times are as they were when it was read, the digest is
 * not. Every write moves the ctime in time, and no program can set it, so this is what a failing disk looks like. It
 * must not become the newest version; the last good one stays.
 *
 * The one exception is a store through a shared writable mapping: it moves the ctime only when its page is clean; later
 * stores into that page move nothing until it was written back. A reading misses none of them only when it began long
 * enough after the ctime. The rule is kept here for all who compare content with what they know of a file. When a reading
 * began is taken from `readingTimeMs`: the wall may jump or the machine sleep, and pages are written back by neither.
 */
import { readFileSync, statSync, statfsSync } from "node:fs";
import type { Clock } from "../base/clock.js";
import type { BytePath } from "../base/paths.js";
import { reach } from "../base/reach.js";
import { unjumpedNowMs } from "../base/unjumped-time.js";
import { type CurrentRecord, STATE_OFFSET, stateOf } from "./index/entry-index.js";
import { isMarkedAbsent, isMarkedTorn } from "./tree/codec.js";
import type { FileNode } from "./types.js";

/** What the kernel does unless it is told otherwise: a page is written back when it is 30 s old, looked for every 5 s. */
const WRITEBACK_DEFAULT_MS = 35_000;
/** A busy disk is late. */
const WRITEBACK_SLACK = 2;
/** A commit that comes later than this after the reading began dates fresh files back, ms. */
const COMMIT_LAG_MS = 20_000;
const NS_PER_MS = 1_000_000n;
const OVERLAY_TYPE = 0x794c7630;

/**
 * File systems, by statfs type, on which a ctime moves with every change and no program can set it. Not tmpfs and ramfs,
 * where a store through a mapping moves nothing at all; not FAT, FUSE and what lies on another machine, where the ctime
 * is another time or comes late.
 */
const TRUE_CTIME_TYPES: ReadonlySet<number> = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // xfs
  0x9123683e, // btrfs
  0xf2f52010, // f2fs
  0x2fc12fc1, // zfs
  0xca451a4e, // bcachefs
  0x3153464a, // jfs
  0x3434, // nilfs2
]);

/** How long stores through a mapping can stay unseen after the ctime, ms; infinite where nothing is written back by age. */
export function unseenStoresMs(): number {
  const everyMs = writebackSettingMs("dirty_writeback_centisecs");
  if (everyMs === 0) return Number.POSITIVE_INFINITY;
  const periodMs = (everyMs ?? 0) + (writebackSettingMs("dirty_expire_centisecs") ?? 0);
  return WRITEBACK_SLACK * Math.max(WRITEBACK_DEFAULT_MS, periodMs);
}

/** A setting of the kernel in ms; undefined where it cannot be read. */
function writebackSettingMs(name: string): number | undefined {
  try {
    const centiseconds = Number.parseInt(readFileSync(`/proc/sys/vm/${name}`, "latin1"), 10);
    return Number.isNaN(centiseconds) ? undefined : centiseconds * 10;
  } catch {
    return undefined;
  }
}

/** When a reading begins now, as evidence: wall ms, without a jump that the time to write pages back has not followed yet. */
export function readingTimeMs(clock: Clock): number {
  return unjumpedNowMs(clock, unseenStoresMs());
}

/** True when a reading that began then (`readingTimeMs`) cannot have missed a store into a file of this ctime. */
export function sawEveryStore(ctimeNs: bigint, readFromMs: number, unseenMs = unseenStoresMs()): boolean {
  return readFromMs - Number(ctimeNs / NS_PER_MS) >= unseenMs;
}

/** True when content of the file can be told to have changed without a write, by the file system that it lies on. */
export function hasTrueCtime(path: BytePath): boolean {
  try {
    const { type } = reach(path, (place) => statfsSync(place));
    return TRUE_CTIME_TYPES.has(type) || (type === OVERLAY_TYPE && hasTrueUpper(path));
  } catch {
    return false;
  }
}

/** An overlay's files have the ctime of the folder it writes to, which may be tmpfs; false where that cannot be seen. */
function hasTrueUpper(path: BytePath): boolean {
  const { dev } = reach(path, (place) => statSync(place, { bigint: true }));
  const upper = upperFolderOf(readFileSync("/proc/self/mountinfo", "latin1"), dev);
  return upper !== undefined && TRUE_CTIME_TYPES.has(statfsSync(Buffer.from(upper, "latin1")).type);
}

/** The upper folder of the overlay with that device, out of mountinfo; undefined: it has none. */
export function upperFolderOf(mountinfo: string, dev: bigint): string | undefined {
  const device = `${String((dev >> 8n) & 0xfffn)}:${String((dev & 0xffn) | ((dev >> 12n) & ~0xffn))}`;
  const line = mountinfo.split("\n").find((each) => each.split(" ")[2] === device && each.includes(" - overlay "));
  const upper = line?.match(/[ ,]upperdir=([^, ]+)/)?.[1];
  return upper?.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** When something is committed, and when its reading began at the earliest; wall ms. */
export interface CommitTimes {
  readonly nowMs: number;
  readonly readFromMs: number;
}

/**
 * Gives the time of a new version by the file's ctime, wall ms; undefined: all are of now. Only after a long reading a
 * file that was fresh when it began is dated back, never before its ctime, so that `sawEveryStore` is not true of
 * `readingBeganAfter` the version's time.
 */
export function datesAfter({ nowMs, readFromMs }: CommitTimes): ((ctimeNs: bigint) => number) | undefined {
  if (nowMs - readFromMs <= COMMIT_LAG_MS) return undefined;
  const unseenMs = unseenStoresMs();
  return (ctimeNs) =>
    sawEveryStore(ctimeNs, readFromMs, unseenMs)
      ? nowMs
      : Math.min(nowMs, Number(ctimeNs / NS_PER_MS) + unseenMs + COMMIT_LAG_MS - 1);
}

/** No reading of a version of that time that missed no store began before this, wall ms. */
export function readingBeganAfter(versionMs: number): number {
  return versionMs - COMMIT_LAG_MS;
}

/**
 * True when what was read now cannot have been written: compare it with the current record of its path. `verifiedMs`
 * tells when a later reading began that found the path with some content, wall ms.
 */
export function looksRotten(
  known: CurrentRecord | undefined,
  node: FileNode,
  verifiedMs: (path: BytePath, sha256: string) => number | undefined,
): boolean {
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
  if (!isSameStat) return false;
  const readFromMs = Math.max(readingBeganAfter(timeMs), verifiedMs(known.path, stored.sha256) ?? 0);
  return sawEveryStore(stat.ctimeNs, readFromMs) && hasTrueCtime(known.path);
}
