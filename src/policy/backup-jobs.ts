/**
 * What a backup means beyond its bytes: the events and metrics of success and failure, the memory of when each source
 * was last backed up well (kept over restarts, so that a restart raises no false alarm), and the watch for sources
 * whose newest copy is too old. Trying again is the alert rule's `auto_retry`, which comes back here through a job.
 */
import type { Clock, Timer } from "../base/clock.js";
import { type HoldfastError, asHoldfastError } from "../base/errors.js";
import type { EventBus } from "../base/events.js";
import type { BackupType } from "../base/ids.js";
import type { Counter, Gauge, Observer } from "../base/observe.js";
import type { Manifest, SourceManifest } from "../engine/types.js";

const LOOK_EVERY_MS = 15_000;
/** Of sockets and the like, those that a line of the log names. */
const LOGGED_PATHS_MAX = 10;
/** A source that was just added gets this long for its first copy before it counts as overdue, at least. */
const FIRST_COPY_MS = 15 * 60_000;

/** The part of a LevelDB sublevel (string keys and values) that this needs. */
export interface BackupBucket {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
}

export interface BackupOrder {
  readonly type: BackupType;
  /** Names of the sources it is of; never empty. */
  readonly sources: readonly string[];
}

/** A source that a backup could not be of, and why. */
export interface LeftOut {
  readonly source: string;
  readonly error: HoldfastError;
}

export interface BackupOutcome {
  /** Of the sources that are in it; undefined when all were left out. */
  readonly manifest: Manifest | undefined;
  readonly leftOut: readonly LeftOut[];
}

export interface BackupJobsOptions {
  readonly clock: Clock;
  readonly bus: EventBus;
  readonly observer: Observer;
  readonly bucket: BackupBucket;
}

export interface SourceTarget {
  readonly name: string;
  /** The newest copy (backup, or commit that left nothing pending) may be this old, ms; 0 = no target. */
  readonly maxAgeMs: number;
  /** Changes that are not durable yet; with none, the newest copy is as new as the source. */
  pending(): number;
}

/** When a source was backed up, wall ms; 0 = never. */
export interface BackupTimes {
  readonly lastSuccessMs: number;
  readonly lastAttemptMs: number;
}

function logged(paths: readonly string[] = []): readonly string[] {
  return paths.slice(0, LOGGED_PATHS_MAX);
}

interface Watched {
  target: SourceTarget;
  times: BackupTimes;
  sinceMs: number;
  /** Everything seen so far was durable then, wall ms. */
  currentMs: number;
  isOverdue: boolean;
}

export class BackupJobs implements Disposable {
  readonly #options: BackupJobsOptions;
  readonly #watched = new Map<string, Watched>();
  readonly #total: Counter<"source" | "type" | "outcome">;
  readonly #lastSuccess: Gauge<"source">;
  readonly #lastAttempt: Gauge<"source">;
  readonly #lastDuration: Gauge<"source">;
  readonly #newestCopy: Gauge<"source">;
  readonly #timer: Timer;

