/**
 * Paths that something happened to. An event only marks; what happened is found by looking. `fresh` paths are to be
 * looked at now, `resting` ones when their content has held still. Both are in order of being due.
 */
import type { NoticedBy } from "../base/events.js";
import type { BytePath } from "../base/paths.js";

export interface DirtyItem {
  readonly noticedBy: NoticedBy;
  /** When the change was first seen, wall ms. */
  readonly seenAtMs: number;
  /** List the folder whatever its times say. */
  readonly thorough: boolean;
}

export interface RestingItem extends DirtyItem {
  /** The stat that must hold still. */
  readonly stamp: string;
  /** Steady ms. */
  readonly firstMs: number;
  readonly dueMs: number;
}

/** 100,000 paths of about 250 bytes are 25 MB; beyond, the whole source is looked through instead. */
export const DIRTY_MAX = 100_000;

export class DirtySet {
  readonly #fresh = new Map<BytePath, DirtyItem>();
  readonly #resting = new Map<BytePath, RestingItem>();

  get size(): number {
    return this.#fresh.size + this.#resting.size;
  }

  get freshCount(): number {
    return this.#fresh.size;
  }

  /** False when there is no room: the path is not remembered. */
  mark(path: BytePath, item: DirtyItem): boolean {
    const known = this.#fresh.get(path);
    if (known !== undefined) {
      if (item.thorough && !known.thorough) this.#fresh.set(path, { ...known, thorough: true });
      return true;
    }
    if (this.size >= DIRTY_MAX) return false;
    this.#fresh.set(path, item);
    return true;
  }

  /** The next path to look at. */
  takeFresh(): readonly [BytePath, DirtyItem] | undefined {
    for (const entry of this.#fresh) {
      this.#fresh.delete(entry[0]);
      return entry;
    }
    return undefined;
  }

  /** Waits for the path to rest; an item that waits already keeps its first time. */
  rest(path: BytePath, item: RestingItem): void {
    this.#resting.delete(path);
    this.#resting.set(path, item);
  }

  restingAt(path: BytePath): RestingItem | undefined {
    return this.#resting.get(path);
  }

  takeRested(nowMs: number): readonly [BytePath, RestingItem] | undefined {
    for (const entry of this.#resting) {
      if (entry[1].dueMs > nowMs) return undefined;
      this.#resting.delete(entry[0]);
      return entry;
    }
    return undefined;
  }

  drop(path: BytePath): void {
    this.#fresh.delete(path);
    this.#resting.delete(path);
  }

  /** When the next resting path is due, steady ms; undefined when none rests. */
  get nextDueMs(): number | undefined {
    for (const item of this.#resting.values()) return item.dueMs;
    return undefined;
  }
}
