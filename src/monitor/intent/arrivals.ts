/**
 * Inodes that appeared at a path lately: what a missing file may have become. A file that was moved is still the same
 * inode elsewhere; a file that was rotated or compressed has a new neighbour.
 */
import type { BigIntStats } from "node:fs";
import type { Clock } from "../../base/clock.js";
import { type BytePath, parentPath } from "../../base/paths.js";
import type { StatTuple } from "../../engine/types.js";

export interface Arrival {
  readonly path: BytePath;
  readonly dev: bigint;
  readonly ino: bigint;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  /** When the inode was made, wall ms: an inode number alone may have been used again. */
  readonly bornMs: number;
  /** When it was seen here, steady and wall ms. */
  readonly seenMs: number;
  /**
   * No later than the inode's last change: a new name is one, so what was last changed before had this name then, and a
   * first look at a folder that meets it late makes no newcomer of it.
   */
  readonly seenAtMs: number;
  /** Where the same inode was seen before, newest last. */
  readonly cameFrom: readonly BytePath[];
  /** False when it is gone again or its inode was seen elsewhere since. */
  isCurrent: boolean;
}

type InodeKey = number | string;

const DEVICES_MAX = 4096;
/** With fewer than so many devices and inode numbers below this, all keys are whole numbers below 2 ** 53. */
const PLAIN_INODES = 2 ** 41;

/** 300,000 arrivals of about 400 bytes are 120 MB for the two minutes after a very large move. */
const ARRIVALS_MAX = 300_000;
export const ARRIVALS_KEEP_MS = 120_000;
/** Earlier names of one inode that are remembered. */
const CAME_FROM_MAX = 8;
/** Most arrivals came from nowhere: one list for all. */
const NOWHERE: readonly BytePath[] = [];
/** Arrivals visited for one question; with 100,000 questions and as many arrivals all would take hours. */
const VISITS_MAX = 512;

export class Arrivals {
  readonly #keys = new InodeKeys();
  readonly #byInode = new Map<InodeKey, Arrival>();
  readonly #bySize = new ArrivalIndex<number>();
  readonly #byFolder = new ArrivalIndex<BytePath>();
  /** What stood at a path lately, and went on to another. */
  readonly #wentOn = new Map<BytePath, Arrival>();
  /** Where inodes were that are gone from there and were not seen elsewhere, by inode. */
  readonly #departed = new Map<InodeKey, Arrival>();
  /** Which missing path an arrival explains, by inode. */
  readonly #claims = new Map<InodeKey, BytePath>();
  readonly #mayForget: () => boolean;

  /** `mayForget`: false while what is old is wanted too. */
  constructor(mayForget: () => boolean = () => true) {
    this.#mayForget = mayForget;
  }

  /** `seenAtMs`: when it was seen here first, wall ms; now unless an earlier run of the daemon saw it. */
  note(path: BytePath, stats: BigIntStats, clock: Clock, seenAtMs = clock.nowMs()): void {
    const nowMs = clock.monotonicMs();
    const key = this.#keys.of(stats.dev, stats.ino);
    const before = this.#byInode.get(key);
    const bornMs = Number(stats.birthtimeNs / 1_000_000n);
    const changedMs = Number(stats.ctimeNs / 1_000_000n);
    const isSame = before?.bornMs === bornMs;
    const cameFrom = isSame ? [...before.cameFrom, before.path].filter((one) => one !== path) : NOWHERE;
    const arrival: Arrival = {
      path,
      dev: stats.dev,
      ino: stats.ino,
      sizeBytes: Number(stats.size),
      mtimeNs: stats.mtimeNs,
      bornMs,
      seenMs: nowMs,
      seenAtMs: Math.min(seenAtMs, changedMs),
      cameFrom: cameFrom.length > CAME_FROM_MAX ? cameFrom.slice(-CAME_FROM_MAX) : cameFrom,
      isCurrent: true,
    };
    this.#drop(key);
    this.#departed.delete(key);
    this.#byInode.set(key, arrival);
    for (const earlier of arrival.cameFrom) this.#wentOn.set(earlier, arrival);
    this.#bySize.add(arrival.sizeBytes, arrival);
    this.#byFolder.add(parentPath(path), arrival);
    this.forgetOld(nowMs);
  }