  constructor(options: BackupJobsOptions) {
    this.#options = options;
    const { observer, clock } = options;
    this.#total = observer.counter({
      name: "holdfast_backups_total",
      help: "Backups by source, type and outcome.",
      labels: ["source", "type", "outcome"],
    });
    const bySource = (name: string, help: string): Gauge<"source"> =>
      observer.gauge({ name, help, labels: ["source"] });
    this.#lastSuccess = bySource("holdfast_backup_last_success_timestamp_seconds", "End of the last good backup.");
    this.#lastAttempt = bySource("holdfast_backup_last_attempt_timestamp_seconds", "End of the last backup.");
    this.#lastDuration = bySource("holdfast_backup_last_duration_seconds", "Duration of the last backup.");
    this.#newestCopy = bySource(
      "holdfast_source_newest_copy_timestamp_seconds",
      "Until when everything seen in the source is durable, Unix time; 0 = nothing is stored yet.",
    );
    this.#timer = clock.every(LOOK_EVERY_MS, () => this.look());
  }

  /** Follows a source, or takes its new target. To be called after its series were made. */
  async watch(target: SourceTarget): Promise<void> {
    const { bucket, clock } = this.#options;
    const known = this.#watched.get(target.name);
    if (known !== undefined) {
      known.target = target;
      return;
    }
    const now = clock.nowMs();
    const times = parseTimes(await bucket.get(target.name), now);
    const watched = { target, times, sinceMs: now, currentMs: times.lastSuccessMs, isOverdue: false };
    this.#watched.set(target.name, watched);
    this.#showTimes(target.name, times);
  }

  /** No longer follows a source; what is remembered of it stays. */
  unwatch(source: string): void {
    this.#watched.delete(source);
  }

  /** When a source was backed up, or undefined when it is not followed. */
  times(source: string): BackupTimes | undefined {
    return this.#watched.get(source)?.times;
  }

  /**
   * Makes a backup by `work` and tells how it went: `backup.finished` (also when some files were unreadable), and
   * `backup.failed` for each source that was left out, or for all. Throws what the work throws; a backup that was
   * interrupted is no failure.
   */
  async run(order: BackupOrder, work: () => Promise<BackupOutcome>, signal: AbortSignal): Promise<BackupOutcome> {
    const { clock, bus } = this.#options;
    const startMs = clock.monotonicMs();
    try {
      const outcome = await work();
      const { manifest, leftOut } = outcome;
      for (const { source, error } of leftOut) {
        await this.#noteEnd(source, order.type, "failed", clock.monotonicMs() - startMs);
        bus.emit("backup.failed", { source: [source], code: error.code, message: error.message });
      }
      if (manifest === undefined) return outcome;
      const made = manifest.sources.map(({ source }) => source);
      const unreadable = manifest.sources.reduce((sum, source) => sum + source.files_unreadable, 0);
      for (const { source, files_unreadable: left } of manifest.sources)
        await this.#noteEnd(source, order.type, left === 0 ? "success" : "partial", clock.monotonicMs() - startMs);
      for (const each of manifest.sources) this.#tellOdd(each);
      bus.emit("backup.finished", { source: made, backupId: manifest.backup_id, unreadable });
      return outcome;
    } catch (error) {
      if (signal.aborted) throw error;
      const { code, message } = asHoldfastError(error);
      for (const source of order.sources)
        await this.#noteEnd(source, order.type, "failed", clock.monotonicMs() - startMs);
      bus.emit("backup.failed", { source: order.sources, code, message });
      throw error;
    }
  }

  /** What is no failure, and is not as people may think. */
  #tellOdd({ source, ...told }: SourceManifest): void {
    const { log } = this.#options.observer;
    const { sockets_skipped: sockets = 0, immutable_files: immutable = 0 } = told;
    if (sockets > 0) log.info("backup.sockets_skipped", { source, sockets, paths: logged(told.socket_paths) });
    if (immutable > 0)
      log.info("backup.immutable_files", { source, files: immutable, paths: logged(told.immutable_paths) });
  }

  /** Looks whether a source has become overdue or timely, and tells. */
  look(): void {
    const { clock, bus } = this.#options;
    const now = clock.nowMs();
    for (const [source, watched] of this.#watched) {
      const { target } = watched;
      notAhead(watched, now);
      if (target.pending() === 0 && watched.times.lastSuccessMs > 0) watched.currentMs = now;
      const bestMs = Math.max(watched.currentMs, watched.times.lastSuccessMs);
      this.#newestCopy.set(bestMs / 1000, { source });
      const graceMs = bestMs === 0 ? Math.max(target.maxAgeMs, FIRST_COPY_MS) : target.maxAgeMs;
      const ageMs = now - (bestMs === 0 ? watched.sinceMs : bestMs);
      const isOverdue = target.maxAgeMs > 0 && ageMs > graceMs;
      if (isOverdue === watched.isOverdue) continue;
      watched.isOverdue = isOverdue;
      if (isOverdue) bus.emit("backup.overdue", { source, ageMs, limitMs: target.maxAgeMs });
      else bus.emit("backup.timely", { source });
    }
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
  }

  async #noteEnd(
    source: string,
    type: BackupType,
    outcome: "success" | "partial" | "failed",
    durationMs: number,
  ): Promise<void> {
    const { clock, bucket, observer } = this.#options;
    const now = clock.nowMs();
    this.#total.add(1, { source, type, outcome });
    this.#lastDuration.set(durationMs / 1000, { source });
    const watched = this.#watched.get(source);
    // A backup that could not read some files has stored all others: it counts as a copy, and the files are reported.
    const before = watched?.times.lastSuccessMs ?? parseTimes(await readQuietly(bucket, source), now).lastSuccessMs;
    const times = { lastSuccessMs: outcome === "failed" ? before : now, lastAttemptMs: now };
    if (watched !== undefined) watched.times = times;
    this.#showTimes(source, times);
    try {
      await bucket.put(source, JSON.stringify(times));
    } catch (error) {
      observer.log.error("backup.times_not_stored", { source, error }); // the backup itself is not in doubt
    }
  }

  #showTimes(source: string, times: BackupTimes): void {
    this.#lastSuccess.set(times.lastSuccessMs / 1000, { source });
    this.#lastAttempt.set(times.lastAttemptMs / 1000, { source });
  }
}

/** The clock was set back: what it said before counts as now, else nothing would be overdue until then. */
function notAhead(watched: Watched, now: number): void {
  const { lastSuccessMs, lastAttemptMs } = watched.times;
  watched.sinceMs = Math.min(watched.sinceMs, now);
  watched.currentMs = Math.min(watched.currentMs, now);
  watched.times = { lastSuccessMs: Math.min(lastSuccessMs, now), lastAttemptMs: Math.min(lastAttemptMs, now) };
}

async function readQuietly(bucket: BackupBucket, source: string): Promise<string | undefined> {
  try {
    return await bucket.get(source);
  } catch {
    return undefined;
  }
}

/** Times in the future were written under a wrong clock and count as now. */
function parseTimes(text: string | undefined, now: number): BackupTimes {
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    if (typeof value !== "object" || value === null) return { lastSuccessMs: 0, lastAttemptMs: 0 };
    const time = (name: string): number => {
      const found: unknown = Object.getOwnPropertyDescriptor(value, name)?.value;
      return typeof found === "number" && found > 0 ? Math.min(found, now) : 0;
    };
    return { lastSuccessMs: time("lastSuccessMs"), lastAttemptMs: time("lastAttemptMs") };
  } catch {
    return { lastSuccessMs: 0, lastAttemptMs: 0 };
  }
}
