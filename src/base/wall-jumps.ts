/**
 * Jumps of the wall clock, for spans that were asked for as so long and are kept as a wall time of their end: when the
 * clock is set, the end moves with it, so that the span is neither cut short nor drawn out by as much as the jump was.
 */
import type { Clock } from "./clock.js";

/** A clock that is set right gently moves by less than this at a time, ms. */
const JUMP_MS = 1000;

export class WallJumps {
  readonly #clock: Clock;
  #aheadMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#aheadMs = aheadOf(clock);
  }

  /** By how much the wall jumped since the last jump that was told, or since the beginning, ms; negative: it was set back. */
  take(): number {
    const aheadMs = aheadOf(this.#clock);
    const jumpMs = aheadMs - this.#aheadMs;
    if (Math.abs(jumpMs) < JUMP_MS) return 0;
    this.#aheadMs = aheadMs;
    return Math.round(jumpMs);
  }
}

/** How far the wall is ahead of the steady time, ms. */
function aheadOf(clock: Clock): number {
  return clock.nowMs() - clock.monotonicMs();
}
