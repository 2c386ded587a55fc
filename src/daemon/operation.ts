/**
 * The parts at work: sources are backed up for the first time, watched, added and taken away; healing listens; the
 * plan runs. A command that works alone uses the same object without starting it.
 */
import { lstatSync } from "node:fs";
import { HoldfastError, asHoldfastError, errnoOf } from "../base/errors.js";
import { type BytePath, isWithin, pathBytes, pathText } from "../base/paths.js";
import type { Configuration, OnDelete } from "../config/configuration.js";
import type { PathChange } from "../engine/repository-types.js";
import { addSourceSeries, removeSourceSeries, updateSourceTargets } from "../telemetry/series.js";
import { Freshness } from "./freshness.js";
import type { Parts } from "./parts.js";
import type { Plan } from "./plan.js";
import type { ProtectedSource } from "./protected-source.js";

/** Removals given to one commit. */
const REMOVALS_AT_ONCE = 10_000;

export class Operation {
  readonly freshness: Freshness;
  readonly #parts: Parts;
  readonly #plan: Plan;
  /** Why a source is not watched (yet), for people. */
  readonly #reasons = new Map<string, string>();
  #starting: Promise<void> | undefined;
  #scanReady: Promise<void> | undefined;

  private constructor(parts: Parts, plan: Plan, freshness: Freshness) {
    this.#parts = parts;
    this.#plan = plan;
    this.freshness = freshness;
  }

  static async prepare(parts: Parts, plan: Plan): Promise<Operation> {
    const known = await parts.repository.listBackups();
    const operation = new Operation(parts, plan, new Freshness(parts.bus, parts.ground.clock, known));
    for (const source of parts.book.all()) await operation.#announce(source);
    return operation;
  }

  /** Begins to heal, to watch and to plan. Sources come up in the background; `started` waits for them. */
  async start(): Promise<void> {
    await this.#parts.healer.start(this.#parts.ground.signal);
    void this.#parts.space.start();
    this.#starting = this.#startSources(this.#parts.book.all()).then(async () => await this.#plan.start());
  }

  /** Resolves when every source has been looked at once. */
  async started(): Promise<void> {
    await this.#starting;
  }

  get plan(): Plan {
    return this.#plan;
  }

  /** Why the monitor does not know a source. */
  startReason(source: string): string | undefined {
    return this.#reasons.get(source);
  }

