/**
 * Fences in the watcher child: whoever asks wants to know that everything which happened before is passed on. The
 * kernel puts the events of all watched folders in one queue, in their order, so a file of ours is touched and its event
 * waited for: those before it were taken from the queue then.
 */
import { closeSync, openSync, utimesSync } from "node:fs";

/** Files that are touched in turn: an event that comes late is not taken for that of the next fence. */
const FILES = 16;

export class Fences {
  readonly #waiting = new Map<string, () => void>();
  readonly #settle: () => Promise<void>;

  /** `settle` resolves when all that was taken from the kernel was given to us. */
  constructor(settle: () => Promise<void>) {
    this.#settle = settle;
  }

  /** Touches this fence's file in the pulse's folder; `done` is called when everything before was given to us. */
  raise(folder: string, fence: number, done: () => void): void {
    const path = `${folder}/fence-${String(fence % FILES)}`;
    this.#waiting.set(path, () => void this.#settle().then(done));
    closeSync(openSync(path, "a", 0o600));
    const seconds = fence; // any time that differs from the last one of this file
    utimesSync(path, seconds, seconds);
  }

  /** Paths with events in the pulse's folder. */
  heard(paths: readonly string[]): void {
    for (const path of paths) {
      const reached = this.#waiting.get(path);
      this.#waiting.delete(path);
      reached?.();
    }
  }
}
