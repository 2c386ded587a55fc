/**
 * Inodes that appeared at a path lately: what a missing file may have become. A file that was moved is still the same
 * inode elsewhere; a file that was rotated or compressed has a new neighbour.
 */
import type { BigIntStats } from "node:fs";
import type { Clock } from "../../base/clock.js";
import { type BytePath, nameOf, parentPath } from "../../base/paths.js";

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
  readonly #byFolder = new Map<BytePath, Set<Arrival>>();

  note(path: BytePath, stats: BigIntStats, clock: Clock): void {
    const nowMs = clock.monotonicMs();
    const key = `${String(stats.dev)}:${String(stats.ino)}`;
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
    return this.#byInode.get(`${String(dev)}:${String(ino)}`);
  }

  bySize(sizeBytes: number): Iterable<Arrival> {
    return this.#bySize.get(sizeBytes) ?? [];
  }

  /** Names that appeared in a folder. */
  namesIn(folder: BytePath): readonly string[] {
    return [...(this.#byFolder.get(folder) ?? [])].map((arrival) => nameOf(arrival.path));
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
    dropFrom(this.#bySize, arrival.sizeBytes, arrival);
    dropFrom(this.#byFolder, parentPath(arrival.path), arrival);
  }
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
