/**
 * Inodes that appeared at a path lately: what a missing file may have become. A file that was moved is still the same
 * inode elsewhere; a file that was rotated or compressed has a new neighbour.
 */
import type { BigIntStats } from "node:fs";
import type { Clock } from "../../base/clock.js";
import { type BytePath, parentPath } from "../../base/paths.js";

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
  readonly seenAtMs: number;
}

/** 300,000 arrivals of about 200 bytes are 60 MB for the two minutes after a very large move. */
const ARRIVALS_MAX = 300_000;
const KEEP_MS = 120_000;

export class Arrivals {
  readonly #byInode = new Map<string, Arrival>();
  readonly #bySize = new Map<number, Set<Arrival>>();
  /** Which missing path an arrival explains, by inode. */
  readonly #claims = new Map<string, BytePath>();
  readonly #byFolder = new Map<BytePath, Set<Arrival>>();

  note(path: BytePath, stats: BigIntStats, clock: Clock): void {
    const nowMs = clock.monotonicMs();
    const key = inodeKey(stats.dev, stats.ino);
    this.#drop(key);
    const arrival: Arrival = {
      path,
      dev: stats.dev,
      ino: stats.ino,
      sizeBytes: Number(stats.size),
      mtimeNs: stats.mtimeNs,
      bornMs: Number(stats.birthtimeNs / 1_000_000n),
      seenMs: nowMs,
      seenAtMs: clock.nowMs(),
    };
    this.#byInode.set(key, arrival);
    addTo(this.#bySize, arrival.sizeBytes, arrival);
    addTo(this.#byFolder, parentPath(path), arrival);
    this.#purge(nowMs);
  }

  byInode(dev: bigint, ino: bigint): Arrival | undefined {
    return this.#byInode.get(inodeKey(dev, ino));
  }

  bySize(sizeBytes: number): Iterable<Arrival> {
    return this.#bySize.get(sizeBytes) ?? [];
  }

  /** What appeared directly in a folder. */
  inFolder(folder: BytePath): Iterable<Arrival> {
    return this.#byFolder.get(folder) ?? [];
  }

  /** Takes an arrival as the new place of one missing path; false when it is that of another already. */
  claim(arrival: Arrival, missing: BytePath): boolean {
    const key = inodeKey(arrival.dev, arrival.ino);
    const claimed = this.#claims.get(key);
    if (claimed === undefined) this.#claims.set(key, missing);
    return claimed === undefined || claimed === missing;
  }

  #purge(nowMs: number): void {
    for (const [key, arrival] of this.#byInode) {
      if (this.#byInode.size <= ARRIVALS_MAX && arrival.seenMs > nowMs - KEEP_MS) return;
      this.#drop(key);
    }
  }

  #drop(key: string): void {
    const arrival = this.#byInode.get(key);
    if (arrival === undefined) return;
    this.#byInode.delete(key);
    this.#claims.delete(key);
    dropFrom(this.#bySize, arrival.sizeBytes, arrival);
    dropFrom(this.#byFolder, parentPath(arrival.path), arrival);
  }
}

function inodeKey(dev: bigint, ino: bigint): string {
  return `${String(dev)}:${String(ino)}`;
}

function addTo<K>(index: Map<K, Set<Arrival>>, key: K, arrival: Arrival): void {
  const set = index.get(key);
  if (set === undefined) index.set(key, new Set([arrival]));
  else set.add(arrival);
}

function dropFrom<K>(index: Map<K, Set<Arrival>>, key: K, arrival: Arrival): void {
  const set = index.get(key);
  set?.delete(arrival);
  if (set?.size === 0) index.delete(key);
}
