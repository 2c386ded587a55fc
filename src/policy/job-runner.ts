/**
 * Long work as jobs that can be watched and cancelled: each runs on a lane, where one job runs at a time in the order
 * of asking, so that two jobs that write much never fight for the same disk. The last finished ones are remembered.
 */
import type { Clock } from "../base/clock.js";
import { deferred } from "../base/concurrency.js";
import { CALLERS_MISTAKES } from "../base/error-codes.js";
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import { jobId } from "../base/ids.js";
import type { Logger } from "../base/observe.js";

/** Finished jobs that are remembered. */
export const JOBS_KEPT_MAX = 200;
/** Jobs that may wait on one lane. */
export const JOBS_QUEUED_MAX = 50;
/** Results are kept in memory; larger ones (JSON bytes) are replaced by a note. */
export const RESULT_BYTES_MAX = 4 * 2 ** 20;

export const JOB_LANES = ["write", "read", "heal"] as const;
/** write = puts much into the store or removes it; read = restores, verifies, scans; heal = recoveries. */
export type JobLane = (typeof JOB_LANES)[number];

export type JobState = "queued" | "running" | "done" | "failed" | "cancelled";

export interface JobProgress {
  readonly filesDone: number;
  readonly filesTotal: number | undefined;
  readonly bytesDone: number;
  readonly bytesTotal: number | undefined;
}

export interface Job {
  readonly id: string;
  readonly kind: string;
  readonly lane: JobLane;
  readonly state: JobState;
  /** Wall ms. */
  readonly createdAtMs: number;
  readonly startedAtMs: number | undefined;
  readonly finishedAtMs: number | undefined;
  readonly progress: JobProgress | undefined;
  readonly result: unknown;
  readonly error: HoldfastError | undefined;
}

