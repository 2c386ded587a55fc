/**
 * What the daemon does by the clock: scheduled backups, retention after them, checks of the store, a look at its
 * space. It also makes the backups that people and other parts ask for, so that all of them are counted alike.
 */
import { isoTime } from "../base/clock.js";
import { asHoldfastError } from "../base/errors.js";
import type { ResourceStack } from "../base/lifecycle.js";
import type { ScheduleConfiguration, When as ConfiguredWhen } from "../config/configuration.js";
import { check } from "../engine/check.js";
import type { Manifest } from "../engine/types.js";
import { type Recurrence, WEEKDAYS, type When, recurrence } from "../policy/calendar.js";
import type { JobLane } from "../policy/job-runner.js";
import { type ScheduleBucket, Scheduler, nodeScheduleAlarm } from "../policy/schedule.js";
import type { CleanupReport, CreateBackupRequest, PauseDocument, ScheduleDocument } from "../api/services.js";
import { type CleanupWork, cleanUpStore } from "./cleanup-work.js";
import { pauseDocument } from "./documents.js";
import { startJob, type WorkContext } from "./job-documents.js";
import type { Parts } from "./parts.js";

/** Scheduled work starts up to this long after its time, so that many hosts do not start at once. */
const JITTER_MS = 30_000;
const CHECK_NAME = "store-check";
const CLEANUP_NAME = "cleanup";
const DAY_MS = 86_400_000;

export class Plan {
  readonly #parts: Parts;
  readonly #bucket: ScheduleBucket;
  readonly #owner: ResourceStack;
  #scheduler: Scheduler | undefined;

  /** `owner` closes the scheduler. */
  constructor(parts: Parts, bucket: ScheduleBucket, owner: ResourceStack) {
    this.#parts = parts;
    this.#bucket = bucket;
    this.#owner = owner;
  }

