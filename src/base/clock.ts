/** Time as a port, so that tests own it. This is the only file that may ask the system for the time. */
import { setTimeout as delay } from "node:timers/promises";

export interface Timer {
  /** Stops the timer; safe to call twice. */
  cancel(): void;
}

export interface Clock {
  /** Wall time in ms since the epoch, UTC; may jump. */
  nowMs(): number;
  /** Steady time in ms from an arbitrary start; never jumps. Use it for durations and grace periods. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with AbortError when the signal aborts. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Calls back once after `ms`; does not keep the process alive. */
  after(ms: number, callback: () => void): Timer;
  /** Calls back every `ms`; does not keep the process alive. */
  every(ms: number, callback: () => void): Timer;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: async (ms, signal) => {
    await delay(ms, undefined, { signal });
  },
  after: (ms, callback) => {
    const handle = setTimeout(callback, ms);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
  every: (ms, callback) => {
    const handle = setInterval(callback, ms);
    handle.unref();
    return { cancel: () => clearInterval(handle) };
  },
};

/**
 * True when a wall time was at most `windowMs` ago. One that is ahead was noted before the clock was set back: it counts
 * while it is ahead by no more than that, and not for as long as the jump was.
 */
export function isRecent(thenMs: number, nowMs: number, windowMs: number): boolean {
  return Math.abs(nowMs - thenMs) <= windowMs;
}

/** ISO 8601 in UTC with milliseconds, as every output of holdfast shows a time. */
export function isoTime(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
