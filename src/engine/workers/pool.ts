/**
 * The worker threads that do the heavy part of a backup: read, chunk, hash, look up, compress, seal, write packs. A
 * batch of files goes to one worker whole (shared nothing but the ChunkSet); messages are batches, never chunks.
 */
import { availableParallelism } from "node:os";
import { type Clock, type Timer, systemClock } from "../../base/clock.js";
import { deferred, Semaphore } from "../../base/concurrency.js";
import { HoldfastError, messageOf } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import type { Observer } from "../../base/observe.js";
import { type FileIo, systemIo } from "../../storage/file-io.js";
import type { RepositoryKeys } from "../keys.js";
import type { FinishedPack } from "../pack/format.js";
import type { PackProof } from "../pack/prove.js";
import type { SealedRecord } from "../pack/record.js";
import type { NameAnswer, NameRequest, PlaceAnswer, PlaceRequest } from "../restore/protocol.js";
import type { ChunkSet } from "./chunk-set.js";
import type { DigestRequest } from "./digest-batch.js";
import type { RecompressRequest } from "./recompress.js";
import {
  type FileOutcome,
  type IngestAnswer,
  type IngestBatch,
  type IngestResult,
  type ProveRequest,
  type ReadAnswer,
  type ReadRequest,
  type SealRequest,
  unpackBytes,
} from "./protocol.js";
import { discardPacks } from "../pack/writer.js";
import { PackJob } from "./pack-job.js";
import { died, type ThreadListener, WorkerThread } from "./thread.js";

export {
  BATCH_BYTES_AIM,
  BATCH_FILES_MAX,
  type FileOutcome,
  type IngestBatch,
  type IngestResult,
  type ReadAnswer,
  type ReadRequest,
} from "./protocol.js";

export interface WorkerPoolOptions {
  readonly keys: RepositoryKeys;
  /** Path or URL of the store: workers open it themselves for reading. */
  readonly storeUrl: string;
  readonly stagingFolder: string;
  /** File calls for the store, where they are not the system's; without threads then, which could not make them. */
  readonly io?: FileIo;
  readonly chunkSet: ChunkSet;
  /** 1 to 16; default min(cores, 4). */
  readonly workers?: number;
  readonly observer: Observer;
  /** For the end of idle threads; the system's by default. */
  readonly clock?: Clock;
  /** How a thread is started, where `io` is the system's; for tests. */
  readonly startThread?: typeof WorkerThread.start;
}

/**
 * Tasks that a thread is given at a time: the next one is there already when one is done, so that no thread waits for
 * this one, which may be busy with the catalog for a tenth of a second.
 */
const TASKS_AHEAD = 2;
const WORKERS_DEFAULT_MAX = 4;
const WORKERS_MAX = 16;
/** A thread and its memory (20 MiB and more) are kept this long after the last task, ms. A new one takes some 50 ms. */
export const THREAD_IDLE_MS = 10_000;

/** Where the system had no room for another thread, it is asked again after so long, ms; those that run do the work. */
export const START_PAUSE_MS = 5_000;

export class WorkerPool implements AsyncDisposable {
  /** Threads at most; each is started when it is first needed. */
  readonly workers: number;
  /** Tasks that are given to the threads at a time; others wait. */
  readonly tasks: number;
  readonly #options: WorkerPoolOptions;
  readonly #clock: Clock;
  readonly #slots: Semaphore;
  readonly #threads = new Set<WorkerThread>();
  readonly #starting = new Set<Promise<WorkerThread>>();
  /** Those in pack mode, until their packs are closed or they are abandoned. */
  readonly #jobs = new Map<number, PackJob>();
  /** Threads without a task, as the threads see it. */
  readonly #spare = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  readonly #retiring = new Set<Promise<void>>();
  #idleTimer: Timer | undefined;
  /** On the monotonic clock. */
  #startNextMs = Number.NEGATIVE_INFINITY;
  #busy = 0;
  /** Resolves when a thread has done a task. */
  #freed = deferred<undefined>();
  #idle = deferred<undefined>();
  #ended = false;

