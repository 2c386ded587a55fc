/**
 * Runs things on schedule and misses none: what was due while holdfast was down, asleep or busy runs once as soon as it
 * can; a clock set back runs nothing twice. The truth is a comparison of "last due time handled" (kept in the state
 * database) with the recurrence; node-schedule only wakes us in time, and a look every 30 s stands behind it.
 */
import schedule from "node-schedule";
import type { Clock, Timer } from "../base/clock.js";
import { isoTime } from "../base/clock.js";
import { messageOf } from "../base/errors.js";
import type { Observer } from "../base/observe.js";
import type { Recurrence } from "./calendar.js";

/** Longest time until a jump of the clock is noticed. */
export const LOOK_EVERY_MS = 30_000;

/** The part of a LevelDB sublevel (string keys and values) that schedules need. */
export interface ScheduleBucket {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
}

/** Wakes at a wall time; `nodeScheduleAlarm` is the real one. */
export interface Alarm {
  at(timeMs: number, callback: () => void): Timer;
}

/** Wakes by node-schedule, which follows the wall clock. */
export const nodeScheduleAlarm: Alarm = {
  at: (timeMs, callback) => {
    const job = schedule.scheduleJob(new Date(timeMs), callback) as schedule.Job | null; // null: in the past
    if (job === null) setImmediate(callback);
    return { cancel: () => void job?.cancel() };
  },
};

export interface ScheduledWork {
  /** Unique; the last run is remembered under it. */
  readonly name: string;
  readonly recurrence: Recurrence;
  /** Each run starts up to this long after its time, chosen at random, so that many hosts do not start at once. */
  readonly jitterMs: number;
  /** Makes up for runs that were missed while holdfast was down: once, however many they were. */
  readonly catchUp: boolean;
  /** Does the work. Not called again before it has ended. */
  run(due: { readonly dueMs: number; readonly isLate: boolean }, signal: AbortSignal): Promise<void>;
}

export interface ScheduleStatus {
  readonly name: string;
  readonly when: string;
  readonly nextMs: number;
  /** Start of the last run, wall ms. */
  readonly lastMs: number | undefined;
  readonly lastOutcome: "done" | "failed" | "running" | undefined;
}

export interface SchedulerOptions {
  readonly clock: Clock;
  readonly alarm: Alarm;
  readonly bucket: ScheduleBucket;
  readonly observer: Observer;
  /** Between 0 and 1. */
  readonly random?: () => number;
}

interface Item {
  readonly work: ScheduledWork;
  /** The last due time that was handled, or when the schedule was first seen. */
  handledMs: number;
  /** The due time that runs next, jitter not included. */
  dueMs: number;
  startMs: number;
  lastMs: number | undefined;
  lastOutcome: ScheduleStatus["lastOutcome"];
  running: Promise<void> | undefined;
  alarm: Timer | undefined;
}

