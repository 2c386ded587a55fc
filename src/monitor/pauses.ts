/** Maintenance windows: within one, changes and deletions are recorded and nothing is healed. They survive a restart. */
import { type BytePath, isWithin } from "../base/paths.js";
import type { StateSublevel } from "./state-sublevel.js";

/** A maintenance window. */
export interface Pause {
  /** Undefined: everything. */
  readonly path: BytePath | undefined;
  readonly untilMs: number;
  readonly reason: string;
}

/** An ended window is remembered this long: what was missed in it may be judged later, ms. */
const KEEP_ENDED_MS = 60_000;
/** Windows at the same time at most. */
const PAUSES_MAX = 1000;
const EVERYTHING = "*";

export class Pauses {
  readonly #level: ReturnType<typeof pausesOf>;
  readonly #pauses = new Map<string, Pause>();

  private constructor(store: StateSublevel) {
    this.#level = pausesOf(store);
  }

  static async open(store: StateSublevel): Promise<Pauses> {
    const pauses = new Pauses(store);
    for await (const [key, text] of pauses.#level.iterator()) {
      const pause = parsePause(key, text);
      if (pause !== undefined) pauses.#pauses.set(key, pause);
    }
    return pauses;
  }

  /** Begins a window or replaces the one of the same path. */
  async begin(pause: Pause, nowMs: number): Promise<void> {
    await this.#dropEnded(nowMs);
    if (this.#pauses.size >= PAUSES_MAX) {
      const [oldest] = this.#pauses.keys();
      if (oldest !== undefined) await this.#drop(oldest);
    }
    const key = pause.path ?? EVERYTHING;
    this.#pauses.set(key, pause);
    await this.#level.put(key, JSON.stringify({ untilMs: pause.untilMs, reason: pause.reason }));
  }

  /** Ends the window of exactly this path, or all windows; gives what was ended. */
  async end(path: BytePath | undefined, nowMs: number): Promise<readonly Pause[]> {
    const ended = this.open(nowMs).filter((pause) => path === undefined || pause.path === path);
    for (const pause of ended) {
      const key = pause.path ?? EVERYTHING;
      this.#pauses.set(key, { ...pause, untilMs: nowMs });
      await this.#level.del(key);
    }
    return ended;
  }

  /** The window that covers a path at a time, now or a moment ago, wall ms. */
  covering(path: BytePath, atMs: number): Pause | undefined {
    for (const pause of this.#pauses.values()) {
      if (pause.untilMs > atMs && (pause.path === undefined || isWithin(path, pause.path))) return pause;
    }
    return undefined;
  }

  /** Windows that are open now. */
  open(nowMs: number): readonly Pause[] {
    return [...this.#pauses.values()].filter((pause) => pause.untilMs > nowMs);
  }

  async #dropEnded(nowMs: number): Promise<void> {
    for (const [key, pause] of this.#pauses) if (pause.untilMs <= nowMs - KEEP_ENDED_MS) await this.#drop(key);
  }

  async #drop(key: string): Promise<void> {
    this.#pauses.delete(key);
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
    return { path: key === EVERYTHING ? undefined : (key as BytePath), untilMs: value.untilMs, reason: value.reason };
  } catch {
    return undefined;
  }
}
