/**
 * The parts at work: healing listens, the sources come up, the plan runs, and what is protected changes at run time, one
 * change at a time. A command that works alone uses the same object without starting it.
 */
import { Mutex } from "../base/concurrency.js";
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import type { Configuration } from "../config/configuration.js";
import { Freshness } from "./freshness.js";
import type { Parts } from "./parts.js";
import type { Plan } from "./plan.js";
import type { ProtectedSource } from "./protected-source.js";
import { SOURCES_MAX, type SourceBook } from "./source-book.js";
import { type AddedSource, type SourceSettings, configureSource } from "./source-defaults.js";
import { SourceStarts } from "./source-starts.js";
import { fullShareOf } from "./telling.js";

/** What another configuration means for the sources. */
interface SourceChange {
  /** In force now, and no longer or not so any more. */
  readonly leaving: readonly ProtectedSource[];
  readonly coming: readonly ProtectedSource[];
}

export class Operation implements AsyncDisposable {
  readonly freshness: Freshness;
  readonly #parts: Parts;
  readonly #plan: Plan;
  readonly #starts: SourceStarts;
  /** One change of what is protected at a time. */
  readonly #changes = new Mutex();
  readonly #starting = new Set<Promise<void>>();
  #scanReady: Promise<void> | undefined;

  private constructor(parts: Parts, plan: Plan, freshness: Freshness) {
    this.#parts = parts;
    this.#plan = plan;
    this.freshness = freshness;
    this.#starts = new SourceStarts(parts, plan);
  }

  static async prepare(parts: Parts, plan: Plan): Promise<Operation> {
    const known = await parts.repository.listBackups();
    const operation = new Operation(parts, plan, new Freshness(parts.bus, parts.ground.clock, known));
    for (const source of parts.book.all()) await operation.#starts.announce(source);
    return operation;
  }

  /** Begins to heal, to watch and to plan. Sources come up in the background; `started` waits for them. */
  async start(): Promise<void> {
    const { healer, telling } = this.#parts;
    await healer.start(this.#parts.ground.signal);
    telling.dispatcher?.confirmIncidents((id) => healer.isOpen(id));
    void this.#parts.space.start();
    void this.#parts.storeGauges.count();
    void this.#startSources(this.#parts.book.all());
    await this.#plan.start(async (sources) => await this.#starts.backable(sources));
  }

  /** Resolves when every source that was to come up has been looked at once. */
  async started(): Promise<void> {
    await Promise.all(this.#starting);
  }

  get plan(): Plan {
    return this.#plan;
  }

  /** Why the monitor does not know a source. */
  startReason(source: string): string | undefined {
    return this.#starts.reason(source);
  }

  /** How many files the first backup of a source could not read; told once. */
  takeUnreadable(source: string): number {
    return this.#starts.takeUnreadable(source);
  }

  /** For a command that works alone: lets the monitor know the sources, so that it can scan and judge. */
  async readyToScan(): Promise<void> {
    if (this.#parts.ground.isDaemon) return;
    this.#scanReady ??= this.#starts.watchAll();
    await this.#scanReady;
  }

  /** Protects paths from now on, kept across restarts. Throws SOURCE_EXISTS, USAGE, TARGET_UNSAFE. */
  async protect(
    paths: readonly BytePath[],
    name: string | undefined,
    settings: SourceSettings,
  ): Promise<ProtectedSource> {
    const { source, isNew } = await this.#changes.run(async () => await this.#protect(paths, name, settings));
    if (isNew) await this.#startSources([source]);
    return source;
  }

  /** Exchanges a source that was added at run time for what `change` makes of it. Throws SOURCE_NOT_FOUND, USAGE. */
  async change(name: string, change: (added: AddedSource) => AddedSource): Promise<ProtectedSource> {
    const { book } = this.#parts;
    const source = await this.#changes.run(async () => {
      const before = book.get(name);
      if (before.added === undefined) throw configuredError(name, "Change");
      const after = prepareFor(book, { ...change(before.added), name });
      if (JSON.stringify(after.added) === JSON.stringify(before.added)) return undefined;
      await this.#leave(before, true);
      await this.#come(after, false);
      return after;
    });
    if (source !== undefined) await this.#startSources([source]);
    return source ?? book.get(name);
  }

  /** Stops protecting; backups and versions stay. A source of the configuration comes back at the next reload. */
  async unprotect(source: ProtectedSource): Promise<void> {
    if (source.added === undefined) throw configuredError(source.name, "Remove");
    await this.#changes.run(async () => {
      if (this.#parts.book.find(source.name) !== source) return; // somebody was faster
      await this.#starts.stop(source, false);
      await this.#parts.book.remove(source.name);
    });
  }

