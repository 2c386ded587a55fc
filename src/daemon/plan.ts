/**
 * What the daemon does by the clock: scheduled backups, retention after them, checks of the store, a look at its
 * space. It also makes the backups that people and other parts ask for, so that all of them are counted alike.
 */
import { isoTime } from "../base/clock.js";
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import type { ResourceStack } from "../base/lifecycle.js";
import { formatDuration } from "../base/units.js";
import type { Configuration, ScheduleConfiguration, When as ConfiguredWhen } from "../config/configuration.js";
import { check } from "../engine/check.js";
import type { BackupOutcome, LeftOut } from "../policy/backup-jobs.js";
import { type Recurrence, WEEKDAYS, type When, recurrence } from "../policy/calendar.js";
import type { JobLane } from "../policy/job-runner.js";
import { type ScheduleBucket, type ScheduledWork, Scheduler, nodeScheduleAlarm } from "../policy/schedule.js";
import type { BackupReport, CleanupReport, CreateBackupRequest, ScheduleDocument } from "../api/services.js";
import type { PauseDocument } from "../api/watch-service.js";
import { type CleanupWork, cleanUpStore, frozenReason } from "./cleanup-work.js";
import { pauseDocument } from "./documents.js";
import { startJob, type WorkContext } from "./job-documents.js";
import type { Parts } from "./parts.js";
import type { ProtectedSource } from "./protected-source.js";

/** Scheduled work starts up to this long after its time, so that many hosts do not start at once. */
const JITTER_MS = 30_000;
const CHECK_NAME = "store-check";
const CLEANUP_NAME = "cleanup";
const DAY_MS = 86_400_000;

/** Which of some sources a scheduled backup can be of now; may wait for them. */
type Backable = (sources: readonly ProtectedSource[]) => Promise<readonly string[]>;

export class Plan {
  readonly #parts: Parts;
  readonly #bucket: ScheduleBucket;
  readonly #owner: ResourceStack;
  #scheduler: Scheduler | undefined;
  #backable: Backable | undefined;
  #isCleanupOwed = false;

  /** `owner` closes the scheduler. */
  constructor(parts: Parts, bucket: ScheduleBucket, owner: ResourceStack) {
    this.#parts = parts;
    this.#bucket = bucket;
    this.#owner = owner;
  }

