/**
 * Compares a whole tree with the registry: one walk beside one pass over what is known, both in byte order, in
 * constant memory. Whatever differs is only marked; the judges look again.
 */
import type { BytePath } from "../../base/paths.js";
import type { WalkedEntry } from "../ports.js";
import type { ReadPath } from "../registry.js";

export interface ReconcileSides {
  readonly walked: AsyncIterable<readonly WalkedEntry[]>;
  readonly known: AsyncIterable<readonly ReadPath[]>;
}

export interface ReconcileVisitor {
  /** Walked, and known or not. */
  found(entry: WalkedEntry & { readonly kind: string }, known: ReadPath | undefined): void;
  /** Neither it nor what lies below could be looked at. */
  unseen?(path: BytePath): void;
  /** Known and not walked. */
  absent(known: ReadPath): void;
  /** Called between batches; may wait. */
  pause(): Promise<void>;
}

/** Runs both sides to their end. */
export async function reconcile(
  sides: ReconcileSides,
  visitor: ReconcileVisitor,
  signal: AbortSignal,
): Promise<number> {
  const known = new Cursor(sides.known);
  try {
    return await compare(sides.walked, known, visitor, signal);
  } finally {
    await known.close();
  }
}

async function compare(
  walked: ReconcileSides["walked"],
  known: Cursor,
  visitor: ReconcileVisitor,
  signal: AbortSignal,
): Promise<number> {
  let count = 0;
  for await (const batch of walked) {
    signal.throwIfAborted();
    for (const entry of batch) {
      await passAbsent(known, entry.path, visitor);
      const record = known.current?.path === entry.path ? known.current : undefined;
      if (record !== undefined) await known.next();
      if ("errno" in entry) {
        visitor.unseen?.(entry.path); // what is known below stays known; a look at each will tell
        continue;
      }
      visitor.found(entry, record);
      count += 1;
    }
    await visitor.pause();
  }
  await passAbsent(known, undefined, visitor);
  return count;
}

/** Everything known that sorts before `until` was not walked. */
async function passAbsent(known: Cursor, until: BytePath | undefined, visitor: ReconcileVisitor): Promise<void> {
  await known.start();
  while (known.current !== undefined && (until === undefined || known.current.path < until)) {
    visitor.absent(known.current);
    await known.next();
  }
}

class Cursor {
  readonly #pages: AsyncIterator<readonly ReadPath[]>;
  #page: readonly ReadPath[] = [];
  #index = 0;
  #isStarted = false;
  current: ReadPath | undefined;

  constructor(pages: AsyncIterable<readonly ReadPath[]>) {
    this.#pages = pages[Symbol.asyncIterator]();
  }

  async start(): Promise<void> {
    if (this.#isStarted) return;
    this.#isStarted = true;
    await this.next();
  }

  async close(): Promise<void> {
    await this.#pages.return?.();
  }

  async next(): Promise<void> {
    while (this.#index >= this.#page.length) {
      const page = await this.#pages.next();
      if (page.done === true) {
        this.current = undefined;
        return;
      }
      this.#page = page.value;
      this.#index = 0;
    }
    this.current = this.#page[this.#index];
    this.#index += 1;
  }
}