export class Scheduler implements AsyncDisposable {
  readonly #options: SchedulerOptions;
  readonly #stop = new AbortController();
  readonly #items = new Map<string, Item>();
  readonly #guard: Timer;
  readonly #runs;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#runs = options.observer.counter({
      name: "holdfast_schedule_runs_total",
      help: "Scheduled runs by outcome; late ones made up for missed ones.",
      labels: ["schedule", "outcome"],
    });
    this.#guard = options.clock.every(LOOK_EVERY_MS, () => this.#look());
  }

  /** Adds work, or replaces the work of that name (which, if it runs, ends first). */
  async add(work: ScheduledWork): Promise<void> {
    this.#put(await this.#prepare(work));
  }

  /** Has this work from now on and no other; throws before anything changed when the state database fails. */
  async exchange(works: readonly ScheduledWork[]): Promise<void> {
    const items: Item[] = [];
    for (const work of works) items.push(await this.#prepare(work));
    const names = new Set(works.map(({ name }) => name));
    for (const name of [...this.#items.keys()]) if (!names.has(name)) this.remove(name);
    for (const item of items) this.#put(item);
  }

  /** Removes a schedule; a run under way goes on to its end. */
  remove(name: string): void {
    this.#items.get(name)?.alarm?.cancel();
    this.#items.delete(name);
  }

  /** All schedules, the next one first. */
  status(): readonly ScheduleStatus[] {
    return [...this.#items.values()]
      .map(({ work, startMs, lastMs, lastOutcome }) => ({
        name: work.name,
        when: work.recurrence.text,
        nextMs: startMs,
        lastMs,
        lastOutcome,
      }))
      .sort((a, b) => a.nextMs - b.nextMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#guard.cancel();
    for (const { alarm } of this.#items.values()) alarm?.cancel();
    for (const { running } of this.#items.values()) await running;
  }

  async #prepare(work: ScheduledWork): Promise<Item> {
    const { clock, bucket } = this.#options;
    const now = clock.nowMs();
    const stored = parseStored(await bucket.get(work.name));
    // A schedule never seen before starts to count now.
    const handledMs = stored === undefined ? now : believable(stored.handledMs, work.recurrence, now);
    const item: Item = {
      work,
      handledMs: work.catchUp ? handledMs : Math.max(handledMs, now),
      dueMs: 0,
      startMs: 0,
      lastMs: stored?.lastMs,
      lastOutcome: stored?.lastOutcome,
      running: undefined,
      alarm: undefined,
    };
    await this.#store(item);
    return item;
  }

  #put(item: Item): void {
    const { name } = item.work;
    const before = this.#items.get(name);
    before?.alarm?.cancel();
    if (before !== undefined) {
      item.handledMs = Math.max(item.handledMs, before.handledMs); // it may have begun a run since the item was prepared
      item.lastMs = before.lastMs;
      item.running = before.running?.then(() => {
        item.running = undefined;
        item.lastOutcome = before.lastOutcome;
        this.#look();
      });
    }
    for (const outcome of ["done", "failed", "late"]) this.#runs.add(0, { schedule: name, outcome });
    this.#items.set(name, item);
    this.#plan(item);
    this.#look();
  }

  #look(): void {
    if (this.#stop.signal.aborted) return;
    const now = this.#options.clock.nowMs();
    for (const item of this.#items.values()) {
      const handledMs = believable(item.handledMs, item.work.recurrence, now);
      if (handledMs !== item.handledMs) {
        item.handledMs = handledMs;
        this.#plan(item);
      }
      if (item.running === undefined && item.startMs <= now) item.running = this.#run(item, now);
    }
  }

  /** Computes what is due next and asks to be woken then. */
  #plan(item: Item): void {
    const { clock, alarm, random } = this.#options;
    item.alarm?.cancel();
    item.dueMs = item.work.recurrence.nextAfter(item.handledMs);
    item.startMs = item.dueMs + Math.floor((random ?? Math.random)() * item.work.jitterMs);
    if (item.startMs > clock.nowMs()) item.alarm = alarm.at(item.startMs, () => this.#look());
  }

  async #run(item: Item, now: number): Promise<void> {
    const { observer } = this.#options;
    const { work, dueMs } = item;
    const missed = missedSince(work.recurrence, dueMs, now);
    const isLate = missed.lastMs !== dueMs || now - item.startMs > LOOK_EVERY_MS * 2;
    const fields = { schedule: work.name, due: isoTime(dueMs), late: isLate, missed: missed.count };
    observer.log.info("schedule.started", fields);
    if (isLate) this.#runs.add(1, { schedule: work.name, outcome: "late" });
    // Written before the work, so that a crash loop does not start it again and again; retries are the work's own matter.
    item.handledMs = missed.lastMs;
    item.lastMs = now;
    item.lastOutcome = "running";
    try {
      await this.#store(item);
      await work.run({ dueMs: missed.lastMs, isLate }, this.#stop.signal);
      item.lastOutcome = "done";
    } catch (error) {
      item.lastOutcome = "failed";
      observer.log.error("schedule.failed", { ...fields, error: messageOf(error) });
    }
    this.#runs.add(1, { schedule: work.name, outcome: item.lastOutcome });
    await this.#store(item).catch((error: unknown) => observer.log.error("schedule.not_stored", { error }));
    item.running = undefined;
    if (this.#stop.signal.aborted || this.#items.get(work.name) !== item) return;
    // What came due while it ran is due since then, and made up for once.
    this.#plan(item);
    this.#look();
  }

  async #store(item: Item): Promise<void> {
    const { handledMs, lastMs, lastOutcome } = item;
    await this.#options.bucket.put(item.work.name, JSON.stringify({ handledMs, lastMs, lastOutcome }));
  }
}

/**
 * The last handled due time, in view of the present one. A clock that was set back leaves handled times in the future:
 * the next one of them is not run again, those behind it are no longer believed.
 */
function believable(handledMs: number, rule: Recurrence, now: number): number {
  return handledMs <= now ? handledMs : Math.min(handledMs, rule.nextAfter(now));
}

/** Counted one by one up to here, some ms each; more make no difference. */
const MISSED_COUNTED_MAX = 100;

/** How many due times after `dueMs` have passed as well, and the last of all. */
function missedSince(
  rule: Recurrence,
  dueMs: number,
  now: number,
): { readonly count: number; readonly lastMs: number } {
  let lastMs = dueMs;
  let count = 0;
  for (let next = rule.nextAfter(dueMs); next <= now; next = rule.nextAfter(next)) {
    count += 1;
    lastMs = next;
    if (count >= MISSED_COUNTED_MAX) return { count, lastMs: now }; // all up to now are handled by this one run
  }
  return { count, lastMs };
}

function parseStored(
  text: string | undefined,
): { handledMs: number; lastMs: number | undefined; lastOutcome: ScheduleStatus["lastOutcome"] } | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("handledMs" in value)) return undefined;
    if (typeof value.handledMs !== "number") return undefined;
    const lastMs = "lastMs" in value && typeof value.lastMs === "number" ? value.lastMs : undefined;
    const stored = "lastOutcome" in value ? value.lastOutcome : undefined;
    // A run that never ended was cut off by a crash.
    const lastOutcome = stored === "done" ? "done" : stored === "failed" || stored === "running" ? "failed" : undefined;
    return { handledMs: value.handledMs, lastMs, lastOutcome };
  } catch {
    return undefined;
  }
}
