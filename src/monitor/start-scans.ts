/**
 * The first looks through sources. What went while nobody watched may stand under another name, in any source: until all
 * of these looks are through, nothing that is missed in one of them has a verdict. A look that stands still (a network
 * file system that hangs) holds up the others for a while only.
 */
import type { Clock } from "../base/clock.js";
import { ARRIVALS_KEEP_MS } from "./intent/arrivals.js";

/** Looks none of which met anything for this long hold up nothing any more, ms. */
const STALLED_MS = 60_000;

export interface StartScan {
  /** How far it is, in any unit: a number that it never had when it has got on. What goes on besides may take from it. */
  progress(): number;
  /** True when everything has been met, and looked at. */
  isOver(): boolean;
}

/** A look that is not through. */
interface Running {
  readonly scan: StartScan;
  /** The furthest that it was. */
  furthest: number;
}

export class StartScans {
  readonly #clock: Clock;
  readonly #scans = new Map<string, Running>();
  /** When one of them was further than before, steady ms. */
  #movedMs = -Infinity;
  #heldMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  begin(source: string, scan: StartScan): void {
    this.#scans.set(source, { scan, furthest: -Infinity });
    this.#movedMs = this.#clock.monotonicMs();
  }

  /** True while a new name may not have been met yet. */
  get areUnderWay(): boolean {
    for (const [source, { scan }] of this.#scans) if (scan.isOver()) this.#scans.delete(source);
    if (this.#scans.size === 0) return false;
    const nowMs = this.#clock.monotonicMs();
    for (const running of this.#scans.values()) {
      const progress = running.scan.progress();
      if (progress <= running.furthest) continue;
      running.furthest = progress;
      this.#movedMs = nowMs;
    }
    if (nowMs - this.#movedMs >= STALLED_MS) return false;
    this.#heldMs = nowMs;
    return true;
  }

  /** True while what they met is still wanted: the verdicts come after them. */
  get areWanted(): boolean {
    return this.areUnderWay || this.#clock.monotonicMs() - this.#heldMs < ARRIVALS_KEEP_MS;
  }
}