  /** Begins to keep time. Scheduled backups are of those sources that `backable` names. */
  async start(backable: Backable): Promise<void> {
    const { ground, settings } = this.#parts;
    const { clock, metrics } = ground;
    const works = this.#worksOf(settings.current);
    const scheduler = new Scheduler({ clock, alarm: nodeScheduleAlarm, bucket: this.#bucket, observer: metrics });
    this.#owner.use(scheduler);
    this.#backable = backable;
    this.#scheduler = scheduler;
    for (const name of ["incident.healed", "incident.closed"] as const)
      this.#owner.defer(this.#parts.bus.on(name, () => void this.#payCleanup()));
    await scheduler.exchange(works);
  }

  /** Takes the schedules of another configuration; throws before anything changed when it cannot. */
  async take(next: Configuration, before: Configuration): Promise<void> {
    if (timesOf(before) === timesOf(next)) return;
    await this.#scheduler?.exchange(this.#worksOf(next));
  }

  /** Makes a backup as a job and waits for it; the signal cancels it. Throws what it failed with. */
  async backUpNow(request: CreateBackupRequest, signal?: AbortSignal): Promise<BackupReport | undefined> {
    let report: BackupReport | undefined;
    const work = async (job: WorkContext): Promise<BackupReport> => (report = await this.backUp(request, job));
    await this.#wait("backup", "write", work, signal);
    return report;
  }

  /** Makes a backup, and tells how it went. Throws when it could be of no source at all. */
  async backUp(request: CreateBackupRequest, context: WorkContext): Promise<BackupReport> {
    const { backupJobs, backupWork } = this.#parts;
    const sources = backupWork.check(request.sources).map((source) => source.name);
    const work = (): Promise<BackupOutcome> =>
      backupWork.run({ ...request, sources }, context.signal, (progress) => context.progress(progress));
    const { manifest, leftOut } = await backupJobs.run({ type: request.type, sources }, work, context.signal);
    if (manifest !== undefined) return { ...manifest, left_out: leftOut.map(leftOutDocument) };
    throw leftOut[0]?.error ?? new HoldfastError("SOURCE_NOT_FOUND", "what was to be backed up is protected no more");
  }

  /** Applies retention because nobody said otherwise: while a mass loss holds it, it is owed, and done once that is over. */
  async cleanUpUnasked(context: WorkContext): Promise<CleanupReport> {
    try {
      return await this.cleanUp({ dryRun: false, force: false }, context);
    } finally {
      // Frozen, it was refused, or had no backup to remove and left the garbage.
      if (!context.signal.aborted) this.#isCleanupOwed ||= (await frozenReason(this.#parts)) !== undefined;
    }
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

  /** Throws CONFIG_INVALID. */
  #worksOf({ schedule, timeZone, verify }: Configuration): ScheduledWork[] {
    const works: ScheduledWork[] = [];
    for (const entry of schedule) {
      const due = recurrenceOf(entry.when, timeZone);
      if (due !== undefined) works.push(this.#work(entry.name, due, async () => await this.#scheduledBackup(entry)));
    }
    const cleanUp = async (): Promise<void> => await this.#wait("cleanup", "write", (job) => this.cleanUpUnasked(job));
    works.push(this.#work(CLEANUP_NAME, everyRecurrence(DAY_MS), cleanUp));
    const { blocksEveryMs } = verify;
    if (blocksEveryMs === undefined) return works;
    const checkStore = async (): Promise<void> => await this.#wait("check", "read", (job) => this.#checkStore(job));
    works.push(this.#work(CHECK_NAME, everyRecurrence(blocksEveryMs), checkStore));
    return works;
  }

  #work(name: string, due: Recurrence, run: () => Promise<void>): ScheduledWork {
    return { name, recurrence: due, jitterMs: JITTER_MS, catchUp: true, run };
  }

  async #scheduledBackup({ name, type, sources }: ScheduleConfiguration): Promise<void> {
    const { book } = this.#parts;
    const wanted = book.all().filter((source) => sources.length === 0 || sources.includes(source.name));
    const names = (await this.#backable?.(wanted)) ?? [];
    if (names.length > 0) await this.backUpNow({ type, sources: names, tags: [name], compression: true });
  }

  /** Never rejects. */
  async #payCleanup(): Promise<void> {
    const { ground, jobs } = this.#parts;
    try {
      if (!this.#isCleanupOwed) return;
      this.#isCleanupOwed = (await frozenReason(this.#parts)) !== undefined;
      if (this.#isCleanupOwed) return;
      startJob(jobs, "cleanup", "write", (job) => this.cleanUpUnasked(job));
    } catch (error) {
      if (!ground.signal.aborted) ground.metrics.log.warn("cleanup.not_started", { error });
    }
  }

  async #checkStore(context: WorkContext): Promise<unknown> {
    const { repository, bus, storeGauges } = this.#parts;
    try {
      const report = await check(repository, { level: "full" }, context.signal);
      if (report.problems.length === 0) {
        bus.emit("integrity.passed", { what: "store" });
        await storeGauges.noteWholeCheck();
      } else {
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

  /** A job that ends when holdfast is told to stop, so that nobody who waits for it keeps the end waiting. */
  async #wait(
    kind: string,
    lane: JobLane,
    work: (context: WorkContext) => Promise<unknown>,
    unwanted?: AbortSignal,
  ): Promise<void> {
    const { jobs, ground } = this.#parts;
    const signals = unwanted === undefined ? [ground.signal] : [ground.signal, unwanted];
    for (const signal of signals) signal.throwIfAborted();
    const { id } = startJob(jobs, kind, lane, work);
    const cancel = (): void => void jobs.cancel(id);
    for (const signal of signals) signal.addEventListener("abort", cancel, { once: true });
    try {
      const { state, error } = await jobs.ended(id);
      if (state !== "done") throw error ?? new HoldfastError("INTERRUPTED", `the job ${id} was cancelled`);
    } finally {
      for (const signal of signals) signal.removeEventListener("abort", cancel);
    }
  }
}

function leftOutDocument({ source, error }: LeftOut): BackupReport["left_out"][number] {
  return { source, code: error.code, message: error.message };
}

/** What the plan depends on, for comparison. */
function timesOf({ schedule, timeZone, verify }: Configuration): string {
  return JSON.stringify([schedule, timeZone, verify.blocksEveryMs]);
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
    text: `every ${formatDuration(everyMs)}`,
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
