/**
 * Fences in the watcher child: whoever asks wants to know that everything which happened before is passed on. The
 * kernel puts the events of all watched folders in one queue, in their order, so a file of ours is touched and its event
 * waited for: those before it were taken from the queue then.
 */
import watcher from "@parcel/watcher";
import { closeSync, openSync, utimesSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";

/** Files that are touched in turn: an event that comes late is not taken for that of the next fence. */
const FILES = 16;

export class Fences {
  readonly #waiting = new Map<string, () => void>();

  /** Touches this fence's file in the pulse's folder; `done` is called when everything before was given to us. */
  raise(folder: string, fence: number, done: () => void): void {
    const path = `${folder}/fence-${String(fence % FILES)}`;
    this.#waiting.set(path, () => void this.#settle(folder).then(done));
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

  /**
   * The event of our file may be given to us a moment before others of the same delivery. A delivery holds the
   * watcher's lock, which every call of its interface takes: after one it is over, and two turns later all is here.
   */
  async #settle(folder: string): Promise<void> {
    await watcher.unsubscribe(folder, () => undefined, { backend: "inotify" });
    await turn();
    await turn();
  }
}
