/**
 * A clock that tests own: time stands still until `advance` moves it, and then timers fire in the order they are due.
 * `jumpWall` moves only the wall time, as an administrator or NTP does.
 */
import type { Clock, Timer } from "../../src/base/clock.js";

interface PendingTimer {
  dueMs: number;
  readonly order: number;
  /** Undefined: fires once. */
  readonly everyMs: number | undefined;
  readonly callback: () => void;
}

/** 2026-01-15T12:00:00Z, a Thursday. */
const DEFAULT_START_MS = Date.UTC(2026, 0, 15, 12);

export class FakeClock implements Clock {
  #wallMs: number;
  #steadyMs = 1000;
  #nextOrder = 0;
  readonly #timers = new Set<PendingTimer>();

  constructor(startMs: number = DEFAULT_START_MS) {
    this.#wallMs = startMs;
  }

  nowMs(): number {
    return this.#wallMs;
  }

  monotonicMs(): number {
    return this.#steadyMs;
  }

  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => {
        timer.cancel();
        const error = new Error("The operation was aborted", { cause: signal.reason });
        error.name = "AbortError";
        reject(error);
      };
      const timer = this.after(ms, () => {
        signal.removeEventListener("abort", abort);
        resolve();
      });
      signal.addEventListener("abort", abort, { once: true });
    });
  }

  after(ms: number, callback: () => void): Timer {
    return this.#add(ms, undefined, callback);
  }

  every(ms: number, callback: () => void): Timer {
    return this.#add(ms, Math.max(1, ms), callback);
  }

  /** Timers that have not fired yet; repeating ones always count. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  /**
   * Moves both times on by `ms`, firing what becomes due in order; between two timers, and at the end, promises and
   * input/output get `turns` turns of the event loop to react.
   */
  async advance(ms: number, turns = 4): Promise<void> {
    const endMs = this.#steadyMs + ms;
    await loopTurns(turns);
    for (let next = this.#earliest(endMs); next !== undefined; next = this.#earliest(endMs)) {
      this.#moveTo(Math.max(next.dueMs, this.#steadyMs));
      if (next.everyMs === undefined) this.#timers.delete(next);
      else next.dueMs += next.everyMs;
      next.callback();
      await loopTurns(turns);
    }
    this.#moveTo(endMs);
    await loopTurns(turns);
  }

  /** Advances in steps of `stepMs` until `isDone` holds; throws after `limitMs` of fake time. */
  async advanceUntil(isDone: () => boolean, stepMs = 100, limitMs = 3_600_000): Promise<void> {
    for (let passedMs = 0; !isDone(); passedMs += stepMs) {
      if (passedMs > limitMs) throw new Error(`not done after ${String(limitMs)} ms of fake time`);
      await this.advance(stepMs);
    }
  }

  /** Moves only the wall time; negative goes back. Timers, which follow steady time, do not notice. */
  jumpWall(ms: number): void {
    this.#wallMs += ms;
  }

  #add(ms: number, everyMs: number | undefined, callback: () => void): Timer {
    const timer: PendingTimer = {
      dueMs: this.#steadyMs + Math.max(0, ms),
      order: this.#nextOrder++,
      everyMs,
      callback,
    };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  #moveTo(steadyMs: number): void {
    this.#wallMs += steadyMs - this.#steadyMs;
    this.#steadyMs = steadyMs;
  }

  #earliest(untilMs: number): PendingTimer | undefined {
    let first: PendingTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs > untilMs) continue;
      if (
        first === undefined ||
        timer.dueMs < first.dueMs ||
        (timer.dueMs === first.dueMs && timer.order < first.order)
      )
        first = timer;
    }
    return first;
  }
}

/** Lets promises and input/output go on for some turns of the event loop. */
export async function loopTurns(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}
