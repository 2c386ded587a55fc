/**
 * A job of the pool that writes packs: several threads have a part of them, so what fails anywhere fails all of it, once
 * and for one reason, and what is still under way is broken off.
 */
import type { FinishedPack } from "../pack/format.js";

export class PackJob {
  readonly #failure = new AbortController();
  /** Closed packs that the threads gave, as long as the job is not finished. */
  readonly packs: FinishedPack[] = [];
  /** Chunks of its batches that other threads seal than the one that reads the file. */
  readonly #seals = new Set<Promise<void>>();

  /** Aborted, with the reason, by the first part that fails. */
  get failed(): AbortSignal {
    return this.#failure.signal;
  }

  /** Only the first reason counts: what fails afterwards does so because of it. */
  fail(reason: unknown): void {
    this.#failure.abort(reason);
  }

  /** Does a part of the job. Rejects with the job's reason when it, or another part before, fails. */
  async guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      this.failed.throwIfAborted();
      return await work();
    } catch (error) {
      this.fail(error);
      throw this.failed.reason;
    }
  }

  /** Notes a chunk that is being sealed. */
  note(sealing: Promise<void>): void {
    this.#seals.add(sealing);
    sealing
      .catch((error: unknown) => this.fail(error))
      .finally(() => this.#seals.delete(sealing))
      .catch(() => undefined); // nothing is left that could reject
  }

  /** What a task gives, once the chunks that its thread offered are sealed. Rejects when the task or the job failed. */
  async untilSealed<T>(task: Promise<T>): Promise<T> {
    try {
      return await task;
    } finally {
      await Promise.allSettled(this.#seals);
      this.failed.throwIfAborted();
    }
  }
}