export interface RunningJob {
  readonly id: string;
  /** Aborts when the job is cancelled or the daemon stops. */
  readonly signal: AbortSignal;
  /** To be called as often as one likes. */
  readonly progress: (progress: JobProgress) => void;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Entry {
  readonly job: Mutable<Job>;
  readonly abort: AbortController;
  readonly work: (running: RunningJob) => Promise<unknown>;
  readonly ended: Promise<void>;
  readonly end: () => void;
}

const TERMINAL: ReadonlySet<JobState> = new Set(["done", "failed", "cancelled"]);

export class JobRunner implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #entries = new Map<string, Entry>();
  readonly #queues = new Map<JobLane, Entry[]>(JOB_LANES.map((lane) => [lane, []]));
  readonly #running = new Map<JobLane, Entry>();
  readonly #listeners = new Set<(job: Job) => void>();
  #finishedCount = 0;
  #isClosed = false;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Starts work, or queues it behind the jobs of its lane. Throws LIMIT_REACHED when too many wait. */
  start(kind: string, lane: JobLane, work: (running: RunningJob) => Promise<unknown>): Job {
    if (this.#isClosed) throw new HoldfastError("INTERRUPTED", "holdfast is stopping; no new job is taken");
    const queue = this.#queue(lane);
    if (queue.length >= JOBS_QUEUED_MAX)
      throw new HoldfastError("LIMIT_REACHED", `${String(JOBS_QUEUED_MAX)} jobs wait already`, {
        hint: "Wait for them, or cancel some: see `holdfast status`.",
      });
    const entry = newEntry(kind, lane, work, this.#clock.nowMs());
    this.#entries.set(entry.job.id, entry);
    queue.push(entry);
    this.#pump(lane);
    return { ...entry.job };
  }

  /** JOB_NOT_FOUND when there is none of that id, or it is forgotten. */
  get(id: string): Job {
    return { ...this.#entry(id).job };
  }

  /** Newest first. */
  list(): readonly Job[] {
    return [...this.#entries.values()].map(({ job }) => ({ ...job })).reverse();
  }

  /** Ends a waiting job at once, and asks a running one to stop; a finished one stays as it is. JOB_NOT_FOUND. */
  cancel(id: string): Job {
    const entry = this.#entry(id);
    const { job } = entry;
    entry.abort.abort(new HoldfastError("INTERRUPTED", `the job ${job.id} was cancelled`));
    if (job.state === "queued") {
      const queue = this.#queue(job.lane);
      queue.splice(queue.indexOf(entry), 1);
      this.#finish(entry, "cancelled", undefined);
    }
    return { ...job };
  }

  /** Resolves with the job when it has ended. JOB_NOT_FOUND. */
  async ended(id: string): Promise<Job> {
    const entry = this.#entry(id);
    await entry.ended;
    return { ...entry.job };
  }

  /** The job when it has ended, or as it is after `waitMs` or at the abort. JOB_NOT_FOUND. */
  async endedWithin(id: string, waitMs: number, signal: AbortSignal): Promise<Job> {
    const entry = this.#entry(id);
    if (waitMs > 0 && !TERMINAL.has(entry.job.state) && !signal.aborted) {
      const enough = deferred<undefined>();
      const stop = (): void => enough.resolve(undefined);
      const timer = this.#clock.after(waitMs, stop);
      signal.addEventListener("abort", stop, { once: true });
      try {
        await Promise.race([entry.ended, enough.promise]);
      } finally {
        timer.cancel();
        signal.removeEventListener("abort", stop);
      }
    }
    return { ...entry.job };
  }

  /** Calls back at each change of a job (also of its progress); returns the way to stop it. It must not throw. */
  onChange(listener: (job: Job) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Grows with each finished job: shows a watchdog that work advances. */
  get finishedCount(): number {
    return this.#finishedCount;
  }

  /** Cancels everything and waits until the running jobs have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const open = [...this.#entries.values()].filter(({ job }) => !TERMINAL.has(job.state));
    for (const { job } of open) this.cancel(job.id);
    for (const { ended } of open) await ended;
  }

  #pump(lane: JobLane): void {
    if (this.#running.has(lane)) return;
    const next = this.#queue(lane).shift();
    if (next === undefined) return;
    this.#running.set(lane, next);
    void this.#run(next).finally(() => {
      this.#running.delete(lane);
      this.#pump(lane);
    });
  }

  /** Never throws: whatever the work does ends in the job's state. */
  async #run(entry: Entry): Promise<void> {
    const { job, abort, work } = entry;
    job.state = "running";
    job.startedAtMs = this.#clock.nowMs();
    this.#changed(job);
    try {
      const result = await work({
        id: job.id,
        signal: abort.signal,
        progress: (progress) => {
          if (TERMINAL.has(job.state)) return;
          job.progress = progress;
          this.#changed(job);
        },
      });
      job.result = bounded(result);
      this.#finish(entry, "done", undefined);
    } catch (error) {
      const isCancelled = abort.signal.aborted;
      this.#finish(entry, isCancelled ? "cancelled" : "failed", asHoldfastError(error));
    }
  }

  #finish(entry: Entry, state: JobState, error: HoldfastError | undefined): void {
    const { job } = entry;
    job.state = state;
    job.error = error;
    job.finishedAtMs = this.#clock.nowMs();
    this.#finishedCount += 1;
    this.#noteEnd(job);
    entry.end();
    this.#changed(job);
    this.#forgetOldest();
  }

  #noteEnd({ id, kind, state, error }: Job): void {
    const fields = { job: id, kind, state };
    if (state !== "failed" || error === undefined) this.#log.info("job.ended", fields);
    else if (!CALLERS_MISTAKES.has(error.code)) this.#log.error("job.failed", { ...fields, error });
    else this.#log.info("job.failed", { ...fields, code: error.code, message: error.message });
  }

  #forgetOldest(): void {
    const finished = [...this.#entries.values()].filter(({ job }) => TERMINAL.has(job.state));
    for (const { job } of finished.slice(0, Math.max(0, finished.length - JOBS_KEPT_MAX))) this.#entries.delete(job.id);
  }

  #changed(job: Job): void {
    for (const listener of this.#listeners) listener({ ...job });
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw new HoldfastError("JOB_NOT_FOUND", `there is no job ${id}`);
    return entry;
  }

  #queue(lane: JobLane): Entry[] {
    const queue = this.#queues.get(lane);
    if (queue === undefined) throw new HoldfastError("INTERNAL", `there is no lane ${lane}`);
    return queue;
  }
}

function newEntry(kind: string, lane: JobLane, work: Entry["work"], nowMs: number): Entry {
  const end = deferred<undefined>();
  const job: Job = {
    id: jobId(nowMs),
    kind,
    lane,
    state: "queued",
    createdAtMs: nowMs,
    startedAtMs: undefined,
    finishedAtMs: undefined,
    progress: undefined,
    result: undefined,
    error: undefined,
  };
  const ended = end.promise.then(() => undefined);
  return { job: { ...job }, abort: new AbortController(), work, ended, end: () => end.resolve(undefined) };
}

function bounded(result: unknown): unknown {
  if (result === undefined) return null;
  const size = JSON.stringify(result).length;
  return size <= RESULT_BYTES_MAX ? result : { note: "the result was too large to be kept", size_bytes: size };
}
