/**
 * Watches the space of the store: full above one threshold, roomy again below a lower one, so that a value that swings
 * around the threshold does not ring each time. A failed write counts as full at once, whatever the numbers say.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { EventBus } from "../base/events.js";
import type { Observer } from "../base/observe.js";

export interface SpaceOptions {
  readonly clock: Clock;
  readonly bus: EventBus;
  readonly observer: Observer;
  /** The label of the metrics, such as `hot`. */
  readonly tier: string;
  /** Space of the store's place, or undefined when it has no such notion. May throw. */
  space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number } | undefined>;
  /** Used share at which it counts as full, 0 to 1; it is roomy again `HYSTERESIS_SHARE` below. */
  readonly fullShare: number;
}

export const DEFAULT_FULL_SHARE = 0.9;
/** Roomy again this much below full. */
export const HYSTERESIS_SHARE = 0.03;
const LOOK_EVERY_MS = 60_000;
/** While it is full, changes wait: look more often. */
const LOOK_EVERY_WHEN_FULL_MS = 5_000;

export type SpaceState = "unknown" | "roomy" | "full";

export class SpaceWatch implements Disposable {
  readonly #options: SpaceOptions;
  readonly #used;
  readonly #free;
  #state: SpaceState = "unknown";
  #fullShare: number;
  #writeFailed = false;
  #last = { usedShare: 0, freeBytes: 0 };
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(options: SpaceOptions) {
    this.#options = options;
    this.#fullShare = options.fullShare;
    const labels = ["tier"] as const;
    this.#used = options.observer.gauge({
      name: "holdfast_tier_used_bytes",
      help: "Used bytes of the tier's file system.",
      labels,
    });
    this.#free = options.observer.gauge({
      name: "holdfast_tier_free_bytes",
      help: "Free bytes of the tier's file system.",
      labels,
    });
    this.#used.set(0, { tier: options.tier });
    this.#free.set(0, { tier: options.tier });
  }

  get state(): SpaceState {
    return this.#state;
  }

  /** Counts as full from another share on; told at the next look. */
  setFullShare(share: number): void {
    this.#fullShare = share;
  }

  /** Looks now, and then again and again until disposed. */
  async start(): Promise<void> {
    await this.look();
    if (this.#isClosed) return;
    const waitMs = this.#state === "full" ? LOOK_EVERY_WHEN_FULL_MS : LOOK_EVERY_MS;
    this.#timer = this.#options.clock.after(waitMs, () => void this.start());
  }

  /** Looks once; emits `store.full` and `store.roomy` when the state changes. Never throws. */
  async look(): Promise<void> {
    let space;
    try {
      space = await this.#options.space();
    } catch (error) {
      this.#options.observer.log.warn("space.unknown", { tier: this.#options.tier, error });
    }
    if (space === undefined || space.totalBytes <= 0) return;
    const { totalBytes, freeBytes } = space;
    const usedShare = (totalBytes - freeBytes) / totalBytes;
    this.#last = { usedShare, freeBytes };
    this.#used.set(totalBytes - freeBytes, { tier: this.#options.tier });
    this.#free.set(freeBytes, { tier: this.#options.tier });
    if (usedShare >= this.#fullShare) this.#become("full");
    else if (usedShare < this.#fullShare - HYSTERESIS_SHARE && !this.#writeFailed) this.#become("roomy");
  }

  /** A write found no space, or no way (`code` STORE_FULL, STORE_READ_ONLY, STORE_IO). Told once. */
  noteWriteFailed(code: string): void {
    if (this.#writeFailed) return;
    this.#writeFailed = true;
    this.#state = "full";
    this.#options.bus.emit("store.full", { ...this.#last, writeFailed: true, code });
  }

  /** Writing works again. */
  noteWriteWorks(): void {
    if (!this.#writeFailed) return;
    this.#writeFailed = false;
    if (this.#last.usedShare < this.#fullShare) this.#become("roomy");
    else this.#options.bus.emit("store.full", { ...this.#last, writeFailed: false });
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  #become(state: "roomy" | "full"): void {
    if (this.#state === state) return;
    this.#state = state;
    // The first "roomy" of a process is told too: it ends what an earlier process may have left open.
    if (state === "full") this.#options.bus.emit("store.full", { ...this.#last, writeFailed: this.#writeFailed });
    else this.#options.bus.emit("store.roomy", this.#last);
  }
}