  /**
   * Takes another configuration, already verified. Everything that can be refused comes first; when it is, the one
   * before stays in force whole. Then the sources that changed are exchanged, each by itself: what fails there is that
   * source's reason in `status`, and is tried again. Resolves when all is taken; sources come up in the background.
   */
  async take(next: Configuration): Promise<void> {
    await this.#changes.run(async () => {
      const { settings, space, ground } = this.#parts;
      const before = settings.current;
      const change = this.#changeTo(next);
      await this.#takeServices(before, next);
      settings.current = next;
      space.setFullShare(fullShareOf(next.alerts));
      ground.setLogLevel?.(next.log.level);
      const isBack = new Set(change.coming.map(({ name }) => name));
      for (const source of change.leaving) await this.#leave(source, isBack.has(source.name));
      const known = new Set(change.leaving.map(({ name }) => name));
      for (const source of change.coming) await this.#come(source, !known.has(source.name));
      void this.#startSources(change.coming.filter((source) => this.#parts.book.find(source.name) === source));
    });
  }

  /** Tries nothing again and waits for what comes up; to be called after the ground's signal was aborted. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#starts[Symbol.dispose]();
    await this.started();
  }

  async #protect(
    paths: readonly BytePath[],
    name: string | undefined,
    settings: SourceSettings,
  ): Promise<{ readonly source: ProtectedSource; readonly isNew: boolean }> {
    const { book } = this.#parts;
    const source = prepareFor(book, { name: name ?? book.freeName(paths), paths, settings });
    const covering = book.all().find((candidate) => protects(candidate, source));
    if (covering !== undefined && name === undefined && Object.keys(settings).length === 0)
      return { source: covering, isNew: false };
    await book.add(source);
    await this.#starts.acceptWhatIsGone(source);
    await this.#starts.announce(source);
    return { source, isNew: true };
  }

  /** Throws what makes a source of the next configuration impossible. */
  #changeTo(next: Configuration): SourceChange {
    const { book, settings } = this.#parts;
    const before = settings.current;
    const isAllNew = JSON.stringify(before.mass) !== JSON.stringify(next.mass);
    const wanted = new Map(next.sources.map((source) => [source.name, book.prepare(source)]));
    for (const { name, added } of book.all()) {
      if (added === undefined || wanted.has(name)) continue;
      wanted.set(name, book.prepareAdded(added, configureSource(next, added)));
    }
    if (wanted.size > SOURCES_MAX)
      throw new HoldfastError("LIMIT_REACHED", `${String(SOURCES_MAX)} sources are the limit`);
    const isSame = (source: ProtectedSource): boolean => {
      const found = wanted.get(source.name);
      const isLike = JSON.stringify(found?.configuration) === JSON.stringify(source.configuration);
      return !isAllNew && isLike && JSON.stringify(found?.added) === JSON.stringify(source.added);
    };
    const staying = new Set(
      book
        .all()
        .filter(isSame)
        .map(({ name }) => name),
    );
    return {
      leaving: book.all().filter(({ name }) => !staying.has(name)),
      coming: [...wanted.values()].filter(({ name }) => !staying.has(name)),
    };
  }

  /** Alerts and plan: both take the next configuration, or both keep the one before. */
  async #takeServices(before: Configuration, next: Configuration): Promise<void> {
    const { telling, ground } = this.#parts;
    const hasOtherAlerts = JSON.stringify(before.alerts) !== JSON.stringify(next.alerts);
    if (hasOtherAlerts) await telling.take(next.alerts, before.alerts);
    try {
      await this.#plan.take(next, before);
    } catch (error) {
      if (hasOtherAlerts) {
        await telling.take(before.alerts, before.alerts).catch((fault: unknown) => {
          ground.metrics.log.error("alert.not_taken_back", { error: fault });
        });
      }
      throw error;
    }
  }

  async #leave(source: ProtectedSource, willReturn: boolean): Promise<void> {
    try {
      await this.#starts.stop(source, willReturn);
    } catch (error) {
      this.#note("source.not_forgotten", source, error); // it is not watched any more; only its memory stays behind
    }
    await this.#parts.book
      .remove(source.name, willReturn)
      .catch((error: unknown) => this.#note("source.not_kept", source, error));
  }

  async #come(source: ProtectedSource, isNew: boolean): Promise<void> {
    await this.#parts.book.add(source).catch((error: unknown) => this.#note("source.not_kept", source, error));
    try {
      if (isNew) await this.#starts.acceptWhatIsGone(source);
      await this.#starts.announce(source);
    } catch (error) {
      this.#note("source.not_announced", source, error); // it is watched all the same
    }
  }

  #note(event: string, { name }: ProtectedSource, error: unknown): void {
    const { code, message } = asHoldfastError(error);
    this.#parts.ground.metrics.log.error(event, { source: name, code, message });
  }

  /** Never rejects. */
  async #startSources(sources: readonly ProtectedSource[]): Promise<void> {
    const starting = this.#starts.start(sources).finally(() => this.#starting.delete(starting));
    this.#starting.add(starting);
    await starting;
  }
}

/** Whether a source has every place of another, by whatever links those were named. */
function protects(source: ProtectedSource, other: ProtectedSource): boolean {
  const places = new Set(source.files.roots.map((root) => JSON.stringify(root)));
  return other.files.roots.every((root) => places.has(JSON.stringify(root)));
}

/** Throws USAGE when nothing would be protected. */
function prepareFor(book: SourceBook, added: AddedSource): ProtectedSource {
  const source = book.prepareAdded(added);
  if (source.folders.length === 0) throw new HoldfastError("USAGE", "no path to protect was given");
  return source;
}

function configuredError(name: string, verb: "Change" | "Remove"): HoldfastError {
  return new HoldfastError("USAGE", `the source ${name} stands in the configuration, or was named at the start`, {
    hint: `${verb} it there, then run \`holdfast config reload\`; or start holdfast without it.`,
  });
}
