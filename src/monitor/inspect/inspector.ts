/**
 * Asks the inspecting worker, one job after another, with a limit on time and memory: a job that breaks one ends the
 * thread, counts as "could not be checked", and the next job gets a new thread. The thread ends when it is idle.
 */
import { Worker } from "node:worker_threads";
import type { Clock, Timer } from "../../base/clock.js";
import { Mutex, deferred } from "../../base/concurrency.js";
import { HoldfastError } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import type { ContentCheck } from "../validators/build.js";
import type { ContentPart, Digest, InspectAnswer, InspectJob, Inspection, PairVerdict } from "./jobs.js";

export type InspectOutcome<T> =
  | { readonly outcome: "done"; readonly value: T }
  /** The system's error name of the read. */
  | { readonly outcome: "unreadable"; readonly errno: string }
  | { readonly outcome: "too_much"; readonly detail: string };

type Digests = readonly (Digest | undefined)[];

/** Old-generation heap of the thread; content is held outside of it. */
const HEAP_MIB_MAX = 512;
const IDLE_END_MS = 30_000;
/** A digest may take long; this is only a guard against a stuck device. */
const DIGEST_TIMEOUT_MS = 3_600_000;

export class Inspector implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #turn = new Mutex();
  #worker: Worker | undefined;
  #idle: Timer | undefined;
  #nextId = 1;
  #closed = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The ends of a file and the verdict of the checks on it. */
  async inspect(
    path: BytePath,
    checks: readonly ContentCheck[],
    limits: { readonly timeoutMs: number; readonly sizeBytesMax: number },
    signal: AbortSignal,
  ): Promise<InspectOutcome<Inspection>> {
    const job: InspectJob = { kind: "inspect", path, checks, sizeBytesMax: limits.sizeBytesMax };
    return await this.#ask(job, limits.timeoutMs, signal, (answer) =>
      "inspection" in answer ? answer.inspection : undefined,
    );
  }

  /** SHA-256 of a file, or of a part of its content, with the stat before and after. */
  async digest(path: BytePath, signal: AbortSignal, part?: ContentPart): Promise<InspectOutcome<Digest>> {
    return await this.#ask({ kind: "digest", path, part }, DIGEST_TIMEOUT_MS, signal, (answer) =>
      "digest" in answer ? answer.digest : undefined,
    );
  }

  /** The same of many files, whole, in one turn; undefined for those that cannot be read or are larger. */
  async digests(
    paths: readonly BytePath[],
    sizeBytesMax: number,
    signal: AbortSignal,
  ): Promise<InspectOutcome<Digests>> {
    return await this.#ask({ kind: "digests", paths, sizeBytesMax }, DIGEST_TIMEOUT_MS, signal, (answer) =>
      "digests" in answer ? answer.digests : undefined,
    );
  }

  /** Values of fields of the documents of a file, as digests; none of what cannot be read as documents. */
  async fields(
    path: BytePath,
    fields: readonly string[],
    limits: { readonly timeoutMs: number; readonly sizeBytesMax: number },
    signal: AbortSignal,
  ): Promise<InspectOutcome<readonly string[]>> {
    const job: InspectJob = { kind: "fields", path, fields, sizeBytesMax: limits.sizeBytesMax };
    return await this.#ask(job, limits.timeoutMs, signal, (answer) => ("values" in answer ? answer.values : undefined));
  }

  /** Whether content looks encrypted or destroyed beside the version before it; see `PairVerdict`. */
  async comparePair(
    pair: { readonly path: BytePath; readonly oldPath?: BytePath | undefined },
    limits: { readonly timeoutMs: number; readonly sizeBytesMax: number },
    signal: AbortSignal,
  ): Promise<InspectOutcome<PairVerdict>> {
    const job: InspectJob = { kind: "pair", ...pair, sizeBytesMax: limits.sizeBytesMax };
    return await this.#ask(job, limits.timeoutMs, signal, (answer) => ("pair" in answer ? answer.pair : undefined));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#end();
  }

  async #ask<T>(
    job: InspectJob,
    timeoutMs: number,
    signal: AbortSignal,
    take: (answer: InspectAnswer) => T | undefined,
  ): Promise<InspectOutcome<T>> {
    return await this.#turn.run(async () => {
      signal.throwIfAborted();
      if (this.#closed) throw new HoldfastError("INTERRUPTED", "the monitor is closed");
      this.#idle?.cancel();
      const answer = await this.#exchange(job, timeoutMs, signal);
      this.#idle = this.#clock.after(IDLE_END_MS, () => void this.#turn.run(() => this.#end()));
      if (typeof answer === "string") return { outcome: "too_much", detail: answer };
      const value = take(answer);
      if (value !== undefined) return { outcome: "done", value };
      return { outcome: "unreadable", errno: "errno" in answer ? answer.errno : "EIO" };
    }, signal);
  }

  /** The answer, or why there is none; then the thread has ended. */
  async #exchange(job: InspectJob, timeoutMs: number, signal: AbortSignal): Promise<InspectAnswer | string> {
    const worker = (this.#worker ??= startWorker());
    const id = this.#nextId++;
    const { promise, resolve, reject } = deferred<InspectAnswer | string>();
    const onMessage = (answer: InspectAnswer): void => {
      if (answer.id === id) resolve(answer);
    };
    const onError = (error: Error): void => resolve(`the check failed (${error.name})`);
    const onExit = (): void => resolve("the check ended its thread");
    const onAbort = (): void => reject(new HoldfastError("INTERRUPTED", "the check was interrupted"));
    worker.on("message", onMessage).on("error", onError).on("exit", onExit);
    signal.addEventListener("abort", onAbort, { once: true });
    const timer = this.#clock.after(timeoutMs, () => resolve(`the check took longer than ${String(timeoutMs)} ms`));
    worker.ref();
    worker.postMessage({ id, job });
    let isUsable = false;
    try {
      const answer = await promise;
      isUsable = typeof answer !== "string";
      return answer;
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
      worker.off("message", onMessage).off("error", onError).off("exit", onExit);
      worker.unref();
      if (!isUsable) await this.#end();
    }
  }

  async #end(): Promise<void> {
    this.#idle?.cancel();
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}

function startWorker(): Worker {
  const worker = new Worker(new URL("./worker.js", import.meta.url), {
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
  });
  worker.on("error", () => undefined); // what ends it between two jobs harms nobody
  worker.unref();
  return worker;
}
