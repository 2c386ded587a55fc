/**
 * The objects of a store that a start could not take in: on a place of the disk that does not read, or damaged. What
 * follows from that says `unread.ts` of the engine.
 */
import { type HoldfastError, hasCode } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";

/**
 * Numbers left out behind a commit that was not read: it may have the next ones. A log that was sealed at once holds
 * fewer commits by far, and there is room for a million such gaps.
 */
export const UNREAD_NUMBERS = 2 ** 32;

/** The objects that were not taken in, by key; paths below the store, for segments of a log. */
export class UnreadObjects {
  readonly #reasons = new Map<string, string>();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  get size(): number {
    return this.#reasons.size;
  }

  add(key: string, reason: string): void {
    if (!this.#reasons.has(key)) this.#log.error("store.unread", { key, reason });
    this.#reasons.set(key, reason);
  }

  delete(key: string): void {
    this.#reasons.delete(key);
  }

  keys(): IterableIterator<string> {
    return this.#reasons.keys();
  }
}

/** True for what an object looks like that a disk does not give, or gives changed. */
export function isUnread(error: unknown): error is HoldfastError {
  return hasCode(error, "RECORD_DAMAGED") || hasCode(error, "OBJECT_DAMAGED") || hasCode(error, "STORE_IO");
}
