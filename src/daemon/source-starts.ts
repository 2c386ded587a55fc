/**
 * How a source comes to be protected and how it stops: its series and its memory, what is gone already, its first
 * backup, the watch. Each source stands alone: one that fails keeps none of the others waiting, and is tried again.
 */
import type { Timer } from "../base/clock.js";
import { Mutex, deferred } from "../base/concurrency.js";
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import { pathText } from "../base/paths.js";
import { addSourceSeries, removeSourceSeries, updateSourceTargets } from "../telemetry/series.js";
import { acceptWhatIsGone } from "./gone-before.js";
import type { Parts } from "./parts.js";
import type { Plan } from "./plan.js";
import type { ProtectedSource } from "./protected-source.js";

/** A source that could not be watched is tried again after this long, then after twice as long each time, ms. */
const RETRY_MIN_MS = 15_000;
const RETRY_MAX_MS = 10 * 60_000;

interface Start {
  readonly isNew: Promise<boolean>;
  /** Its first backup is under way, or waits for its turn. */
  isFirst: boolean;
  /** Resolves when the source was looked at once, well or not. */
  readonly looked: Promise<unknown>;
  /** Ends its first backup when nobody wants the source any more. */
  readonly abort: AbortController;
}

export class SourceStarts implements Disposable {
  readonly #parts: Parts;
  readonly #plan: Plan;
  /** Why a source is not watched (yet), for people. */
  readonly #reasons = new Map<string, string>();
  readonly #starts = new Map<string, Start>();
  readonly #retries = new Map<string, Timer>();
  /** Files that the first backup of a source could not read, until somebody asks. */
  readonly #unreadable = new Map<string, number>();
  #isClosed = false;

  constructor(parts: Parts, plan: Plan) {
    this.#parts = parts;
    this.#plan = plan;
  }

  /** Why the monitor does not know a source. */
  reason(source: string): string | undefined {
    return this.#reasons.get(source);
  }

  /** How many files the first backup of a source could not read; told once, for afterwards the change queue knows. */
  takeUnreadable(source: string): number {
    const count = this.#unreadable.get(source) ?? 0;
    this.#unreadable.delete(source);
    return count;
  }

  /** Makes the source known: series, targets, memory of its backups. */
  async announce(source: ProtectedSource): Promise<void> {
    const { ground, backupJobs, queue, book } = this.#parts;
    const { metrics, clock } = ground;
    const { rpoMs, rtoMs } = source.configuration;
    const registeredAtMs = await book.registeredAt(source.name, clock.nowMs());
    const facts = { name: source.name, registeredAtMs, rpoMs, rtoMs };
    addSourceSeries(metrics, facts);
    updateSourceTargets(metrics, facts);
    this.#reasons.set(source.name, "starting");
    if (!ground.isDaemon) return;
    await backupJobs.watch({ name: source.name, maxAgeMs: rpoMs, pending: () => queue.pending(source.name) });
  }

  /** Stops watching; `willReturn`: it is started anew at once, so what is known of it stays. */
  async stop(source: ProtectedSource, willReturn: boolean): Promise<void> {
    const { monitor, ground, queue, backupJobs, bus } = this.#parts;
    this.#retries.get(source.name)?.cancel();
    this.#retries.delete(source.name);
    this.#starts
      .get(source.name)
      ?.abort.abort(new HoldfastError("INTERRUPTED", `${source.name} is no longer protected`));
    const isWatched = monitor.status().some(({ name }) => name === source.name);
    if (isWatched) await monitor.removeSource(source.name, { forget: !willReturn });
    else if (!willReturn) await monitor.registry.forgetSource(source.name); // its first backup is under way, or it failed
    queue.forget(source.name);
    backupJobs.unwatch(source.name);
    if (!willReturn) removeSourceSeries(ground.metrics, source.name);
    this.#reasons.delete(source.name);
    this.#unreadable.delete(source.name);
    this.#starts.delete(source.name);
    if (!willReturn) bus.emit("source.removed", { source: source.name, roots: source.folders });
  }

