/**
 * Keeps the daemon small: after work that made the process grow, freed memory is given back to the system as soon as it
 * is quiet.
 */
import type { Clock, Timer } from "../base/clock.js";

/** How often the process's size is looked at, ms. The engine's threads end after 10 s, their memory goes then. */
export const LOOK_EVERY_MS = 15_000;
/** Collected garbage is freed beside the event loop; its pages are given back this much later, ms. */
export const FREED_AFTER_MS = 2000;
/** Growth since the last time that is worth the trouble, bytes. */
export const GROWTH_BYTES = 8 * 2 ** 20;

export interface MemoryKeeperOptions {
  readonly clock: Clock;
  /** Begins to free what nobody refers to any more. */
  readonly collect: () => void;
  /** Gives the freed pages back to the system, and what else can be spared. */
  readonly giveBack: () => void;
  /** True while nothing waits and nothing runs. */
  readonly isQuiet: () => boolean;
  /** Resident bytes of the process. */
  readonly residentBytes: () => number;
}

export class MemoryKeeper implements Disposable {
  readonly #options: MemoryKeeperOptions;
  readonly #timer: Timer;
  #giving: Timer | undefined;
  /** Resident bytes after the last look, shrunk or not. */
  #smallestBytes = 0;

  constructor(options: MemoryKeeperOptions) {
    this.#options = options;
    this.#timer = options.clock.every(LOOK_EVERY_MS, () => this.#look());
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
    this.#giving?.cancel();
  }

  #look(): void {
    const { clock, collect, giveBack, isQuiet, residentBytes } = this.#options;
    if (!isQuiet()) return;
    const bytes = residentBytes();
    if (bytes < this.#smallestBytes + GROWTH_BYTES) {
      // It may shrink by itself (V8 does): growth counts from there.
      this.#smallestBytes = Math.min(this.#smallestBytes, bytes);
      return;
    }
    collect();
    this.#giving = clock.after(FREED_AFTER_MS, () => {
      giveBack();
      this.#smallestBytes = residentBytes();
    });
  }
}
