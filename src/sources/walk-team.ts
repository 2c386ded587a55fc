/**
 * Threads that walk the stretches of a tree side by side. What they find comes out in the order of the stretches, as one
 * walk would give it; a thread that is ahead of the reader waits when enough lies ready.
 */
import { Worker } from "node:worker_threads";
import { HoldfastError } from "../base/errors.js";
import type { WalkStretch } from "./walk-tree.js";
import type { WalkAnswer, WalkOrder, WalkRequest } from "./walk-worker.js";

/** Batches that lie ready of the stretch that is being read. */
const READY_MAX = 2;
/** Batches that lie ready altogether before the threads of later stretches wait: some 5 MB with 2,048 entries each. */
const READY_ALTOGETHER_MAX = 16;
/** Young heap of a walking thread: a stat lives for a moment, and V8's own choice of 48 MiB would be touched in full. */
const YOUNG_HEAP_MIB = 6;

/** A stretch on its way. */
interface Way<Part> {
  readonly stretch: WalkStretch;
  readonly ready: Part[];
  isEnded: boolean;
}

/** A thread and what it walks. */
interface Walker<Part> {
  readonly worker: Worker;
  way: Way<Part> | undefined;
  /** True from a request to its answer. */
  isAsked: boolean;
}

export interface WalkTeamOptions extends WalkOrder {
  /** In the order in which they are read. */
  readonly stretches: readonly WalkStretch[];
  /** Threads at most; no more than stretches are started. */
  readonly walkers: number;
}

/** `Part`: what is told by order. */
export class WalkTeam<Part extends WalkAnswer> implements AsyncDisposable {
  readonly #signal: AbortSignal;
  readonly #walkers: readonly Walker<Part>[];
  /** Those not read to their end, in order. */
  readonly #ways: Way<Part>[];
  /** Those that no walker has begun, in order. */
  readonly #waiting: Way<Part>[];
  #failure: Error | undefined;
  #isClosed = false;
  #wake: (() => void) | undefined;
  readonly #abort = (): void => this.#fail(this.#signal.reason);

  constructor({ stretches, walkers, ...order }: WalkTeamOptions, signal: AbortSignal) {
    this.#signal = signal;
    this.#ways = stretches.map((stretch) => ({ stretch, ready: [], isEnded: false }));
    this.#waiting = [...this.#ways];
    this.#walkers = stretches.slice(0, Math.max(1, walkers)).map(() => this.#start(order));
    signal.addEventListener("abort", this.#abort, { once: true });
    this.#askAll();
  }

  /** The next batch; undefined at the end. Throws the signal's reason, and INTERNAL when a thread ended. */
  async next(): Promise<Part | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const way = this.#ways[0];
      if (way === undefined) return undefined;
      const batch = way.ready.shift();
      if (batch === undefined && way.isEnded) this.#ways.shift();
      this.#askAll();
      if (batch !== undefined) return batch;
      if (!way.isEnded) await new Promise<void>((resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#signal.removeEventListener("abort", this.#abort);
    await Promise.all(this.#walkers.map(({ worker }) => worker.terminate()));
  }

  #start(order: WalkOrder): Walker<Part> {
    const worker = new Worker(new URL("./walk-worker.js", import.meta.url), {
      workerData: order,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_HEAP_MIB },
    });
    const walker: Walker<Part> = { worker, way: undefined, isAsked: false };
    worker.on("message", (answer: Part) => this.#take(walker, answer));
    worker.on("error", (error) => this.#fail(error));
    worker.on("exit", () => this.#fail(new HoldfastError("INTERNAL", "the walking worker ended")));
    return walker;
  }

  #take(walker: Walker<Part>, answer: Part): void {
    walker.isAsked = false;
    const { way } = walker;
    if (way === undefined) return;
    if (answer.count > 0) way.ready.push(answer);
    else {
      way.isEnded = true;
      walker.way = undefined;
    }
    this.#ask(walker);
    this.#wake?.();
  }

  #askAll(): void {
    for (const walker of this.#walkers) this.#ask(walker);
  }

  /** Gives a walker that has nothing to do its next request, unless enough lies ready. */
  #ask(walker: Walker<Part>): void {
    if (this.#isClosed || walker.isAsked || !this.#hasRoom(walker.way)) return;
    const begun = walker.way;
    walker.way ??= this.#waiting.shift();
    if (walker.way === undefined) return;
    walker.isAsked = true;
    walker.worker.postMessage((begun === undefined ? walker.way.stretch : "next") satisfies WalkRequest);
  }

  #hasRoom(way: Way<Part> | undefined): boolean {
    const current = this.#ways[0];
    if (current !== undefined && (way ?? this.#waiting[0]) === current) return current.ready.length < READY_MAX;
    const ready = this.#ways.reduce((sum, each) => sum + each.ready.length, 0);
    return ready < READY_ALTOGETHER_MAX;
  }

  #fail(reason: unknown): void {
    if (this.#isClosed) return;
    this.#failure ??= reason instanceof Error ? reason : new HoldfastError("INTERRUPTED", "the walk was interrupted");
    this.#wake?.();
  }
}
