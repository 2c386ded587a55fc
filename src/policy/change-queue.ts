/**
 * Flow A from the event to durability: changed and removed paths wait here, each once, until a commit has made them
 * durable. When nothing is under way a change is committed at once; while a commit runs, changes gather for the next.
 * A store in trouble loses nothing: the paths stay and are tried again; beyond the limit a source is looked at anew
 * as a whole when the store is well.
 */
import type { Clock, Timer } from "../base/clock.js";
import { type ErrorCode, HoldfastError, asHoldfastError } from "../base/errors.js";
import type { EventBus } from "../base/events.js";
import type { Counter, Histogram, Observer } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";

export interface PathChange {
  readonly path: BytePath;
  readonly kind: "upsert" | "remove";
}

/** What the queue needs to know of a commit. */
export interface Receipt {
  readonly stored: readonly { readonly path: BytePath }[];
  readonly unchanged: readonly { readonly path: BytePath }[];
  readonly removed: readonly BytePath[];
  readonly unreadable: readonly { readonly path: BytePath; readonly errno: string }[];
  readonly vanished: readonly BytePath[];
}

/** Priorities, most urgent first. */
export const PRIORITIES = ["critical", "high", "medium", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];

export interface ChangeQueueOptions<R extends Receipt> {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  /** The engine: durable when it resolves. Throws STORE_FULL, STORE_IO, STORE_READ_ONLY, INTERRUPTED. */
  readonly commit: (source: string, changes: readonly PathChange[], signal: AbortSignal) => Promise<R>;
  /** Told of each commit before the event `commit.durable`. */
  readonly onDurable: (source: string, receipt: R) => void;
  /** Too much changed to remember each path: the source must be compared as a whole. */
  readonly onOverflow: (source: string) => void;
  readonly priorityOf: (source: string) => Priority;
  /** The store took nothing: told at each failed commit; and told when it takes commits again. */
  readonly onStoreTrouble: (code: ErrorCode) => void;
  readonly onStoreWell: () => void;
}

/** What says that the store, not one path, is at fault. */
const STORE_TROUBLE: ReadonlySet<ErrorCode> = new Set(["STORE_FULL", "STORE_READ_ONLY", "STORE_IO"]);

/** Paths in one commit: at about 10 KB each a group stays below the write-ahead log's comfortable size. */
const BATCH_PATHS = 512;
/** Paths remembered per source, about 300 bytes each: 60 MB at worst. */
export const DIRTY_PATHS_MAX = 200_000;
const RETRY_FIRST_MS = 500;
const RETRY_LAST_MS = 30_000;
/** A path that cannot be read is tried again this often, then only when it changes. */
const UNREADABLE_TRIES = 5;
const UNREADABLE_RETRY_MS = 10_000;
const LAG_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300];

interface Dirty {
  readonly kind: PathChange["kind"];
  /** When the oldest change that is not durable was seen, wall ms. */
  readonly seenAtMs: number;
}

interface SourceQueue {
  readonly dirty: Map<BytePath, Dirty>;
  readonly tries: Map<BytePath, number>;
  overflowed: boolean;
}

export class ChangeQueue<R extends Receipt> implements AsyncDisposable {
  readonly #options: ChangeQueueOptions<R>;
  readonly #queues = new Map<string, SourceQueue>();
  readonly #stop = new AbortController();
  readonly #unsubscribe: readonly (() => void)[];
  readonly #timers = new Set<Timer>();
  readonly #lag: Histogram;
  readonly #committed: Counter<"source">;
  #running: Promise<void> | undefined;
  #retryMs = RETRY_FIRST_MS;
  #batchPaths = BATCH_PATHS;
  #isStoreBad = false;
  #commits = 0;

