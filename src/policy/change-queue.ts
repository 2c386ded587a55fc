/**
 * From "this path has changed" to "it is durable". Changes are noted per source and committed at once when the source
 * is idle; while a commit is under way they gather, so that a burst becomes few large commits. When the store cannot be
 * written the changes stay noted (bounded: see `dirty-set.ts`) and it is tried again until it works. A path that cannot
 * be read is tried again later and reported once.
 */
import type { Clock, Timer } from "../base/clock.js";
import { type ErrorCode, HoldfastError, asHoldfastError } from "../base/errors.js";
import type { EventBus } from "../base/events.js";
import type { Observer } from "../base/observe.js";
import { type BytePath, pathFields } from "../base/paths.js";
import type { PathChange } from "../engine/repository-types.js";
import type { UnreadablePath } from "../engine/types.js";
import { DirtySet, type DirtyPath } from "./dirty-set.js";

/** Paths that one source may have waiting; at some 300 bytes each these are 30 MB. */
export const PENDING_PATHS_MAX = 100_000;
/** Sources that commit at the same time. */
const COMMITS_MAX = 2;
/** Waits after failed commits; the last one stays. */
const RETRY_MS: readonly number[] = [1000, 2000, 5000, 10_000, 30_000];
/** Waits before an unreadable path is tried again; the last one stays. */
const UNREADABLE_RETRY_MS: readonly number[] = [5000, 30_000, 120_000, 600_000, 3_600_000];
/** Unreadable paths of one source that are followed one by one; others wait for the next sweep. */
const UNREADABLE_MAX = 5000;
const UNREADABLE_LOOK_MS = 5000;

const STORE_FAILURES: ReadonlySet<ErrorCode> = new Set(["STORE_FULL", "STORE_IO", "STORE_READ_ONLY"]);

export const PRIORITIES = ["critical", "high", "medium", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];

/** What the queue must know of a commit's receipt. */
export interface QueueReceipt {
  readonly unreadable: readonly UnreadablePath[];
}

/** Told when writing to the store begins to fail and when it works again. */
export interface StoreHealth {
  noteWriteFailed(code: string): void;
  noteWriteWorks(): void;
}

export interface ChangeQueueOptions<R extends QueueReceipt> {
  readonly clock: Clock;
  readonly bus: EventBus;
  readonly observer: Observer;
  /** Makes the changes durable; resolves only then. The same change twice does no harm. */
  commit(source: string, changes: readonly PathChange[], signal: AbortSignal): Promise<R>;
  /** Called before `commit.durable` is emitted. */
  onDurable(source: string, receipt: R): void | Promise<void>;
  /** More changes than can be noted: the source must be looked through anew. */
  onOverflow(source: string): void;
  priorityOf(source: string): Priority;
  /** Usually the `SpaceWatch`; without one the queue emits `store.full` and `store.roomy` by itself. */
  readonly space?: StoreHealth;
  /** Paths that one source remembers one by one; default `PENDING_PATHS_MAX`. */
  readonly pathsMax?: number;
}

interface SourceState {
  readonly dirty: DirtySet;
  readonly unreadable: Map<BytePath, { readonly errno: string; attempts: number; retryMs: number }>;
  inFlight: number;
  failures: number;
  /** Not before, steady ms. */
  notBeforeMs: number;
}

export class ChangeQueue<R extends QueueReceipt> implements AsyncDisposable {
  readonly #options: ChangeQueueOptions<R>;
  readonly #sources = new Map<string, SourceState>();
  readonly #stop = new AbortController();
  readonly #commits = new Set<Promise<void>>();
  readonly #unsubscribe: readonly (() => void)[];
  readonly #unreadableTimer: Timer;
  readonly #lag;
  readonly #failed;
  #retryTimer: Timer | undefined;
  #idleWaiters: (() => void)[] = [];
  #commitCount = 0;
  #storeFailures = 0;
  /** Nobody commits before, steady ms: the store is one for all sources. */
  #storeClosedUntilMs = 0;

