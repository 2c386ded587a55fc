/**
 * Long work as jobs that can be watched and cancelled. Jobs of one lane run one after another (two writers of the
 * store would only be in each other's way); lanes run side by side. What has finished is kept for a while, bounded.
 */
import type { Clock } from "../base/clock.js";
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import { jobId } from "../base/ids.js";
import type { Logger } from "../base/observe.js";

export const JOB_STATES = ["queued", "running", "done", "failed", "cancelled"] as const;
export type JobState = (typeof JOB_STATES)[number];

/** `write` changes the store, `read` only reads it, `heal` puts files back. */
export const JOB_LANES = ["write", "read", "heal"] as const;
export type JobLane = (typeof JOB_LANES)[number];

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
  readonly signal: AbortSignal;
  progress(progress: JobProgress): void;
}

export type JobWork = (job: RunningJob) => Promise<unknown>;

/** Finished jobs that can still be asked for. */
const FINISHED_KEPT = 200;
/** Jobs that may wait; more is a client gone wild. */
export const QUEUED_MAX = 200;

interface HeldJob {
  job: Job;
  readonly work: JobWork;
  readonly stop: AbortController;
}

export class JobRunner implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #jobs = new Map<string, HeldJob>();
  readonly #waiting = new Map<JobLane, HeldJob[]>();
  readonly #lanes = new Map<JobLane, Promise<void>>();
  readonly #closing = new AbortController();
  /** Grows with every job that finished: proof of progress for the watchdog. */
  #finished = 0;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Queues work. Throws LIMIT_REACHED when `QUEUED_MAX` jobs wait, INTERRUPTED after closing. */
  start(kind: string, lane: JobLane, work: JobWork): Job {
    if (this.#closing.signal.aborted) throw new HoldfastError("INTERRUPTED", "the daemon is stopping");
    const queue = this.#waiting.get(lane) ?? [];
    if (queue.length >= QUEUED_MAX) throw new HoldfastError("LIMIT_REACHED", `${String(QUEUED_MAX)} jobs wait already`);
    const nowMs = this.#clock.nowMs();
    const held: HeldJob = { job: newJob(jobId(nowMs), kind, lane, nowMs), work, stop: new AbortController() };
    this.#jobs.set(held.job.id, held);
    queue.push(held);
    this.#waiting.set(lane, queue);
    if (!this.#lanes.has(lane)) this.#lanes.set(lane, this.#runLane(lane, queue));
    return held.job;
  }

  /** Newest first. */
  list(): readonly Job[] {
    return [...this.#jobs.values()].map((held) => held.job).reverse();
  }

  /** Throws JOB_NOT_FOUND. */
  get(id: string): Job {
    return this.#held(id).job;
  }

  /** Asks a job to stop; one that waits is cancelled at once. Throws JOB_NOT_FOUND. */
  cancel(id: string): Job {
    const held = this.#held(id);
    held.stop.abort(new HoldfastError("INTERRUPTED", `job ${id} was cancelled`));
    if (held.job.state === "queued")
      this.#end(held, { state: "cancelled", error: asHoldfastError(held.stop.signal.reason) });
    return held.job;
  }

  /** Jobs that wait or run. */
  get pending(): number {
    return [...this.#jobs.values()].filter(({ job }) => job.state === "queued" || job.state === "running").length;
  }

  get finishedCount(): number {
    return this.#finished;
  }

  /** Cancels everything and waits until it has stopped. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new HoldfastError("INTERRUPTED", "the daemon is stopping"));
    for (const { job } of this.#jobs.values())
      if (job.state === "queued" || job.state === "running") this.cancel(job.id);
    await Promise.all(this.#lanes.values());
  }

  async #runLane(lane: JobLane, queue: HeldJob[]): Promise<void> {
    await Promise.resolve(); // the caller has its job document before the work begins
    for (let held = queue.shift(); held !== undefined; held = queue.shift()) {
      if (held.job.state === "queued") await this.#run(held);
    }
    this.#lanes.delete(lane);
  }

  async #run(held: HeldJob): Promise<void> {
    const { id, kind } = held.job;
    held.job = { ...held.job, state: "running", startedAtMs: this.#clock.nowMs() };
    const signal = AbortSignal.any([held.stop.signal, this.#closing.signal]);
    try {
      const progress = (value: JobProgress): void => void (held.job = { ...held.job, progress: value });
      this.#end(held, { state: "done", result: await held.work({ id, signal, progress }) });
    } catch (error) {
      const failure = asHoldfastError(error);
      this.#end(held, { state: signal.aborted ? "cancelled" : "failed", error: failure });
      if (!signal.aborted) this.#log.warn("job.failed", { id, kind, code: failure.code, message: failure.message });
    }
  }

  #end(held: HeldJob, outcome: Pick<Job, "state"> & Partial<Pick<Job, "result" | "error">>): void {
    held.job = { ...held.job, ...outcome, finishedAtMs: this.#clock.nowMs() };
    this.#finished += 1;
    const finished = [...this.#jobs.values()].filter(({ job }) => job.finishedAtMs !== undefined);
    const excess = finished[0];
    if (finished.length > FINISHED_KEPT && excess !== undefined) this.#jobs.delete(excess.job.id);
  }

  #held(id: string): HeldJob {
    const held = this.#jobs.get(id);
    if (held === undefined) throw new HoldfastError("JOB_NOT_FOUND", `there is no job ${id}`);
    return held;
  }
}

function newJob(id: string, kind: string, lane: JobLane, createdAtMs: number): Job {
  return {
    id,
    kind,
    lane,
    state: "queued",
    createdAtMs,
    startedAtMs: undefined,
    finishedAtMs: undefined,
    progress: undefined,
    result: undefined,
    error: undefined,
  };
}
