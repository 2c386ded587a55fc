/**
 * The current entries of a source beside a walk of it: both are in byte order of the paths, so each is gone through
 * once, page by page, instead of looking up one path after the other. What is read is of the moment of the beginning.
 */
import type { LevelStore } from "./level-store.js";

/** Below 0 when what is looked for sorts before the path in `key` from `keyStart` on, 0 when it is that, else above. */
export type PathComparison = (key: Buffer, keyStart: number) => number;

/** The next page has to be fetched first (`fetch`). */
export const PAGE_ENDED = "page ended";

type Page = readonly (readonly [Buffer, Buffer])[];

export class CurrentCursor implements AsyncDisposable {
  readonly #pages: AsyncGenerator<Page>;
  readonly #keyStart: number;
  #page: Page = [];
  #at = 0;
  #next: Promise<IteratorResult<Page, unknown>> | undefined;
  #isAtEnd = false;

  /** Over the keys from `from` to before `to`, whose paths begin at `from.length`. */
  constructor(level: LevelStore, from: Buffer, to: Buffer) {
    this.#pages = level.pages(from, to);
    this.#keyStart = from.length;
  }

  /**
   * The value of the path that `compare` looks for, undefined when there is none. Paths must be asked for in byte
   * order; one that was asked for before is found again.
   */
  find(compare: PathComparison): Buffer | undefined | typeof PAGE_ENDED {
    for (; this.#at < this.#page.length; this.#at += 1) {
      const pair = this.#page[this.#at];
      if (pair === undefined) break;
      const order = compare(pair[0], this.#keyStart);
      if (order === 0) return pair[1];
      if (order < 0) return undefined;
    }
    return this.#isAtEnd ? undefined : PAGE_ENDED;
  }

  /** Fetches the next page, and has the one after it fetched meanwhile. */
  async fetch(): Promise<void> {
    const page = await (this.#next ?? this.#pages.next());
    this.#at = 0;
    this.#page = page.done === true ? [] : page.value;
    this.#isAtEnd = page.done === true;
    if (this.#isAtEnd) return;
    this.#next = this.#pages.next();
    this.#next.catch(() => undefined); // heard where it is awaited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#next?.catch(() => undefined); // whoever needed it has heard
    await this.#pages.return(undefined);
  }
}