  /** For a command that works alone: lets the monitor know the sources, so that it can scan and judge. */
  async readyToScan(): Promise<void> {
    if (this.#parts.ground.isDaemon) return;
    this.#scanReady ??= this.#addAllUnwatched();
    await this.#scanReady;
  }

  /** Protects paths from now on, kept across restarts. Throws SOURCE_EXISTS, USAGE, TARGET_UNSAFE. */
  async protect(
    paths: readonly BytePath[],
    name: string | undefined,
    onDelete: OnDelete | undefined,
  ): Promise<ProtectedSource> {
    const { book } = this.#parts;
    const covering = book.all().find((source) => paths.every((path) => source.configuration.paths.includes(path)));
    if (covering !== undefined && name === undefined && onDelete === undefined) return covering;
    const source = book.prepare(book.makeConfiguration(name ?? book.freeName(paths), paths, onDelete), true);
    if (source.folders.length === 0) throw new HoldfastError("USAGE", "no path to protect was given");
    await book.add(source);
    await this.#acceptWhatIsGone(source);
    await this.#announce(source);
    await this.#startSources([source]);
    return source;
  }

  /** Stops protecting; backups and versions stay. A source of the configuration comes back at the next reload. */
  async unprotect(source: ProtectedSource): Promise<void> {
    if (!source.addedAtRunTime) {
      throw new HoldfastError("USAGE", `the source ${source.name} stands in the configuration`, {
        hint: "Remove it there, then run `holdfast config reload`.",
      });
    }
    await this.#stopSource(source);
    await this.#parts.book.remove(source.name);
  }

  /** Takes another configuration, already verified: sources that changed are stopped and started anew. */
  async take(next: Configuration): Promise<void> {
    const { book, settings } = this.#parts;
    const before = settings.current;
    settings.current = next;
    const wanted = new Map(next.sources.map((source) => [source.name, source]));
    const changed: ProtectedSource[] = [];
    const protectedBefore = new Set(book.all().map(({ name }) => name));
    for (const source of book.all()) {
      const configured = wanted.get(source.name);
      const same = configured !== undefined && JSON.stringify(configured) === JSON.stringify(source.configuration);
      if (same || (configured === undefined && source.addedAtRunTime)) {
        wanted.delete(source.name);
        continue;
      }
      await this.#stopSource(source, configured !== undefined);
      await book.remove(source.name);
    }
    for (const configuration of wanted.values()) {
      const source = book.prepare(configuration, false);
      await book.add(source);
      if (!protectedBefore.has(source.name)) await this.#acceptWhatIsGone(source);
      await this.#announce(source);
      changed.push(source);
    }
    if (JSON.stringify(before.alerts) !== JSON.stringify(next.alerts)) await this.#parts.telling.take(next.alerts);
    if (JSON.stringify(before.schedule) !== JSON.stringify(next.schedule)) await this.#plan.restart();
    await this.#startSources(changed);
  }

  async #announce(source: ProtectedSource): Promise<void> {
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

  async #stopSource(source: ProtectedSource, willReturn = false): Promise<void> {
    const { monitor } = this.#parts;
    const isWatched = monitor.status().some(({ name }) => name === source.name);
    if (isWatched) await monitor.removeSource(source.name, { forget: !willReturn });
    else if (!willReturn) await monitor.registry.forgetSource(source.name); // its first backup is under way, or it failed
    this.#parts.queue.forget(source.name);
    this.#parts.backupJobs.unwatch(source.name);
    if (!willReturn) removeSourceSeries(this.#parts.ground.metrics, source.name);
    this.#reasons.delete(source.name);
  }

  async #startSources(sources: readonly ProtectedSource[]): Promise<void> {
    const fresh: ProtectedSource[] = [];
    for (const source of sources) if (await this.#isNew(source)) fresh.push(source);
    if (fresh.length > 0) await this.#firstBackup(fresh);
    await Promise.all(sources.map(async (source) => await this.#watch(source)));
  }

  /**
   * What went while nobody protected the source is no loss, its owner had said so: recorded as removed, the versions
   * stay. Where the registry is known nothing is accepted: there the monitor judges. Below a missing folder neither.
   */
  async #acceptWhatIsGone(source: ProtectedSource): Promise<void> {
    const { repository, monitor, ground } = this.#parts;
    if (repository.readOnly || (await monitor.registry.isBuilt(source.name))) return;
    const folders = source.folders.filter((folder) => !isGone(folder));
    const gone: PathChange[] = [];
    for await (const { path } of repository.currentEntries(source.name)) {
      const isBelow = folders.some((folder) => isWithin(path, folder));
      if (isBelow && isGone(path)) gone.push({ path, kind: "remove" });
    }
    for (let start = 0; start < gone.length; start += REMOVALS_AT_ONCE) {
      await repository.commitChanges(source.name, gone.slice(start, start + REMOVALS_AT_ONCE), ground.signal);
    }
  }

  /** True when nothing of the source was ever stored: its first backup goes the fast way, straight into packs. */
  async #isNew(source: ProtectedSource): Promise<boolean> {
    for await (const _entry of this.#parts.repository.currentEntries(source.name)) return false;
    return true;
  }

  async #firstBackup(sources: readonly ProtectedSource[]): Promise<void> {
    const names = sources.map((source) => source.name);
    for (const name of names) this.#reasons.set(name, "first backup");
    try {
      await this.#plan.backUpNow({ type: "full", sources: names, tags: ["first"], compression: true });
    } catch (error) {
      // What could not be stored now is stored path by path once the source is watched.
      const { code, message } = asHoldfastError(error);
      this.#parts.ground.metrics.log.warn("backup.first_failed", { sources: names, code, message });
    }
  }

  async #watch(source: ProtectedSource): Promise<void> {
    const { monitor, ground, settings, book } = this.#parts;
    // Taken away, or taken anew, while its first backup was under way.
    if (book.find(source.name) !== source) return;
    this.#reasons.set(source.name, "first look");
    try {
      await monitor.addSource(source.files, source.monitorSettings(settings.current.mass), ground.signal);
      this.#reasons.delete(source.name);
      const watched = { source: source.name, paths: source.folders.map(pathText) };
      ground.metrics.log.info("source.protected", watched);
    } catch (error) {
      if (ground.signal.aborted) return;
      const { code, message } = asHoldfastError(error);
      this.#reasons.set(source.name, `${message} (${code})`);
      ground.metrics.log.error("source.failed", { source: source.name, code, message });
    }
  }

  async #addAllUnwatched(): Promise<void> {
    for (const source of this.#parts.book.all()) await this.#watch(source);
  }
}

/** True when nothing stands at the path; what cannot be looked at is not gone. */
function isGone(path: BytePath): boolean {
  try {
    lstatSync(pathBytes(path));
    return false;
  } catch (error) {
    return ["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "");
  }
}
