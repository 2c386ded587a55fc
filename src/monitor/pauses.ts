/**
 * Maintenance windows: within one, changes and deletions are recorded and nothing is healed. They survive a restart, also
 * over their end: what went in one that ended while nobody looked is missed for the first time at the next start. A
 * window is as long as was asked for: when the clock is set, all that is noted here moves with it.
 */
import type { Clock } from "../base/clock.js";
import { type BytePath, isWithin } from "../base/paths.js";
import { WallJumps } from "../base/wall-jumps.js";
import type { StateSublevel } from "./state-sublevel.js";

/** A maintenance window. */
export interface Pause {
  /** Undefined: everything. */
  readonly path: BytePath | undefined;
  readonly untilMs: number;
  readonly reason: string;
  /** What was left of it when it was noted, ms: after a start it is not longer, whatever the clock says. */
  readonly leftMs?: number;
  /** Of one that is over: sources in which everything that went in it has been judged. */
  readonly judged?: readonly string[];
}

/** What was missed in a window, or at the start, is judged within this time; so long an ended one is remembered, ms. */
const KEEP_ENDED_MS = 60_000;
/** Windows at the same time at most. */
const PAUSES_MAX = 1000;
const EVERYTHING = "*";

export class Pauses {
  readonly #level: ReturnType<typeof pausesOf>;
  readonly #pauses = new Map<string, Pause>();
  readonly #clock: Clock;
  readonly #jumps: WallJumps;
  /** Windows that have moved with the clock since they were stored. */
  readonly #moved = new Set<string>();
  /** When the last look through each source began, wall ms. */
  readonly #lookedSinceMs = new Map<string, number>();
  /** When the newest source was looked through for the first time, wall ms. */
  #begunMs = 0;

  private constructor(store: StateSublevel, clock: Clock) {
    this.#level = pausesOf(store);
    this.#clock = clock;
    this.#jumps = new WallJumps(clock);
  }

  static async open(store: StateSublevel, clock: Clock): Promise<Pauses> {
    const pauses = new Pauses(store, clock);
    const nowMs = clock.nowMs();
    for await (const [key, text] of pauses.#level.iterator()) {
      const pause = parsePause(key, text);
      if (pause === undefined) continue;
      const untilMs = Math.min(pause.untilMs, nowMs + (pause.leftMs ?? Infinity));
      pauses.#pauses.set(key, { ...pause, untilMs });
    }
    return pauses;
  }

  /** Begins a window or replaces the one of the same path. */
  async begin(pause: Pause): Promise<void> {
    this.#follow();
    if (this.#pauses.size >= PAUSES_MAX) {
      const [oldest] = this.#pauses.keys();
      if (oldest !== undefined) await this.#drop(oldest);
    }
    const key = pause.path ?? EVERYTHING;
    this.#pauses.set(key, pause);
    await this.#put(key, pause);
  }

  /**
   * Ends the window of exactly this path, or all windows; gives what was ended. `judged`: sources in which all that went
   * until now has its verdict.
   */
  async end(path: BytePath | undefined, nowMs: number, judged: readonly string[] = []): Promise<readonly Pause[]> {
    const ended = this.open(nowMs).filter((pause) => path === undefined || pause.path === path);
    for (const pause of ended) {
      const over = { ...pause, untilMs: nowMs, judged };
      this.#pauses.set(pause.path ?? EVERYTHING, over);
      await this.#put(pause.path ?? EVERYTHING, over); // what went in it may not be judged yet: `looked` forgets it
    }
    return ended;
  }

  /** The window that covers a path at a time, now or a moment ago, wall ms. */
  covering(path: BytePath, atMs: number): Pause | undefined {
    this.#follow();
    const lastMs = Math.min(atMs, this.#clock.nowMs()); // later than now: the clock was set back since
    for (const pause of this.#pauses.values()) {
      if (pause.untilMs > lastMs && (pause.path === undefined || isWithin(path, pause.path))) return pause;
    }
    return undefined;
  }

  /** Windows that are open now. */
  open(nowMs: number): readonly Pause[] {
    this.#follow();
    return [...this.#pauses.values()].filter((pause) => pause.untilMs > nowMs);
  }

  /** The window, open or ended, that covers a path of a source and in which something may have gone that is not judged. */
  endedUnseen(path: BytePath, source: string): Pause | undefined {
    for (const pause of this.#pauses.values())
      if (pause.judged?.includes(source) !== true && (pause.path === undefined || isWithin(path, pause.path)))
        return pause;
    return undefined;
  }

  /** What a look through all folders of the source found that began at that time, wall ms, has its verdicts. */
  async judged(source: string, sinceMs: number): Promise<void> {
    this.#follow();
    for (const [key, pause] of this.#pauses) {
      const { judged = [] } = pause;
      if (pause.untilMs > sinceMs || judged.includes(source)) continue;
      const known = { ...pause, judged: [...judged, source] };
      this.#pauses.set(key, known);
      await this.#put(key, known);
    }
  }

  /**
   * All folders of a source are as they were found by a look that began at that time, wall ms. Windows that had ended
   * long enough before for what went in them to be judged are forgotten when that is so for all sources.
   */
  async looked(source: string, sinceMs: number): Promise<void> {
    this.#follow();
    for (const key of [...this.#moved]) {
      const pause = this.#pauses.get(key);
      if (pause !== undefined) await this.#put(key, pause);
    }
    const isFirst = !this.#lookedSinceMs.has(source);
    if (isFirst) this.#begunMs = Math.max(this.#begunMs, sinceMs);
    this.#lookedSinceMs.set(source, sinceMs);
    const allSinceMs = Math.min(...this.#lookedSinceMs.values()) - KEEP_ENDED_MS;
    if (allSinceMs < this.#begunMs) return;
    for (const [key, pause] of this.#pauses) if (pause.untilMs <= allSinceMs) await this.#drop(key);
  }

  /** The source is watched no longer: nobody waits for a look through it. */
  left(source: string): void {
    this.#lookedSinceMs.delete(source);
  }

  #follow(): void {
    const jumpMs = this.#jumps.take();
    if (jumpMs === 0) return;
    for (const [key, pause] of this.#pauses) {
      this.#pauses.set(key, { ...pause, untilMs: pause.untilMs + jumpMs });
      this.#moved.add(key);
    }
    for (const [source, sinceMs] of this.#lookedSinceMs) this.#lookedSinceMs.set(source, sinceMs + jumpMs);
    this.#begunMs += jumpMs;
  }

  async #put(key: string, { untilMs, reason, judged }: Pause): Promise<void> {
    const leftMs = Math.max(0, untilMs - this.#clock.nowMs());
    await this.#level.put(key, JSON.stringify({ untilMs, leftMs, reason, judged }));
    this.#moved.delete(key);
  }

  async #drop(key: string): Promise<void> {
    this.#pauses.delete(key);
    this.#moved.delete(key);
    await this.#level.del(key);
  }
}

function pausesOf(store: StateSublevel) {
  return store.sublevel("pauses");
}

function parsePause(key: string, text: string): Pause | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("untilMs" in value) || !("reason" in value)) return undefined;
    if (typeof value.untilMs !== "number" || typeof value.reason !== "string") return undefined;
    const judged = "judged" in value && Array.isArray(value.judged) ? value.judged.map(String) : [];
    const path = key === EVERYTHING ? undefined : (key as BytePath);
    const left = "leftMs" in value && typeof value.leftMs === "number" ? { leftMs: value.leftMs } : {};
    return { path, untilMs: value.untilMs, reason: value.reason, ...left, judged };
  } catch {
    return undefined;
  }
}
