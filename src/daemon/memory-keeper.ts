/**
 * Keeps the daemon small: after work that made the process grow, freed memory is given back to the system as soon as it
 * is quiet.
 */
import type { Clock, Timer } from "../base/clock.js";

/** How often the process's size is looked at, ms. The engine's threads end after 10 s, their memory goes then. */
export const LOOK_EVERY_MS = 15_000;
/** Growth since the last time that is worth the trouble, bytes. */
export const GROWTH_BYTES = 8 * 2 ** 20;

export interface MemoryKeeperOptions {
  readonly clock: Clock;
  /** Gives back what can be spared. */
  readonly giveBack: () => void;
  /** True while nothing waits and nothing runs. */
  readonly isQuiet: () => boolean;
  /** Resident bytes of the process. */
  readonly residentBytes: () => number;
}

export class MemoryKeeper implements Disposable {
  readonly #options: MemoryKeeperOptions;
  readonly #timer: Timer;
  /** Resident bytes after the last look, shrunk or not. */
  #smallestBytes = 0;

  constructor(options: MemoryKeeperOptions) {
    this.#options = options;
    this.#timer = options.clock.every(LOOK_EVERY_MS, () => this.#look());
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
  }

  #look(): void {
    const { giveBack, isQuiet, residentBytes } = this.#options;
    if (!isQuiet()) return;
    const bytes = residentBytes();
    if (bytes < this.#smallestBytes + GROWTH_BYTES) {
      // It may shrink by itself (V8 does): growth counts from there.
      this.#smallestBytes = Math.min(this.#smallestBytes, bytes);
      return;
    }
    giveBack();
    this.#smallestBytes = residentBytes();
  }
}
