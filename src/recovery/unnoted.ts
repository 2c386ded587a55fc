/**
 * Losses that could not be noted, or not carried on, when they were told, since the state could not be written (a full
 * disk): they are taken again until that works. What is beyond the limit, or still waits at the end of the daemon, is told
 * anew at its next start.
 */
import type { Clock, Timer } from "../base/clock.js";
import { errnoOf, hasCode } from "../base/errors.js";

const AGAIN_MS = 5000;
const WAITING_MAX = 10_000;

export class Unnoted implements Disposable {
  readonly #clock: Clock;
  readonly #work: (job: () => Promise<void>) => void;
  #waiting: (() => Promise<void>)[] = [];
  #timer: Timer | undefined;

  /** `work` runs a job, and logs what it throws. */
  constructor(clock: Clock, work: (job: () => Promise<void>) => void) {
    this.#clock = clock;
    this.#work = work;
  }

  /** Does the job, now and, when the state cannot be written, again later. Throws what the job throws. */
  async take(job: () => Promise<void>): Promise<void> {
    try {
      await job();
    } catch (error) {
      if (isNotWritten(error) && this.#waiting.length < WAITING_MAX) this.#waiting.push(job);
      this.#timer ??= this.#waiting.length === 0 ? undefined : this.#clock.after(AGAIN_MS, () => this.#again());
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
    this.#waiting = [];
  }

  #again(): void {
    this.#timer = undefined;
    const jobs = this.#waiting;
    this.#waiting = [];
    for (const job of jobs) this.#work(() => this.take(job));
  }
}

/**
 * Incidents that are written and could not be carried on, since the state could not be written any more: who takes their
 * losses again carries them on, instead of opening another or taking them for somebody else's. No more than are open.
 */
export class CutShort {
  readonly #ids = new Set<string>();

  /** Carries an incident on. Throws what that throws. */
  async carryOn<T>(id: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (isNotWritten(error)) this.#ids.add(id);
      throw error;
    }
  }

  /** True when it is to be carried on, which is the caller's to do then. */
  take(id: string): boolean {
    return this.#ids.delete(id);
  }
}

/** True when the state could not be written, as on a full disk. */
export function isNotWritten(error: unknown): boolean {
  return errnoOf(error) === "LEVEL_IO_ERROR" || hasCode(error, "INDEX_DAMAGED");
}
