/**
 * When losses are one event instead of many. Pure: counts what was reported lately and what is pending, and says
 * whether to wait, to report one by one, or to report all as one.
 */
import type { MassLimits } from "./ports.js";

/** Losses below the limits wait at most this long for a burst to end; above, as long as `HOLD_MASS_MS`. */
const HOLD_SINGLE_MS = 3000;
const HOLD_MASS_MS = 60_000;

export interface Burst {
  /** Paths that are missing now and not yet judged. */
  readonly pending: number;
  /** Live files of the source, the pending ones included. */
  readonly files: number;
  /** Steady ms. */
  readonly nowMs: number;
  readonly oldestSinceMs: number;
  /** When everything that is pending has passed its grace. */
  readonly quietSinceMs: number;
}

/** Whether so many of a source's files are one event; `count` are lost, `files` are there or lost. */
export function isMassLoss(count: number, files: number, limits: MassLimits): boolean {
  return count > limits.files || (count >= limits.minFiles && count > limits.share * files);
}

export class MassBreaker {
  readonly #limits: MassLimits;
  /** Steady times of losses that were reported one by one. */
  #reported: number[] = [];
  #episodeEndsMs = -Infinity;

  constructor(limits: MassLimits) {
    this.#limits = limits;
  }

  /** True while more losses are likely to follow: judge later. */
  mustWait(burst: Burst): boolean {
    if (burst.nowMs >= burst.quietSinceMs) return false;
    const holdMs = this.isMass(burst.pending, burst.files, burst.nowMs) ? HOLD_MASS_MS : HOLD_SINGLE_MS;
    return burst.nowMs - burst.oldestSinceMs < holdMs;
  }

  /** Whether this many losses now, with those reported lately, are one event. */
  isMass(losses: number, files: number, nowMs: number): boolean {
    if (losses === 0) return false;
    if (nowMs < this.#episodeEndsMs) return true; // late ones join
    const recent = this.#recent(nowMs).length;
    return isMassLoss(losses + recent, files + recent, this.#limits);
  }

  /** True while an event is open that late losses join. */
  isOpen(nowMs: number): boolean {
    return nowMs < this.#episodeEndsMs;
  }

  noteSingle(nowMs: number): void {
    this.#reported = [...this.#recent(nowMs), nowMs];
  }

  noteMass(nowMs: number): void {
    this.#episodeEndsMs = nowMs + this.#limits.withinMs;
    this.#reported = [];
  }

  #recent(nowMs: number): readonly number[] {
    return this.#reported.filter((timeMs) => timeMs > nowMs - this.#limits.withinMs);
  }
}
