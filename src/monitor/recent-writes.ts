/**
 * Which keys were written lately, so that whoever keeps a value that he has read can tell, without reading it again,
 * whether it still is what is stored.
 */

/** Keys that are remembered; about 3 MB. What was read before the oldest of them counts as written since. */
const KEYS_MAX = 16_384;

export class RecentWrites {
  /** Number of the last write of each key, the oldest first. */
  readonly #lastOf = new Map<string, number>();
  #count = 0;
  #forgottenThrough = 0;

  /** The number of the last write. What is read after this was asked holds at least that. */
  get now(): number {
    return this.#count;
  }

  note(key: string): void {
    this.#count += 1;
    this.#lastOf.delete(key);
    this.#lastOf.set(key, this.#count);
    if (this.#lastOf.size <= KEYS_MAX) return;
    for (const [oldest, number] of this.#lastOf) {
      this.#lastOf.delete(oldest);
      this.#forgottenThrough = number;
      return;
    }
  }

  /** Very many keys are written at once: all that was read before counts as old. */
  noteAll(): void {
    this.#count += 1;
    this.#forgottenThrough = this.#count;
    this.#lastOf.clear();
  }

  /** True when the key was not written after that number, as far as is remembered. */
  isUnwritten(key: string, since: number): boolean {
    return since >= this.#forgottenThrough && (this.#lastOf.get(key) ?? 0) <= since;
  }
}