  /** Forgets what came too long ago to explain anything; `nowMs` is steady. To be called now and then, when nothing comes. */
  forgetOld(nowMs: number): void {
    const beforeMs = this.#mayForget() ? nowMs - ARRIVALS_KEEP_MS : -Infinity;
    forgetOldest(this.#byInode, beforeMs, (key) => this.#drop(key));
    forgetOldest(this.#departed, beforeMs, (key) => void this.#departed.delete(key));
    const oldest = this.#byInode.values().next().value;
    this.#bySize.forgetBefore(oldest?.seenMs ?? nowMs);
    this.#byFolder.forgetBefore(oldest?.seenMs ?? nowMs);
  }

  /**
   * False when nothing that is remembered has to do with what went missing from a path: not its inode, its size or its
   * folder. Of a hundred thousand files most need no other question.
   */
  mayConcern(path: BytePath, stat: Pick<StatTuple, "dev" | "ino" | "sizeBytes">): boolean {
    if (this.#byInode.size === 0 && this.#departed.size === 0) return false;
    if (this.#bySize.hasCurrent(stat.sizeBytes) || this.#byFolder.hasCurrent(parentPath(path))) return true;
    const key = this.#keys.of(stat.dev, stat.ino);
    const left = this.#departed.get(key);
    return this.#byInode.has(key) || this.#wentOn.has(path) || (left !== undefined && left.path !== path);
  }

  byInode(dev: bigint, ino: bigint): Arrival | undefined {
    return this.#byInode.size === 0 ? undefined : this.#byInode.get(this.#keys.of(dev, ino));
  }

  /** The inode that was seen at the path lately, not yet registered, where it stands now. */
  wentOn(path: BytePath): Arrival | undefined {
    return this.#wentOn.get(path);
  }

  /** Those of a size that came after a wall time, newest first (of those from before a start, in no order). */
  bySize(sizeBytes: number, afterMs: number): Iterable<Arrival> {
    return this.#since(this.#bySize.of(sizeBytes), afterMs);
  }

  /** Those directly in a folder that came after a wall time, newest first. */
  inFolder(folder: BytePath, afterMs: number): Iterable<Arrival> {
    return this.#since(this.#byFolder.of(folder), afterMs);
  }

  /** Takes an arrival as the new place of one missing path; false when it is that of another already. */
  claim(arrival: Arrival, missing: BytePath): boolean {
    const key = this.#keys.of(arrival.dev, arrival.ino);
    const claimed = this.#claims.get(key);
    if (claimed === undefined) this.#claims.set(key, missing);
    return claimed === undefined || claimed === missing;
  }

  /** What stood at a path is gone from it: it is nobody's new place. */
  departed(path: BytePath, stat: { readonly dev: bigint; readonly ino: bigint }): void {
    if (this.#byInode.size === 0) return;
    const key = this.#keys.of(stat.dev, stat.ino);
    const arrival = this.#byInode.get(key);
    if (arrival?.path !== path) return;
    this.#drop(key);
    this.#departed.set(key, arrival);
  }

  /** Where an inode was that is gone from there and was not seen elsewhere since. */
  departedOf(dev: bigint, ino: bigint): Arrival | undefined {
    return this.#departed.size === 0 ? undefined : this.#departed.get(this.#keys.of(dev, ino));
  }

  /** The arrival is gone again. */
  forget(arrival: Arrival): void {
    this.#drop(this.#keys.of(arrival.dev, arrival.ino));
  }

  *#since(arrivals: readonly Arrival[], afterMs: number): Generator<Arrival> {
    const last = Math.max(0, arrivals.length - VISITS_MAX);
    for (let index = arrivals.length - 1; index >= last; index -= 1) {
      const arrival = arrivals[index];
      if (arrival?.isCurrent === true && arrival.seenAtMs > afterMs) yield arrival;
    }
  }

  #drop(key: InodeKey): void {
    const arrival = this.#byInode.get(key);
    if (arrival === undefined) return;
    arrival.isCurrent = false;
    this.#bySize.left(arrival.sizeBytes);
    this.#byFolder.left(parentPath(arrival.path));
    for (const earlier of arrival.cameFrom) if (this.#wentOn.get(earlier) === arrival) this.#wentOn.delete(earlier);
    this.#byInode.delete(key);
    this.#claims.delete(key);
  }
}

function forgetOldest(
  arrivals: ReadonlyMap<InodeKey, Arrival>,
  beforeMs: number,
  forget: (key: InodeKey) => void,
): void {
  for (const [key, arrival] of arrivals) {
    if (arrivals.size <= ARRIVALS_MAX && arrival.seenMs > beforeMs) return;
    forget(key);
  }
}

/** Arrivals by some key, in the order they came. What was dropped elsewhere stays until it is old. */
class ArrivalIndex<K> {
  readonly #lists = new Map<K, Arrival[]>();
  /** How many of a key are current, where any are. */
  readonly #current = new Map<K, number>();
  #forgotMs = -Infinity;

  add(key: K, arrival: Arrival): void {
    this.#current.set(key, (this.#current.get(key) ?? 0) + 1);
    const list = this.#lists.get(key);
    if (list === undefined) this.#lists.set(key, [arrival]);
    else list.push(arrival);
  }

  hasCurrent(key: K): boolean {
    return this.#current.has(key);
  }

  /** One of a key is current no longer. */
  left(key: K): void {
    const rest = (this.#current.get(key) ?? 0) - 1;
    if (rest > 0) this.#current.set(key, rest);
    else this.#current.delete(key);
  }

  of(key: K): readonly Arrival[] {
    return this.#lists.get(key) ?? [];
  }

  /** Forgets what came before a steady time; looks through everything once in a while only. */
  forgetBefore(timeMs: number): void {
    if (timeMs < this.#forgotMs + ARRIVALS_KEEP_MS / 2) return;
    this.#forgotMs = timeMs;
    for (const [key, list] of this.#lists) {
      const kept = list.filter((arrival) => arrival.seenMs >= timeMs);
      if (kept.length === 0) this.#lists.delete(key);
      else this.#lists.set(key, kept);
    }
  }
}

/** One exact number for device and inode where that is possible, which is found faster than text. */
class InodeKeys {
  /** Devices met so far; a mount gets another number each time. */
  readonly #devices = new Map<bigint, number>();

  of(dev: bigint, ino: bigint): InodeKey {
    let device = this.#devices.get(dev);
    if (device === undefined && this.#devices.size < DEVICES_MAX) {
      device = this.#devices.size;
      this.#devices.set(dev, device);
    }
    const inode = Number(ino);
    if (device === undefined || inode >= PLAIN_INODES) return `${String(dev)}:${String(ino)}`;
    return device * PLAIN_INODES + inode;
  }
}