  /**
   * Brings sources up: those known already are watched at once, new ones one after another as soon as their first backup
   * is there. Resolves when all have been looked at; what fails is the source's reason, never an error.
   */
  async start(sources: readonly ProtectedSource[]): Promise<void> {
    const turns = new Mutex();
    await Promise.all(sources.map(async (source) => await this.#begin(source, turns)));
  }

  /**
   * Which of the sources a scheduled backup can be of: waits until each has been looked at, since before nobody knows
   * whether its storage is there; leaves out those whose first backup is under way, since that is one.
   */
  async backable(sources: readonly ProtectedSource[]): Promise<readonly string[]> {
    const names: string[] = [];
    for (const { name } of sources) {
      const start = this.#starts.get(name);
      const isBeingMade = start !== undefined && (await start.isNew) && start.isFirst;
      if (isBeingMade) continue;
      await start?.looked;
      names.push(name);
    }
    return names;
  }

  /** For a command that works alone: lets the monitor know the sources, so that it can scan and judge. */
  async watchAll(): Promise<void> {
    for (const source of this.#parts.book.all()) await this.#watch(source, undefined);
  }

  /** Records what went while nobody protected the source (`gone-before.ts`). */
  async acceptWhatIsGone(source: ProtectedSource): Promise<void> {
    await acceptWhatIsGone(this.#parts, source);
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const timer of this.#retries.values()) timer.cancel();
    this.#retries.clear();
  }

  async #begin(source: ProtectedSource, turns: Mutex): Promise<void> {
    const isNew = this.#isNew(source);
    const looked = deferred<undefined>();
    const start: Start = { isNew, isFirst: true, looked: looked.promise, abort: new AbortController() };
    this.#starts.set(source.name, start);
    if (await isNew) await turns.run(async () => await this.#firstBackup(source, start.abort.signal));
    start.isFirst = false;
    if (!start.abort.signal.aborted) await this.#watch(source, RETRY_MIN_MS);
    looked.resolve(undefined);
  }

  /** True when nothing of the source was ever stored: its first backup goes the fast way, straight into packs. */
  async #isNew(source: ProtectedSource): Promise<boolean> {
    try {
      for await (const _entry of this.#parts.repository.currentEntries(source.name)) return false;
      return true;
    } catch (error) {
      this.#failed(source, error); // the watch stores path by path, which is right for old and new alike
      return false;
    }
  }

  async #firstBackup(source: ProtectedSource, signal: AbortSignal): Promise<void> {
    const { name } = source;
    if (!this.#isWanted(source) || this.#parts.ground.signal.aborted) return;
    this.#reasons.set(name, "first backup");
    try {
      const request = { type: "full", sources: [name], tags: ["first"], compression: true } as const;
      const report = await this.#plan.backUpNow(request, signal);
      const unreadable = report?.sources.find(({ source: its }) => its === name)?.files_unreadable ?? 0;
      if (unreadable > 0) this.#unreadable.set(name, unreadable);
    } catch (error) {
      if (signal.aborted) return;
      // What could not be stored now is stored path by path once the source is watched.
      const { code, message } = asHoldfastError(error);
      this.#parts.ground.metrics.log.warn("backup.first_failed", { source: name, code, message });
    }
  }

  /** Never rejects; after a failure it is tried again in `retryMs` (undefined: not). */
  async #watch(source: ProtectedSource, retryMs: number | undefined): Promise<void> {
    const { monitor, ground, settings } = this.#parts;
    if (!this.#isWanted(source)) return;
    this.#reasons.set(source.name, "first look");
    try {
      await monitor.addSource(source.files, source.monitorSettings(settings.current.mass), ground.signal);
      this.#reasons.delete(source.name);
      const watched = { source: source.name, paths: source.folders.map(pathText) };
      ground.metrics.log.info("source.protected", watched);
    } catch (error) {
      if (ground.signal.aborted || !this.#isWanted(source)) return;
      this.#failed(source, error);
      if (retryMs !== undefined) this.#retry(source, retryMs);
    }
  }

  /** False when it was taken away, or taken anew, meanwhile. */
  #isWanted(source: ProtectedSource): boolean {
    return !this.#isClosed && this.#parts.book.find(source.name) === source;
  }

  #failed(source: ProtectedSource, error: unknown): void {
    const { code, message } = asHoldfastError(error);
    this.#reasons.set(source.name, `${message} (${code})`);
    this.#parts.ground.metrics.log.error("source.failed", { source: source.name, code, message });
  }

  #retry(source: ProtectedSource, waitMs: number): void {
    if (this.#isClosed) return;
    const timer = this.#parts.ground.clock.after(waitMs, () => {
      this.#retries.delete(source.name);
      void this.#watch(source, Math.min(waitMs * 2, RETRY_MAX_MS));
    });
    this.#retries.set(source.name, timer);
  }
}