  /** Starts no thread yet: much of what is done with a repository needs none. */
  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const wanted = options.workers ?? Math.min(availableParallelism(), WORKERS_DEFAULT_MAX);
    this.workers = Math.max(1, Math.min(wanted, WORKERS_MAX));
    this.tasks = this.workers * TASKS_AHEAD;
    this.#slots = new Semaphore(this.tasks);
    this.#noteSpare();
    this.#idle.resolve(undefined);
  }

  /** Has a thread ready soon: there will be work. Costs nothing when there is one. */
  warm(): void {
    if (this.#ended || this.#threads.size > 0 || this.#starting.size > 0) return;
    this.#startThread().then(
      () => {
        if (this.#busy === 0) this.#awaitIdleness();
      },
      () => undefined, // whoever needs the thread starts one and hears why it does not work
    );
  }

  /**
   * Reads a batch. The ids of pack mode are marked pending for the job before it resolves. Waits for a free worker.
   * Rejects with STORE_FULL, STORE_IO, INTERRUPTED, and INTERNAL when the worker died: in pack mode the whole job is
   * void after any rejection and must be abandoned; its other batches are broken off and reject for the same reason.
   */
  async ingest(batch: IngestBatch, signal: AbortSignal): Promise<IngestResult> {
    return await this.#withThread(signal, async (thread) => {
      const run = async (inner: AbortSignal): Promise<IngestAnswer> =>
        (await thread.run({ kind: "ingest", batch, chunkSet: this.#options.chunkSet.buffer }, inner)).result;
      if (batch.mode === "inline") return resultOf(batch.paths, await run(signal));
      const job = this.#jobs.get(batch.job) ?? new PackJob();
      this.#jobs.set(batch.job, job);
      return await job.guard(async () => {
        thread.jobs.add(batch.job);
        const reading = run(AbortSignal.any([signal, job.failed])).then((result) => {
          job.packs.push(...result.packs);
          return result;
        });
        const answer = await job.untilSealed(reading);
        this.#options.chunkSet.addPending(answer.newIds, batch.job);
        return resultOf(batch.paths, answer);
      });
    });
  }

  /** Closes the open packs of a job in all workers. Store them, then `chunkSet.confirmJob`. */
  async finishPacks(job: number, signal: AbortSignal): Promise<FinishedPack[]> {
    const threads = [...this.#threads].filter((thread) => thread.jobs.has(job));
    const packJob = this.#jobs.get(job);
    const packs: FinishedPack[] = [];
    await packJob?.guard(async () => {
      const outcomes = await Promise.allSettled(threads.map((thread) => thread.run({ kind: "finish", job }, signal)));
      for (const outcome of outcomes) if (outcome.status === "fulfilled") packs.push(...outcome.value.packs);
      packJob.packs.push(...packs);
      const failed = outcomes.find((outcome) => outcome.status === "rejected");
      if (failed !== undefined) throw failed.reason;
    });
    for (const thread of threads) thread.jobs.delete(job);
    this.#jobs.delete(job);
    return packs;
  }

  /** Drops the open packs of a job and its pending ids; also `packs`, its closed ones, unless they are in the store. */
  async abandon(job: number, packs: readonly FinishedPack[] = []): Promise<void> {
    const packJob = this.#jobs.get(job);
    packJob?.fail(new HoldfastError("INTERRUPTED", "the job was abandoned"));
    this.#jobs.delete(job);
    const threads = [...this.#threads].filter((thread) => thread.jobs.delete(job));
    await Promise.allSettled(threads.map((thread) => thread.run({ kind: "abandon", job }, NEVER)));
    this.#options.chunkSet.abandonJob(job);
    await discardPacks(packJob?.packs ?? packs, this.#options.io ?? systemIo);
  }

  /** Opens every record of a pack of the store; `entries` only with a `directoryFault`. Throws OBJECT_MISSING. */
  async prove(pack: ProveRequest, signal: AbortSignal): Promise<PackProof> {
    return await this.#withThread(signal, async (thread) => (await thread.run({ kind: "prove", pack }, signal)).proof);
  }

  /** Reads and opens records in a worker; ids are verified. Throws OBJECT_MISSING. */
  async read(request: ReadRequest, signal: AbortSignal): Promise<ReadAnswer> {
    return await this.#withThread(signal, async (thread) => {
      const { packed } = await thread.run({ kind: "read", request }, signal);
      return { plains: unpackBytes(packed) };
    });
  }

  /** Writes a pack anew; undefined when it does not get smaller. Throws RECORD_DAMAGED, OBJECT_DAMAGED, OBJECT_MISSING. */
  async recompress(request: RecompressRequest, signal: AbortSignal): Promise<FinishedPack | undefined> {
    return await this.#withThread(signal, async (thread) => {
      return (await thread.run({ kind: "recompress", request }, signal)).pack;
    });
  }

  /** Positions of the files whose content these places do not give. */
  async digest(request: DigestRequest, signal: AbortSignal): Promise<readonly number[]> {
    return await this.#withThread(signal, async (thread) => {
      return (await thread.run({ kind: "digest", request }, signal)).failed;
    });
  }

  /** Writes a batch of restored files; the folders stay open until it resolves or rejects. */
  async place(request: PlaceRequest, signal: AbortSignal): Promise<PlaceAnswer> {
    return await this.#withThread(signal, async (thread) => {
      return (await thread.run({ kind: "place", request }, signal)).result;
    });
  }

  /** Names and closes the files of a batch that are on disk. When it rejects before it began, they are still open. */
  async name(request: NameRequest, signal: AbortSignal): Promise<NameAnswer> {
    return await this.#withThread(signal, async (thread) => {
      return (await thread.run({ kind: "name", request }, signal)).result;
    });
  }

  /** Resolves when no batch, proof or reading is under way. */
  async idle(): Promise<void> {
    while (this.#busy > 0) await this.#idle.promise;
  }

  /** Breaks off what is under way, waits for it, and ends the threads. Open packs are thrown away. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#idleTimer?.cancel();
    await Promise.allSettled(this.#starting);
    await Promise.all([...this.#threads].map((thread) => thread[Symbol.asyncDispose]()));
    await Promise.all(this.#retiring);
    await this.idle();
    // One that was still being started for a task.
    await Promise.all([...this.#threads].map((thread) => thread[Symbol.asyncDispose]()));
  }

  async #withThread<T>(signal: AbortSignal, work: (thread: WorkerThread) => Promise<T>): Promise<T> {
    if (this.#busy === 0) this.#idle = deferred<undefined>();
    this.#idleTimer?.cancel();
    this.#busy += 1;
    try {
      return await this.#slots.run(async () => {
        this.#assertOpen();
        const thread = await this.#choose((chosen) => this.#note(chosen, 1));
        try {
          this.#assertOpen(); // starting one takes a while
          return await work(thread);
        } finally {
          this.#note(thread, -1);
        }
      }, signal);
    } finally {
      this.#busy -= 1;
      if (this.#busy === 0) {
        this.#idle.resolve(undefined);
        this.#awaitIdleness();
      }
    }
  }

  /**
   * The thread for a piece of work, which `count` notes before another can be chosen: an idle one, a new one where there
   * may be more, or the least busy; `from` has work for others, and does it itself only when there are none. While one is
   * being started nothing is put behind the long task of another.
   */
  async #choose(count: (thread: WorkerThread) => void, from?: WorkerThread): Promise<WorkerThread> {
    for (;;) {
      this.#assertOpen();
      const thread = this.#leastBusy(from) ?? from;
      const isIdle = thread?.load === 0;
      const isStarting = this.#starting.size > 0;
      if (!isIdle && (thread === undefined ? !isStarting : this.#mayStart())) await this.#startAnother();
      else if (!isIdle && isStarting) await this.#untilStarted();
      else if (thread !== undefined) {
        count(thread);
        return thread;
      }
    }
  }

  #mayStart(): boolean {
    return this.#threads.size + this.#starting.size < this.workers && this.#clock.monotonicMs() >= this.#startNextMs;
  }

  /** Starts one more thread, unless the system has no room for it. Throws LIMIT_REACHED when there is no other either. */
  async #startAnother(): Promise<void> {
    try {
      await this.#startThread();
    } catch (error) {
      const reason = messageOf(error);
      if (this.#threads.size === 0 && this.#starting.size === 0) throw noThread(reason, error);
      const nowMs = this.#clock.monotonicMs();
      if (nowMs < this.#startNextMs) return; // another that was tried at the same time
      this.#startNextMs = nowMs + START_PAUSE_MS;
      this.#options.observer.log.warn("workers.not_started", { reason, workers: this.#threads.size });
    }
  }

  /** Until one more thread is there, or one has done its task. */
  async #untilStarted(): Promise<void> {
    await Promise.race([...this.#starting, this.#freed.promise]).catch(() => undefined); // whoever started it hears why
  }

  /** Counts a task that a thread is given or has done. */
  #note(thread: WorkerThread, tasks: 1 | -1): void {
    thread.load += tasks;
    this.#noteSpare();
    if (tasks < 0) {
      this.#freed.resolve(undefined);
      this.#freed = deferred<undefined>();
    }
  }

  #noteSpare(): void {
    const busy = [...this.#threads].filter(({ load }) => load > 0).length;
    Atomics.store(this.#spare, 0, this.workers - busy);
  }

  /** Has a chunk that a thread offers sealed by another. */
  #takeOffer(from: WorkerThread, request: SealRequest): void {
    const job = this.#jobs.get(request.job);
    if (job === undefined || job.failed.aborted) {
      from.endOffer(); // nobody needs it any more
      return;
    }
    job.note(this.#sealElsewhere(from, request, job).finally(() => from.endOffer()));
  }

  async #sealElsewhere(from: WorkerThread, request: SealRequest, job: PackJob): Promise<void> {
    const thread = await this.#choose((chosen) => (chosen.seals += 1), from);
    try {
      job.failed.throwIfAborted(); // starting one takes a while
      thread.jobs.add(request.job);
      await thread.run({ kind: "seal", request }, NEVER);
    } finally {
      thread.seals -= 1;
    }
  }

  #leastBusy(except: WorkerThread | undefined): WorkerThread | undefined {
    let least: WorkerThread | undefined;
    for (const thread of this.#threads)
      if (thread !== except && (least === undefined || isLessBusy(thread, least))) least = thread;
    return least;
  }

  #awaitIdleness(): void {
    this.#idleTimer?.cancel();
    if (this.#ended) return;
    this.#idleTimer = this.#clock.after(THREAD_IDLE_MS, () => this.#retireIdle());
  }

  /** Ends the threads that hold no open pack; their memory goes back to the system. */
  #retireIdle(): void {
    if (this.#busy > 0) return;
    for (const thread of [...this.#threads]) {
      if (thread.jobs.size > 0) continue;
      this.#threads.delete(thread);
      const ending = thread[Symbol.asyncDispose]().finally(() => this.#retiring.delete(ending));
      this.#retiring.add(ending);
    }
    // A job that still holds a pack ends by a task of its own, which does not pass here.
    if (this.#threads.size > 0) this.#awaitIdleness();
  }

  async #startThread(): Promise<void> {
    const { keys, storeUrl, stagingFolder, io = systemIo, startThread = WorkerThread.start } = this.#options;
    const birth = { keys, storeUrl, stagingFolder, spare: this.#spare.buffer };
    const listener: ThreadListener = {
      onDeath: (dead, reason) => this.#bury(dead, reason),
      onOffer: (from, request) => this.#takeOffer(from, request),
    };
    const starting = io === systemIo ? startThread(birth, listener) : WorkerThread.beside(birth, io, listener);
    this.#starting.add(starting);
    try {
      const thread = await starting;
      if (!thread.alive) throw died("it ended as soon as it had begun");
      this.#threads.add(thread);
    } finally {
      this.#starting.delete(starting);
    }
  }

  #bury(dead: WorkerThread, reason: string): void {
    if (!this.#threads.delete(dead)) return; // it was told to end
    for (const job of dead.jobs) this.#jobs.get(job)?.fail(died(reason)); // a part of its packs is lost
    if (!this.#ended) this.#options.observer.log.error("workers.died", { reason });
  }

  #assertOpen(): void {
    if (this.#ended) throw new HoldfastError("INTERRUPTED", "the workers are being stopped");
  }
}

const NEVER = new AbortController().signal;

function noThread(reason: string, cause: unknown): HoldfastError {
  return new HoldfastError("LIMIT_REACHED", `no worker thread can be started: ${reason}`, {
    hint: "See what limits the threads and the memory of the daemon: `systemctl show -p TasksMax,MemoryMax holdfast`, `ulimit -u`.",
    cause,
  });
}

function isLessBusy(one: WorkerThread, other: WorkerThread): boolean {
  return one.load === other.load ? one.seals < other.seals : one.load < other.load;
}

function resultOf(paths: readonly BytePath[], answer: IngestAnswer): IngestResult {
  const { packs, immutable, readBytes, heads, packed, failures } = answer;
  const states = unpackBytes(answer.states);
  const outcomes = paths.map((path, index): FileOutcome => {
    const unstamped = states[index];
    const failure = failures.get(index);
    if (unstamped !== undefined) return { kind: "read", path, unstamped };
    if (failure !== undefined) return failure;
    throw new HoldfastError("INTERNAL", "a worker left a path out");
  });
  const bytes = unpackBytes(packed);
  const records = heads.map((head, index): SealedRecord => ({ ...head, bytes: bytes[index] ?? Buffer.alloc(0) }));
  return { outcomes, records, packs, immutable, readBytes };
}
