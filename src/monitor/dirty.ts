/**
 * Paths that something happened to. An event only marks; what happened is found by looking. `fresh` paths are to be
 * looked at now, in the order of being marked, `resting` ones when their content has held still, the soonest first.
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

/**
 * 150,000 paths of about 250 bytes are 37 MB; beyond, the whole source is looked through instead, which takes seconds
 * longer. A deletion of 100,000 files in 10,000 folders, heard faster than it is looked at, has room.
 */
export const DIRTY_MAX = 150_000;

export class DirtySet {
  readonly #fresh = new Map<BytePath, DirtyItem>();
  readonly #resting = new Map<BytePath, RestingItem>();
  readonly #due = new DueHeap();

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
    this.#resting.set(path, item);
    this.#due.push({ path, dueMs: item.dueMs });
  }

  /** Paths whose content is waited for to rest. */
  restingPaths(): IterableIterator<BytePath> {
    return this.#resting.keys();
  }

  restingAt(path: BytePath): RestingItem | undefined {
    return this.#resting.get(path);
  }

  takeRested(nowMs: number): readonly [BytePath, RestingItem] | undefined {
    const soonest = this.#soonest();
    if (soonest === undefined || soonest[1].dueMs > nowMs) return undefined;
    this.#resting.delete(soonest[0]);
    this.#due.pop();
    return soonest;
  }

  drop(path: BytePath): void {
    this.#fresh.delete(path);
    this.#resting.delete(path);
  }

  /** When the next resting path is due, steady ms; undefined when none rests. */
  get nextDueMs(): number | undefined {
    return this.#soonest()?.[1].dueMs;
  }

  /** The heap may hold entries of paths that were dropped or put off since: they are passed over. */
  #soonest(): readonly [BytePath, RestingItem] | undefined {
    for (let top = this.#due.top; top !== undefined; top = this.#due.top) {
      const item = this.#resting.get(top.path);
      if (item?.dueMs === top.dueMs) return [top.path, item];
      this.#due.pop();
    }
    return undefined;
  }
}

interface Due {
  readonly path: BytePath;
  /** Steady ms. */
  readonly dueMs: number;
}

/** A binary heap, the soonest at the top. An entry costs a path's reference and a number. */
class DueHeap {
  readonly #entries: Due[] = [];

  get top(): Due | undefined {
    return this.#entries[0];
  }

  push(entry: Due): void {
    let at = this.#entries.length;
    while (at > 0) {
      const above = (at - 1) >> 1;
      const parent = this.#entries[above];
      if (parent === undefined || parent.dueMs <= entry.dueMs) break;
      this.#entries[at] = parent;
      at = above;
    }
    this.#entries[at] = entry;
  }

  pop(): void {
    const last = this.#entries.pop();
    if (last === undefined || this.#entries.length === 0) return;
    let at = 0;
    for (;;) {
      const below = this.#smallerChild(at);
      const child = this.#entries[below];
      if (child === undefined || child.dueMs >= last.dueMs) break;
      this.#entries[at] = child;
      at = below;
    }
    this.#entries[at] = last;
  }

  #smallerChild(at: number): number {
    const left = 2 * at + 1;
    const leftMs = this.#entries[left]?.dueMs ?? Infinity;
    const rightMs = this.#entries[left + 1]?.dueMs ?? Infinity;
    return rightMs < leftMs ? left + 1 : left;
  }
}
