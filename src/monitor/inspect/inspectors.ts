/**
 * A few inspecting threads, so that in a burst (many changes at once, or an attack) files are looked at beside each
 * other. In calm times one thread serves all.
 */
import { availableParallelism } from "node:os";
import type { Clock } from "../../base/clock.js";
import { Semaphore } from "../../base/concurrency.js";
import { Inspector } from "./inspector.js";

/** More would only take turns with the rest of the daemon. */
const THREADS_MAX = 2;

export class Inspectors implements AsyncDisposable {
  readonly #all: readonly Inspector[];
  /** The one used last is taken first, so that the others can end when there is little to do. */
  readonly #free: Inspector[];
  readonly #turns: Semaphore;

  constructor(clock: Clock) {
    const count = Math.min(THREADS_MAX, availableParallelism());
    this.#all = Array.from({ length: count }, () => new Inspector(clock));
    this.#free = [...this.#all];
    this.#turns = new Semaphore(count);
  }

  /** Runs `work` with a thread of its own, when one is free. */
  async use<T>(work: (inspector: Inspector) => Promise<T>, signal: AbortSignal): Promise<T> {
    return await this.#turns.run(async () => {
      const inspector = this.#free.pop() ?? this.#first;
      try {
        return await work(inspector);
      } finally {
        this.#free.push(inspector);
      }
    }, signal);
  }

  get #first(): Inspector {
    const [first] = this.#all;
    if (first === undefined) throw new Error("there is at least one thread");
    return first;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#all.map((inspector) => inspector[Symbol.asyncDispose]()));
  }
}