  constructor(options: ChangeQueueOptions<R>) {
    this.#options = options;
    const { bus, clock, observer } = options;
    this.#lag = observer.histogram({
      name: "holdfast_protect_lag_seconds",
      help: "Time from a change being seen to its being durable.",
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800],
    });
    this.#failed = observer.counter({
      name: "holdfast_commit_failures_total",
      help: "Commits that failed and are tried again, by error code.",
      labels: ["code"],
    });
    for (const code of STORE_FAILURES) this.#failed.add(0, { code });
    this.#unsubscribe = [
      bus.on("file.changed", ({ source, path, seenAtMs }) => this.note(source, { path, kind: "upsert" }, seenAtMs)),
      bus.on("file.removed", ({ source, path, seenAtMs }) => this.note(source, { path, kind: "remove" }, seenAtMs)),
    ];
    this.#unreadableTimer = clock.every(UNREADABLE_LOOK_MS, () => this.#retryUnreadable());
  }

  /** Notes a change; it is committed as soon as possible. `seenAtMs`: wall ms when it was first seen. */
  note(source: string, change: PathChange, seenAtMs: number): void {
    if (this.#stop.signal.aborted) return;
    this.#state(source).dirty.note(change.path, { kind: change.kind, seenAtMs });
    this.#pump();
  }

  /** Changes of a source that are noted or being committed. */
  pending(source: string): number {
    const state = this.#sources.get(source);
    return state === undefined ? 0 : state.dirty.size + state.inFlight;
  }

  /** The same over all sources. */
  get pendingTotal(): number {
    return [...this.#sources.keys()].reduce((sum, source) => sum + this.pending(source), 0);
  }

  /** Commits that have ended, well or not: shows a watchdog that work advances. */
  get commitCount(): number {
    return this.#commitCount;
  }

  /** Paths of a source that could not be read at the last try. */
  unreadable(source: string): readonly UnreadablePath[] {
    return [...(this.#sources.get(source)?.unreadable ?? [])].map(([path, { errno }]) => ({ path, errno }));
  }

  /** True while the store cannot be written. */
  get isStoreBad(): boolean {
    return this.#storeFailures > 0;
  }

  /** Forgets what is noted of a source that is no longer protected; a commit under way ends. */
  forget(source: string): void {
    this.#sources.delete(source);
    this.#tellIdle();
  }

  /** Resolves when nothing is noted or under way; rejects when aborted or when the queue closes. */
  async drained(signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, this.#stop.signal]);
    while (!this.#isIdle()) {
      either.throwIfAborted();
      await new Promise<void>((resolve) => {
        either.addEventListener("abort", () => resolve(), { once: true });
        this.#idleWaiters.push(resolve);
      });
    }
  }

  /** Takes no more changes and waits for the commits under way; what is only noted is found again at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#unsubscribe) stop();
    this.#unreadableTimer.cancel();
    this.#retryTimer?.cancel();
    this.#stop.abort(new HoldfastError("INTERRUPTED", "holdfast is stopping"));
    while (this.#commits.size > 0) await Promise.all(this.#commits);
    this.#tellIdle();
  }

  #state(source: string): SourceState {
    const known = this.#sources.get(source);
    if (known !== undefined) return known;
    const dirty = new DirtySet(this.#options.pathsMax ?? PENDING_PATHS_MAX);
    const state = { dirty, unreadable: new Map(), inFlight: 0, failures: 0, notBeforeMs: 0 };
    this.#sources.set(source, state);
    return state;
  }

  /** Starts commits of the most important sources that have something to do and may. */
  #pump(): void {
    if (this.#stop.signal.aborted) return;
    const now = this.#options.clock.monotonicMs();
    // While the store is bad one commit at a time finds out whether it works again.
    const limit = this.isStoreBad ? 1 : COMMITS_MAX;
    if (this.#commits.size < limit && this.#storeClosedUntilMs <= now) {
      const ready = [...this.#sources].filter(
        ([, state]) => state.inFlight === 0 && state.dirty.size > 0 && state.notBeforeMs <= now,
      );
      ready.sort(([a], [b]) => this.#rank(a) - this.#rank(b));
      for (const [source, state] of ready.slice(0, limit - this.#commits.size)) this.#start(source, state);
    }
    this.#planRetry(now);
  }

  #rank(source: string): number {
    return PRIORITIES.indexOf(this.#options.priorityOf(source));
  }

  #start(source: string, state: SourceState): void {
    const batch = state.dirty.take();
    state.inFlight = batch.size;
    const commit = this.#commit(source, state, batch).finally(() => {
      state.inFlight = 0;
      this.#commitCount += 1;
      this.#commits.delete(commit);
      this.#pump();
      this.#tellIdle();
    });
    this.#commits.add(commit);
  }

  /** Never throws. */
  async #commit(source: string, state: SourceState, batch: Map<BytePath, DirtyPath>): Promise<void> {
    const changes = [...batch].map(([path, { kind }]) => ({ path, kind }));
    try {
      const receipt = await this.#options.commit(source, changes, this.#stop.signal);
      this.#storeWorks();
      state.failures = 0;
      await this.#durable(source, state, batch, receipt);
    } catch (error) {
      state.dirty.giveBack(batch);
      if (!this.#stop.signal.aborted) this.#failedCommit(source, state, asHoldfastError(error));
    }
  }

  async #durable(source: string, state: SourceState, batch: Map<BytePath, DirtyPath>, receipt: R): Promise<void> {
    const { clock, bus, observer } = this.#options;
    const unreadable = new Set(receipt.unreadable.map(({ path }) => path));
    this.#noteUnreadable(source, state, receipt.unreadable);
    const durable = [...batch].filter(([path]) => !unreadable.has(path));
    for (const [path, { seenAtMs }] of durable) {
      state.unreadable.delete(path);
      this.#lag.observe(Math.max(0, clock.nowMs() - seenAtMs) / 1000);
    }
    try {
      await this.#options.onDurable(source, receipt);
    } catch (error) {
      // It is durable; that somebody could not take note of it must not store it again and again.
      observer.log.error("commit.not_noted", { source, error });
    }
    if (durable.length > 0) {
      const oldestSeenAtMs = durable.reduce((oldest, [, { seenAtMs }]) => Math.min(oldest, seenAtMs), Infinity);
      bus.emit("commit.durable", { source, paths: durable.map(([path]) => path), oldestSeenAtMs });
    }
    if (state.dirty.size === 0 && state.dirty.needsReconcile) {
      state.dirty.reconciled();
      observer.log.warn("changes.overflow", { source });
      this.#options.onOverflow(source);
    }
  }

  #failedCommit(source: string, state: SourceState, error: HoldfastError): void {
    const { clock, observer } = this.#options;
    this.#failed.add(1, { code: error.code });
    const isStore = STORE_FAILURES.has(error.code);
    const failures = isStore ? this.#storeFailures : state.failures;
    const waitMs = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 30_000;
    if (isStore) {
      this.#storeFailures += 1;
      this.#storeClosedUntilMs = clock.monotonicMs() + waitMs;
      if (failures === 0) this.#tellStoreFailed(error.code);
    } else {
      state.failures += 1;
      state.notBeforeMs = clock.monotonicMs() + waitMs;
    }
    if (failures === 0) observer.log.error("commit.failed", { source, error, pending: state.dirty.size });
    else observer.log.debug("commit.failed_again", { source, code: error.code, failures });
  }

  #tellStoreFailed(code: ErrorCode): void {
    const { space, bus } = this.#options;
    if (space !== undefined) space.noteWriteFailed(code);
    else bus.emit("store.full", { usedShare: 1, freeBytes: 0, writeFailed: true, code });
  }

  #storeWorks(): void {
    if (this.#storeFailures === 0) return;
    this.#storeFailures = 0;
    this.#storeClosedUntilMs = 0;
    this.#options.observer.log.info("commit.works_again", {});
    if (this.#options.space !== undefined) this.#options.space.noteWriteWorks();
    else this.#options.bus.emit("store.roomy", { usedShare: 0, freeBytes: 0 });
  }

  #noteUnreadable(source: string, state: SourceState, unreadable: readonly UnreadablePath[]): void {
    const { clock, observer } = this.#options;
    for (const { path, errno } of unreadable) {
      const known = state.unreadable.get(path);
      if (known === undefined && state.unreadable.size >= UNREADABLE_MAX) continue;
      if (known?.errno !== errno) observer.log.warn("file.unreadable", { source, ...pathFields(path), errno });
      const attempts = (known?.attempts ?? 0) + 1;
      const waitMs = UNREADABLE_RETRY_MS[Math.min(attempts - 1, UNREADABLE_RETRY_MS.length - 1)] ?? 3_600_000;
      state.unreadable.set(path, { errno, attempts, retryMs: clock.monotonicMs() + waitMs });
    }
  }

  #retryUnreadable(): void {
    const { clock } = this.#options;
    for (const [source, state] of this.#sources) {
      for (const [path, entry] of state.unreadable) {
        if (entry.retryMs > clock.monotonicMs()) continue;
        entry.retryMs = Infinity; // until the next receipt says more
        this.note(source, { path, kind: "upsert" }, clock.nowMs());
      }
    }
  }

  #planRetry(now: number): void {
    this.#retryTimer?.cancel();
    this.#retryTimer = undefined;
    const waiting = [...this.#sources.values()].filter((state) => state.inFlight === 0 && state.dirty.size > 0);
    const times = waiting
      .map((state) => Math.max(state.notBeforeMs, this.#storeClosedUntilMs))
      .filter((ms) => ms > now);
    if (times.length > 0) this.#retryTimer = this.#options.clock.after(Math.min(...times) - now, () => this.#pump());
  }

  #isIdle(): boolean {
    return this.#commits.size === 0 && [...this.#sources.values()].every(({ dirty }) => dirty.size === 0);
  }

  #tellIdle(): void {
    if (!this.#isIdle() && !this.#stop.signal.aborted) return;
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const wake of waiters) wake();
  }
}
