/**
 * What keeps healing in bounds: a memory of our own restores for the circuit breaker, and lanes that let only so many heals run at once, the important ones first.
 */
import type { Clock } from "../base/clock.js";
import type { BytePath } from "../base/paths.js";
import { HEAL_PRIORITIES, type HealPriority, type HealerSettings } from "./ports.js";

/** Paths remembered; the oldest are forgotten first. 200,000 paths of 100 bytes are 20 MB. */
const PATHS_REMEMBERED_MAX = 200_000;
const MINUTE_MS = 60_000;

type BreakerSettings = Pick<HealerSettings, "breakerPathRestores" | "breakerPathWindowMs" | "breakerRestoresPerMinute">;

export class RestoreMemory {
  readonly #clock: Clock;
  readonly #settings: BreakerSettings;
  /** Steady times of our restores of a path, oldest first; in order of the last restore. */
  readonly #byPath = new Map<BytePath, readonly number[]>();
  #automatic: number[] = [];

  constructor(clock: Clock, settings: BreakerSettings) {
    this.#clock = clock;
    this.#settings = settings;
  }

  /** Notes a restore, of so long ago; those that a person asked for do not count for the breaker's total. */
  note(path: BytePath, by: "itself" | "person", agoMs = 0): void {
    const atMs = this.#clock.monotonicMs() - agoMs;
    const times = [...(this.#byPath.get(path) ?? []), atMs].slice(-this.#settings.breakerPathRestores);
    this.#byPath.delete(path);
    this.#byPath.set(path, times);
    if (by === "itself") this.#automatic.push(atMs);
    const [oldest] = this.#byPath.keys();
    if (this.#byPath.size > PATHS_REMEMBERED_MAX && oldest !== undefined) this.#byPath.delete(oldest);
  }

  /** Why nothing may be restored by itself now; undefined when it may. */
  breakerReason(path: BytePath): string | undefined {
    const nowMs = this.#clock.monotonicMs();
    const { breakerPathRestores, breakerPathWindowMs, breakerRestoresPerMinute } = this.#settings;
    const times = this.#byPath.get(path) ?? [];
    if (times.filter((atMs) => nowMs - atMs <= breakerPathWindowMs).length >= breakerPathRestores)
      return `it was restored ${String(breakerPathRestores)} times within ${String(breakerPathWindowMs / MINUTE_MS)} minutes`;
    this.#automatic = this.#automatic.filter((atMs) => nowMs - atMs <= MINUTE_MS);
    if (this.#automatic.length >= breakerRestoresPerMinute)
      return `${String(breakerRestoresPerMinute)} files were restored within a minute`;
    return undefined;
  }
}

/** Lets at most `parallel` works run; of those that wait, the more important go first, then the older. */
export class PriorityLanes {
  readonly #waiting = new Map<HealPriority, (() => void)[]>(HEAL_PRIORITIES.map((priority) => [priority, []]));
  #free: number;
  #waitingCount = 0;

  constructor(parallel: number) {
    this.#free = parallel;
  }

  /** Works that wait for their turn. */
  get waitingCount(): number {
    return this.#waitingCount;
  }

  async run<T>(priority: HealPriority, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else {
      this.#waitingCount += 1;
      await new Promise<void>((enter) => this.#waiting.get(priority)?.push(enter));
    }
    try {
      return await work();
    } finally {
      this.#next();
    }
  }

  #next(): void {
    for (const lane of this.#waiting.values()) {
      const enter = lane.shift();
      if (enter === undefined) continue;
      this.#waitingCount -= 1;
      enter();
      return;
    }
    this.#free += 1;
  }
}
