/** Looks through folders one after another; an order that a waiting one covers joins it. */
import type { Semaphore } from "../../base/concurrency.js";
import type { NoticedBy } from "../../base/events.js";
import { type BytePath, isWithin } from "../../base/paths.js";

export interface ReconcileOrder {
  readonly under: BytePath;
  /** A word from a small set, for the metric. */
  readonly reason: string;
  readonly noticedBy: NoticedBy;
}

interface Waiting {
  readonly order: ReconcileOrder;
  readonly done: Promise<void>;
  readonly finish: () => void;
}

export class ReconcileQueue {
  readonly #work: (order: ReconcileOrder) => Promise<void>;
  readonly #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #current: ReconcileOrder | undefined;
  readonly #turns: Semaphore;
  readonly #signal: AbortSignal;
  #stopped = false;

  /** `work` never rejects. `turns`: shared with other queues, so that only so many of all work at once. */
  constructor(work: (order: ReconcileOrder) => Promise<void>, turns: Semaphore, signal: AbortSignal) {
    this.#work = work;
    this.#turns = turns;
    this.#signal = signal;
  }

  get isBusy(): boolean {
    return this.#running !== undefined;
  }

  /** True while a look for such a reason is under way or waits. */
  isBusyWith(isMeant: (reason: string) => boolean): boolean {
    if (this.#current !== undefined && isMeant(this.#current.reason)) return true;
    return this.#waiting.some(({ order }) => isMeant(order.reason));
  }

  /** Resolves when the folder has been looked through, from now on. At most one waits for each root. */
  async add(order: ReconcileOrder): Promise<void> {
    if (this.#stopped) return;
    const covering = this.#waiting.find((waiting) => isWithin(order.under, waiting.order.under));
    if (covering !== undefined) {
      await covering.done;
      return;
    }
    let finish = (): void => undefined;
    const done = new Promise<void>((resolve) => (finish = resolve));
    this.#waiting.push({ order, done, finish });
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
    await done;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const waiting of this.#waiting.splice(0)) waiting.finish();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      const { order } = next;
      try {
        this.#current = order;
        await this.#turns.run(async () => await this.#work(order), this.#signal);
      } catch (error) {
        if (!this.#signal.aborted) throw error; // it waited for its turn and is wanted no more
      } finally {
        this.#current = undefined;
        next.finish();
      }
    }
  }
}