  constructor(options: ChangeQueueOptions<R>) {
    this.#options = options;
    this.#lag = options.observer.histogram({
      name: "holdfast_protect_lag_seconds",
      help: "From the moment a change was seen to its durability.",
      buckets: LAG_BUCKETS,
    });
    this.#committed = options.observer.counter({
      name: "holdfast_changes_committed_total",
      help: "Changes made durable between backups, by source.",
      labels: ["source"],
    });
    this.#unsubscribe = [
      options.bus.on("file.changed", ({ source, path, seenAtMs }) =>
        this.#note(source, path, { kind: "upsert", seenAtMs }),
      ),
      options.bus.on("file.removed", ({ source, path, seenAtMs }) =>
        this.#note(source, path, { kind: "remove", seenAtMs }),
      ),
    ];
  }

  /** Changes of a source that are not durable yet. */
  pending(source: string): number {
    return this.#queues.get(source)?.dirty.size ?? 0;
  }

  get pendingTotal(): number {
    let total = 0;
    for (const queue of this.#queues.values()) total += queue.dirty.size;
    return total;
  }

  /** Grows with each commit: proof of progress for the watchdog. */
  get commitCount(): number {
    return this.#commits;
  }

  /** The store's trouble, while it lasts. */
  get isStoreBad(): boolean {
    return this.#isStoreBad;
  }

  /** Forgets what waits for a source that is protected no longer. */
  forget(source: string): void {
    this.#queues.delete(source);
  }

  /** Resolves when everything noted so far is durable (or given up as unreadable). Rejects with the abort reason. */
  async drained(signal: AbortSignal): Promise<void> {
    while (this.pendingTotal > 0) {
      signal.throwIfAborted();
      this.#wake();
      await (this.#running ?? this.#options.clock.sleep(RETRY_FIRST_MS, signal));
    }
  }

  /** Stops after the commit under way; what waits is found again at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const stop of this.#unsubscribe) stop();
    for (const timer of this.#timers) timer.cancel();
    this.#stop.abort(new HoldfastError("INTERRUPTED", "the daemon is stopping"));
    await this.#running;
  }

  #note(source: string, path: BytePath, change: Dirty): void {
    const queue = this.#queueOf(source);
    if (queue.overflowed) return;
    const before = queue.dirty.get(path);
    if (before === undefined && queue.dirty.size >= DIRTY_PATHS_MAX) {
      queue.dirty.clear();
      queue.overflowed = true;
      this.#options.observer.log.warn("queue.overflow", { source, limit: DIRTY_PATHS_MAX });
      this.#wake();
      return;
    }
    queue.dirty.set(path, { kind: change.kind, seenAtMs: Math.min(before?.seenAtMs ?? Infinity, change.seenAtMs) });
    this.#wake();
  }

  #queueOf(source: string): SourceQueue {
    const queue = this.#queues.get(source) ?? { dirty: new Map(), tries: new Map(), overflowed: false };
    this.#queues.set(source, queue);
    return queue;
  }

  #wake(): void {
    if (this.#running !== undefined || this.#stop.signal.aborted) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // all events of this turn go into one commit
    for (let source = this.#next(); source !== undefined; source = this.#next()) {
      const { aborted } = this.#stop.signal;
      if (aborted || !(await this.#commitSafely(source))) return;
    }
  }

  /** False: a failure was noted, and the queue waits for its retry. */
  async #commitSafely(source: string): Promise<boolean> {
    try {
      await this.#commitOne(source);
      this.#retryMs = RETRY_FIRST_MS;
      this.#batchPaths = BATCH_PATHS;
      if (this.#isStoreBad) this.#options.onStoreWell();
      this.#isStoreBad = false;
      return true;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#onFailure(source, asHoldfastError(error));
      return false;
    }
  }

  /** The most urgent source with work; among equals the one whose queue was made first. */
  #next(): string | undefined {
    let best: string | undefined;
    let bestRank: number = PRIORITIES.length;
    for (const [source, queue] of this.#queues) {
      if (queue.dirty.size === 0 && !queue.overflowed) continue;
      const rank = PRIORITIES.indexOf(this.#options.priorityOf(source));
      if (rank < bestRank) [best, bestRank] = [source, rank];
    }
    return best;
  }

  async #commitOne(source: string): Promise<void> {
    const queue = this.#queueOf(source);
    if (queue.overflowed) {
      queue.overflowed = false;
      this.#options.onOverflow(source);
      return;
    }
    const batch = [...take(queue.dirty, this.#batchPaths)];
    for (const [path] of batch) queue.dirty.delete(path);
    try {
      const changes = batch.map(([path, dirty]) => ({ path, kind: dirty.kind }));
      const receipt = await this.#options.commit(source, changes, this.#stop.signal);
      this.#onCommitted(source, new Map(batch), receipt);
    } catch (error) {
      for (const [path, dirty] of batch) if (!queue.dirty.has(path)) queue.dirty.set(path, dirty);
      throw error;
    }
  }

  #onCommitted(source: string, batch: ReadonlyMap<BytePath, Dirty>, receipt: R): void {
    const { clock, bus, onDurable } = this.#options;
    this.#commits += 1;
    onDurable(source, receipt);
    const paths = [...receipt.stored.map((entry) => entry.path), ...receipt.removed];
    const nowMs = clock.nowMs();
    for (const path of paths) {
      this.#lag.observe(Math.max(0, nowMs - (batch.get(path)?.seenAtMs ?? nowMs)) / 1000);
      this.#queueOf(source).tries.delete(path);
    }
    this.#committed.add(paths.length, { source });
    this.#retryUnreadable(source, batch, receipt);
    if (paths.length === 0) return;
    const oldestSeenAtMs = Math.min(...paths.map((path) => batch.get(path)?.seenAtMs ?? nowMs));
    bus.emit("commit.durable", { source, paths, oldestSeenAtMs });
  }

  /** Permissions may be wrong for a moment (an installer, a slow chown): try again a few times, and say it once. */
  #retryUnreadable(source: string, batch: ReadonlyMap<BytePath, Dirty>, receipt: R): void {
    const queue = this.#queueOf(source);
    const again: [BytePath, Dirty][] = [];
    for (const { path, errno } of receipt.unreadable) {
      const tries = (queue.tries.get(path) ?? 0) + 1;
      const dirty = batch.get(path);
      if (tries === 1) this.#options.observer.log.warn("file.unreadable", { source, path, errno });
      if (tries > UNREADABLE_TRIES || dirty === undefined) {
        queue.tries.delete(path);
        continue;
      }
      queue.tries.set(path, tries);
      again.push([path, dirty]);
    }
    if (again.length > 0)
      this.#later(UNREADABLE_RETRY_MS, () => again.forEach(([path, dirty]) => this.#note(source, path, dirty)));
  }

  #onFailure(source: string, error: HoldfastError): void {
    const { observer, bus } = this.#options;
    observer.log.error("commit.failed", { source, code: error.code, message: error.message, retry_ms: this.#retryMs });
    if (STORE_TROUBLE.has(error.code)) this.#options.onStoreTrouble(error.code);
    else if (!this.#isStoreBad)
      bus.emit("backup.failed", { source: [source], code: error.code, message: error.message });
    this.#isStoreBad = true;
    // One path that cannot be committed must not hold up the others: smaller groups, each failed one to the end.
    this.#batchPaths = Math.max(1, Math.floor(this.#batchPaths / 8));
    this.#later(this.#retryMs, () => this.#wake());
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_LAST_MS);
  }

  #later(ms: number, work: () => void): void {
    const timer = this.#options.clock.after(ms, () => {
      this.#timers.delete(timer);
      work();
    });
    this.#timers.add(timer);
  }
}

function* take<K, V>(map: ReadonlyMap<K, V>, count: number): Iterable<[K, V]> {
  let left = count;
  for (const entry of map) {
    if (left-- <= 0) return;
    yield entry;
  }
}