  /** Begins to keep time. */
  async start(): Promise<void> {
    const { ground } = this.#parts;
    const { clock, metrics } = ground;
    const scheduler = new Scheduler({ clock, alarm: nodeScheduleAlarm, bucket: this.#bucket, observer: metrics });
    this.#owner.use(scheduler);
    this.#scheduler = scheduler;
    await this.#addAll(scheduler);
  }

  /** Takes the schedules of the configuration in force. */
  async restart(): Promise<void> {
    const scheduler = this.#scheduler;
    if (scheduler === undefined) return;
    for (const { name } of scheduler.status()) scheduler.remove(name);
    await this.#addAll(scheduler);
  }

  /** Makes a backup as a job and waits for it. Throws what it failed with. */
  async backUpNow(request: CreateBackupRequest): Promise<void> {
    await this.#wait("backup", "write", (job) => this.backUp(request, job));
  }

  /** Makes a backup, and tells how it went. */
  async backUp(request: CreateBackupRequest, context: WorkContext): Promise<Manifest> {
    const { backupJobs, backupWork } = this.#parts;
    const sources = backupWork.check(request.sources).map((source) => source.name);
    const work = (): Promise<Manifest> =>
      backupWork.run({ ...request, sources }, context.signal, (progress) => context.progress(progress));
    return await backupJobs.run({ type: request.type, sources }, work, context.signal);
  }

  /** Applies retention. */
  async cleanUp(work: CleanupWork, context: WorkContext): Promise<CleanupReport> {
    return await cleanUpStore(this.#parts, work, context.signal);
  }

  schedules(): readonly ScheduleDocument[] {
    const configured = this.#parts.settings.current.schedule;
    const status = new Map((this.#scheduler?.status() ?? []).map((entry) => [entry.name, entry]));
    return configured
      .map((entry) => {
        const found = status.get(entry.name);
        return {
          name: entry.name,
          type: entry.type,
          when: found?.when ?? (entry.when.kind === "manual" ? "by hand" : ""),
          next_at: found === undefined ? null : isoTime(found.nextMs),
          last_at: found?.lastMs === undefined ? null : isoTime(found.lastMs),
          last_outcome: found?.lastOutcome ?? null,
        };
      })
      .sort((a, b) => (a.next_at ?? "~").localeCompare(b.next_at ?? "~"));
  }

  pauses(): readonly PauseDocument[] {
    return this.#parts.monitor.pauses().map(pauseDocument);
  }

  async #addAll(scheduler: Scheduler): Promise<void> {
    const { current } = this.#parts.settings;
    for (const entry of current.schedule) {
      const due = recurrenceOf(entry.when, current.timeZone);
      if (due !== undefined) await scheduler.add(this.#backupWork(entry, due));
    }
    await scheduler.add({
      name: CLEANUP_NAME,
      recurrence: everyRecurrence(DAY_MS),
      jitterMs: JITTER_MS,
      catchUp: true,
      run: async () =>
        await this.#wait("cleanup", "write", (job) => this.cleanUp({ dryRun: false, force: false }, job)),
    });
    const { blocksEveryMs } = current.verify;
    if (blocksEveryMs === undefined) return;
    await scheduler.add({
      name: CHECK_NAME,
      recurrence: everyRecurrence(blocksEveryMs),
      jitterMs: JITTER_MS,
      catchUp: true,
      run: async () => await this.#wait("check", "read", (job) => this.#checkStore(job)),
    });
  }

  #backupWork(entry: ScheduleConfiguration, due: Recurrence): Parameters<Scheduler["add"]>[0] {
    const request = { type: entry.type, sources: entry.sources, tags: [entry.name], compression: true };
    return {
      name: entry.name,
      recurrence: due,
      jitterMs: JITTER_MS,
      catchUp: true,
      run: async () => await this.backUpNow(request),
    };
  }

  async #checkStore(context: WorkContext): Promise<unknown> {
    const { repository, bus } = this.#parts;
    try {
      const report = await check(repository, { level: "full" }, context.signal);
      if (report.problems.length === 0) bus.emit("integrity.passed", { what: "store" });
      else {
        const message = `${String(report.problems.length)} problems, the first: ${report.problems[0]?.detail ?? ""}`;
        bus.emit("integrity.failed", { what: "store", code: "RECORD_DAMAGED", message });
      }
      return { problems: report.problems.length };
    } catch (error) {
      if (context.signal.aborted) throw error;
      const { code, message } = asHoldfastError(error);
      bus.emit("integrity.failed", { what: "store", code, message });
      throw error;
    }
  }

  async #wait(kind: string, lane: JobLane, work: (context: WorkContext) => Promise<unknown>): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      startJob(this.#parts.jobs, kind, lane, async (context) => {
        try {
          const result = await work(context);
          resolve();
          return result;
        } catch (error) {
          reject(asHoldfastError(error));
          throw error;
        }
      });
    });
  }
}

/** Undefined: only by hand. Throws CONFIG_INVALID. */
export function recurrenceOf(when: ConfiguredWhen, timeZone: string | undefined): Recurrence | undefined {
  if (when.kind === "manual") return undefined;
  if (when.kind === "every") return everyRecurrence(when.everyMs);
  return recurrence(calendarWhen(when), timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone);
}

/** Every so many ms, counted from the epoch, so that a restart does not move it. */
function everyRecurrence(everyMs: number): Recurrence {
  return {
    text: `every ${String(Math.round(everyMs / 60_000))} minutes`,
    nextAfter: (afterMs) => (Math.floor(afterMs / everyMs) + 1) * everyMs,
  };
}

function calendarWhen(when: Exclude<ConfiguredWhen, { kind: "manual" } | { kind: "every" }>): When {
  switch (when.kind) {
    case "hourly":
      return { kind: "hourly", minute: when.minute };
    case "daily":
      return { kind: "daily", time: clockTime(when) };
    case "weekly":
      return { kind: "weekly", day: WEEKDAYS[when.day] ?? "sunday", time: clockTime(when) };
    case "monthly":
      return { kind: "monthly", day: when.date, time: clockTime(when) };
    case "cron":
      return { kind: "cron", line: when.line };
  }
}

function clockTime(at: { readonly hour: number; readonly minute: number }): string {
  return `${String(at.hour).padStart(2, "0")}:${String(at.minute).padStart(2, "0")}`;
}
