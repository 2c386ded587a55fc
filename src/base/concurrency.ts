/** Small tools for doing things one after another or a few at a time. Every wait can be aborted; every queue has a limit. */
import { HoldfastError } from "./errors.js";

/** Lets at most `permits` callers in at once; others wait in order. */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(permits: number) {
    this.#free = permits;
  }

  /** Runs `work` when a permit is free; rejects with the abort reason if aborted while waiting. */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.#acquire(signal);
    try {
      return await work();
    } finally {
      this.#release();
    }
  }

  async #acquire(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const enter = (): void => {
        signal?.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(signal?.reason instanceof Error ? signal.reason : new HoldfastError("INTERRUPTED", "interrupted"));
      };
      this.#waiting.push(enter);
      signal?.addEventListener("abort", leave, { once: true });
    });
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

/** One at a time. */
export class Mutex extends Semaphore {
  constructor() {
    super(1);
  }
}

/** One at a time for each key; keys without work cost nothing. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: done, resolve } = deferred<void>();
    const tail = before.then(() => done);
    this.#tails.set(key, tail);
    await before;
    try {
      return await work();
    } finally {
      resolve();
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    }
  }

  /** Keys with work under way or waiting. */
  get size(): number {
    return this.#tails.size;
  }
}

export interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (reason: unknown) => void;
}

/** A promise with its handles outside. */
export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/** Does two things at once; the first failure aborts the other, which has ended when it is thrown. */
export async function alongside<A, B>(
  first: (signal: AbortSignal) => Promise<A>,
  second: (signal: AbortSignal) => Promise<B>,
  signal: AbortSignal,
): Promise<[A, B]> {
  const stop = new AbortController();
  const inner = AbortSignal.any([signal, stop.signal]);
  const aborting = async <T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    try {
      return await work(inner);
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  };
  const both = [aborting(first), aborting(second)] as const;
  await Promise.allSettled(both);
  if (stop.signal.aborted) throw stop.signal.reason;
  return await Promise.all(both);
}

/** Gives the items a slice at a time, each with what `read` gives for it; the next is read while one is worked on. */
export async function* readAhead<T, R>(
  items: readonly T[],
  sliceSize: number,
  read: (slice: readonly T[]) => Promise<R>,
): AsyncGenerator<{ readonly slice: readonly T[]; readonly values: R }> {
  const begin = (start: number): { readonly slice: readonly T[]; readonly reading: Promise<R> } | undefined => {
    if (start >= items.length) return undefined;
    const slice = items.slice(start, start + sliceSize);
    const reading = read(slice);
    reading.catch(() => undefined); // thrown when it is its turn; nobody may wait for it any more
    return { slice, reading };
  };
  let next = begin(0);
  for (let start = sliceSize; next !== undefined; start += sliceSize) {
    const { slice, reading } = next;
    const values = await reading;
    next = begin(start);
    yield { slice, values };
  }
}

/** Maps with at most `limit` at once, in input order; the first failure aborts the rest and is thrown. */
export async function mapLimited<T, R>(
  items: readonly T[],
  limit: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<R>,
): Promise<R[]> {
  const stop = new AbortController();
  const inner = AbortSignal.any([signal, stop.signal]);
  const results: R[] = [];
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      inner.throwIfAborted();
      results[index] = await work(items[index] as T, inner);
    }
  };
  const lanes = Array.from({ length: Math.min(limit, items.length) }, async () => {
    try {
      await lane();
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  });
  const outcomes = await Promise.allSettled(lanes);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed !== undefined) throw stop.signal.aborted ? stop.signal.reason : failed.reason;
  return results;
}
