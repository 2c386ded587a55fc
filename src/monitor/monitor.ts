/**
 * The monitor: watches the sources, keeps the registry of protected files, and tells by events what changed, what was
 * removed on purpose, and what was lost or damaged. Everything others need of it goes through this class.
 */
import { setMaxListeners } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Timer } from "../base/clock.js";
import { Semaphore } from "../base/concurrency.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import { type BytePath, isWithin, pathFromText } from "../base/paths.js";
import { type SharedParts, SourceContext, monitorMetrics } from "./context.js";
import type { Currency } from "./currency.js";
import { SourceGuard } from "./guard.js";
import { checkPaths, SCRUB_TICK_MS, Scrubber } from "./integrity.js";
import { ARRIVALS_KEEP_MS, Arrivals } from "./intent/arrivals.js";
import { GitKnowledge } from "./intent/git.js";
import { OwnWriteLedger } from "./ledger.js";
import { type Pause, Pauses } from "./pauses.js";
import type {
  DurableReceipt,
  Explanation,
  Finding,
  MonitorOptions,
  MonitorTimes,
  OwnWrite,
  ScanReport,
  SourceSettings,
  SourceStatus,
  SourceWatch,
} from "./ports.js";
import { Registry, type RegistryRecord } from "./registry.js";
import { awayReasonOf, forgetGroundOf, hiddenPointsOf } from "./roots.js";
import type { ProtectionMode } from "./rules.js";
import { StartScans } from "./start-scans.js";
import { Suspects } from "./suspects.js";
import { FileValidation } from "./validation.js";
import type { Verdict } from "./validator.js";
import { Actors } from "./watch/actors.js";
import { NativeWatcher } from "./watch/native.js";

export type { Pause } from "./pauses.js";

const DEFAULT_TIMES: MonitorTimes = {
  folderSweepMs: 10_000,
  fileSweepMs: 300_000,
  rootCheckMs: 5000,
  pollMs: 30_000,
  scrubMs: undefined,
};
/** Sources that are looked through at once: each takes a thread, about 10 MB, and hundreds of them took all memory. */
const WALKS_MAX = 4;
/** Findings that one scan lists at most. */
const FINDINGS_MAX = 100_000;
const UNWATCHED: Currency = { is: "doubtful", reason: "no daemon watches it", backedUp: () => undefined };

interface Guarded {
  readonly guard: SourceGuard;
  readonly scrubber: Scrubber | undefined;
}

export class Monitor implements AsyncDisposable {
  readonly #options: MonitorOptions;
  readonly #times: MonitorTimes;
  readonly #shared: SharedParts;
  readonly #sources = new Map<string, Guarded>();
  readonly #closing = new AbortController();
  readonly #suspects = new Suspects();
  #native: NativeWatcher | undefined;
  #scrubTimer: Timer | undefined;
  readonly #tidyTimer: Timer;
  #scrubbing: Promise<void> | undefined;

  private constructor(options: MonitorOptions, shared: SharedParts) {
    this.#options = options;
    this.#shared = shared;
    this.#times = { ...DEFAULT_TIMES, ...options.times };
    this.#tidyTimer = options.clock.every(ARRIVALS_KEEP_MS / 2, () => {
      shared.arrivals.forgetOld(options.clock.monotonicMs());
    });
    if (this.#times.scrubMs !== undefined)
      this.#scrubTimer = options.clock.every(SCRUB_TICK_MS, () => {
        this.#scrubbing ??= this.#scrub().finally(() => (this.#scrubbing = undefined));
      });
  }

  /** Opens the registry and what belongs to it; nothing is watched yet. */
  static async open(options: MonitorOptions): Promise<Monitor> {
    const { clock, observer, bus, known, store } = options;
    const scratch = join(options.stateDir, "inspect");
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    const startScans = new StartScans(clock);
    return new Monitor(options, {
      clock,
      log: observer.log,
      bus,
      metrics: monitorMetrics(observer),
      registry: await Registry.open(store),
      known,
      ledger: await OwnWriteLedger.open(store, clock),
      pauses: await Pauses.open(store, clock),
      validation: new FileValidation(clock, scratch),
      arrivals: new Arrivals(() => !startScans.areWanted),
      startScans,
      expectChange: options.expectChange ?? ((): void => undefined),
      git: new GitKnowledge(() => clock.monotonicMs()),
      walks: new Semaphore(WALKS_MAX),
      actors: options.actors === true ? new Actors({ clock, log: observer.log }) : undefined,
      stopAttacker: options.stopAttacker ?? false,
    });
  }

  /** What is known of every protected path. */
  get registry(): Registry {
    return this.#shared.registry;
  }

  /** Process id of the watcher child; undefined while there is none. */
  get watcherPid(): number | undefined {
    return this.#native?.childPid;
  }

  /** Begins to watch; resolves when everything of the source has been looked at once. Throws SOURCE_EXISTS. */
  async addSource(source: SourceWatch, settings: SourceSettings, signal: AbortSignal): Promise<void> {
    if (this.#sources.has(source.name))
      throw new HoldfastError("SOURCE_EXISTS", `a source named ${source.name} is watched already`);
    signal.throwIfAborted();
    const abort = new AbortController();
    setMaxListeners(0, abort.signal); // every file that waits for a verdict listens, which is no leak
    const context = new SourceContext(this.#shared, source, settings, abort.signal);
    const guard = new SourceGuard(context, abort, this.#times, this.#ears());
    const { scrubMs } = this.#times;
    this.#sources.set(source.name, {
      guard,
      scrubber: scrubMs === undefined ? undefined : new Scrubber(guard, scrubMs),
    });
    try {
      await guard.start(AbortSignal.any([signal, this.#closing.signal]));
    } catch (error) {
      this.#sources.delete(source.name);
      await guard.stop();
      throw error;
    }
  }

  /** Stops watching a source. `forget`: its registry goes too. Throws SOURCE_NOT_FOUND. */
  async removeSource(name: string, options: { readonly forget?: boolean } = {}): Promise<void> {
    const found = this.#sources.get(name);
    if (found === undefined) throw new HoldfastError("SOURCE_NOT_FOUND", `no source is named ${name}`);
    this.#sources.delete(name);
    await found.guard.stop();
    this.#shared.pauses.left(name);
    if (options.forget !== true) return;
    found.guard.expected.forget();
    await this.registry.forgetSource(name);
  }

  status(): readonly SourceStatus[] {
    return [...this.#sources.values()].map(({ guard }) => guard.status());
  }

  /** Why the storage of a source is away, watched or not; undefined: it is there, or was never seen. */
  async awayReason(source: SourceWatch): Promise<string | undefined> {
    const guard = this.#sources.get(source.name)?.guard;
    if (guard === undefined) return await awayReasonOf(source, this.registry);
    guard.checkRoots();
    const status = guard.status();
    return status.state === "root_gone" ? status.reason : undefined;
  }

  /**
   * Whether what is stored of a source is what stands there, now; of one that nobody watches that is in doubt.
   * `walkedBecause`: it is walked in any case.
   */
  async currency(name: string, walkedBecause?: string): Promise<Currency> {
    const guard = this.#sources.get(name)?.guard;
    return (await guard?.currency.judge(walkedBecause)) ?? UNWATCHED;
  }

  /** Whatever stands at the roots of a source that nobody watches is its storage from now on. */
  async forgetGround(source: SourceWatch): Promise<void> {
    await forgetGroundOf(source, this.registry);
  }

  /** Folders of a source whose files cannot be seen now, since a mount is away or lies over them. */
  async hiddenPoints(source: SourceWatch): Promise<readonly BytePath[]> {
    return await hiddenPointsOf(source, this.registry);
  }

  /** Reads everything protected (or what is at and below `path`) now and lists what is not as it should be. */
  async scan(options: { readonly path?: BytePath | undefined }, signal: AbortSignal): Promise<ScanReport> {
    const findings: Finding[] = [];
    let filesChecked = 0;
    for (const { guard } of this.#sources.values()) {
      for await (const page of this.registry.entries(guard.context.name)) {
        const { path } = options;
        const asked = path === undefined ? page : page.filter((known) => isWithin(known.path, path));
        filesChecked += asked.filter(({ record }) => record.kind === "file" && record.state !== "removed").length;
        const found = await checkPaths(guard, asked, "scan", signal);
        findings.push(...found.slice(0, FINDINGS_MAX - findings.length));
      }
    }
    return { filesChecked, findings };
  }

  /** Somebody read other content at a path than is registered: it is read again soon, and judged. */
  suspect(source: string, path: BytePath): void {
    const guard = this.#sources.get(source)?.guard;
    if (guard !== undefined) this.#suspects.add({ guard, path });
  }

  /** Announces a write of holdfast's own; it may become visible when this resolves. */
  async expectOwnWrite(expected: OwnWrite): Promise<void> {
    await this.#shared.ledger.expect(expected);
  }

  /** An announced write stands at its path: it is looked at now, whatever events come of it. */
  ownWriteStands(path: BytePath): void {
    for (const guard of this.#guardsOf(path)) guard.ownWriteStands(path);
  }

  /** A commit of the source is durable: the registry moves. */
  recordDurable(source: string, receipt: DurableReceipt): void {
    this.#sources.get(source)?.guard.recorder.recordDurable(receipt);
  }

  /** The commit queue could not hold a source's changes: everything is looked at again. */
  requestReconcile(source: string, reason: string): void {
    this.#sources.get(source)?.guard.requestReconcile(reason);
  }

  /** Opens a maintenance window for a path, or for everything. Throws USAGE for a duration that is not positive. */
  async pause(path: BytePath | undefined, durationMs: number, reason: string): Promise<Pause> {
    if (!(durationMs > 0)) throw new HoldfastError("USAGE", "a pause needs a duration above zero");
    const nowMs = this.#options.clock.nowMs();
    const pause = { path, untilMs: nowMs + durationMs, reason };
    await this.#shared.pauses.begin(pause);
    return pause;
  }

  /**
   * Ends the window of exactly this path, or all, when what went during it is judged; gives what was ended. Throws
   * INTERRUPTED, and the window stays open, when the monitor is closed before: the next start would bring back what went.
   */
  async resume(path: BytePath | undefined): Promise<readonly Pause[]> {
    const ending = this.pauses().filter((pause) => path === undefined || pause.path === path);
    const guards = [...this.#sources.values()].map(({ guard }) => guard);
    const areJudged = await Promise.all(
      guards.map(async (guard) => await guard.pausesEnd(ending.map((pause) => pause.path))),
    );
    if (this.#closing.signal.aborted)
      throw new HoldfastError("INTERRUPTED", "holdfast is stopping: the pause goes on until it is ended or over");
    const nowMs = this.#options.clock.nowMs();
    const judged = guards.filter((_guard, index) => areJudged[index] === true).map(({ context }) => context.name);
    await this.registry.flush(); // the verdicts first
    return await this.#shared.pauses.end(path, nowMs, judged);
  }

  /** Windows that are open now. */
  pauses(): readonly Pause[] {
    return this.#shared.pauses.open(this.#options.clock.nowMs());
  }

  /** The mode that a path is protected in; `ignore` when no source holds it. */
  modeOf(path: BytePath): ProtectionMode {
    return this.#guardOf(path)?.context.modeOf(path).mode ?? "ignore";
  }

  /** How a path is protected and why. */
  explain(path: BytePath): Explanation {
    const guard = this.#guardOf(path);
    if (guard === undefined)
      return {
        source: undefined,
        mode: "ignore",
        rule: "none",
        origin: "none",
        why: "no source holds the path",
        validators: [],
      };
    const { context } = guard;
    const decision = context.modeOf(path);
    const pause = this.#shared.pauses.covering(path, this.#options.clock.nowMs());
    const record = this.registry.get(context.name, path);
    const notes = [
      decision.why,
      ...(pause === undefined ? [] : [`paused now: ${pause.reason}`]),
      ...(record?.reason === undefined ? [] : [`${record.state}: ${record.reason}`]),
    ];
    const validators = context.validationRules.checksFor(path).checks.map((check) => check.kind);
    return { ...decision, source: context.name, why: notes.join("; "), validators };
  }

  /** The owner means the removal: recorded as such, not reported again. What stands there still becomes a version. */
  async acceptRemoval(path: BytePath, reason: string): Promise<void> {
    for (const guard of this.#guardsOf(path)) {
      const record = this.registry.get(guard.context.name, path);
      if (record === undefined) continue;
      if (record.kind === "folder") await this.#acceptBelow(guard, path, reason);
      if (isKept(record)) guard.recorder.acceptRemoval(path, record, reason);
    }
    await this.registry.flush();
  }

  /** What stands at the path is the owner's will: it becomes a version, whatever the validators say. */
  async acceptContent(path: BytePath, _reason: string): Promise<void> {
    for (const guard of this.#guardsOf(path))
      guard.recorder.acceptContent(path, this.registry.get(guard.context.name, path));
    await this.registry.flush();
  }

  /**
   * A person has had a path restored (`sha256` of the content; undefined for what is no file) or removed by a restore: it
   * is no loss and no damage. Also of a source that nobody watches; call `registry.flush` when all is told.
   */
  acceptRestored(source: string, path: BytePath, what: { readonly sha256: string | undefined } | "removed"): void {
    const record = this.registry.get(source, path);
    const isNews = record !== undefined && (what === "removed" ? isKept(record) : record.sha256 !== what.sha256);
    if (!isNews) return;
    const guard = this.#sources.get(source)?.guard;
    const reason = "removed by a restore";
    if (what === "removed" && guard !== undefined) guard.recorder.acceptRemoval(path, record, reason);
    else if (what === "removed") this.registry.put(source, path, { ...record, state: "removing", reason });
    else if (guard !== undefined) {
      guard.recorder.acceptContent(path, record);
      if (record.state === "lost") this.#shared.bus.emit("file.returned", { source, path });
    } else this.registry.forget(source, path); // what stands there is taken as it is at the next look
  }

  /** The last durable version that is known of a path, whatever became of it since. */
  lastGood(path: BytePath): RegistryRecord | undefined {
    for (const { guard } of this.#sources.values()) {
      const record = this.registry.get(guard.context.name, path);
      if (record !== undefined) return record;
    }
    return undefined;
  }

  /** Why nothing may be put at a path now, looked at freshly: the storage that holds it is away. */
  awayReasonOf(path: BytePath): string | undefined {
    return this.#guardOf(path)?.awayReason(path);
  }

  /** Judges the bytes of a file (absolute path, ours) as content of a protected path. */
  async validate(contentPath: string, forPath: BytePath, signal: AbortSignal): Promise<Verdict> {
    const guard = this.#guardOf(forPath);
    if (guard === undefined) return { verdict: "unchecked", detail: "no source holds the path" };
    const checks = guard.context.validationRules.checksFor(forPath);
    const content = pathFromText(contentPath);
    const { verdict } = await this.#shared.validation.judge(content, checks, signal);
    if (verdict.verdict === "invalid") return verdict;
    const detail = await guard.context.uniqueFields.fault(forPath, content, signal);
    return detail === undefined ? verdict : { verdict: "invalid", kind: "schema_violation", detail };
  }

  /** Resolves when no portion of the background reading is being read. */
  async scrubbed(): Promise<void> {
    await this.#scrubbing;
  }

  /** Stops everything, in order, and waits for it. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#scrubTimer?.cancel();
    this.#tidyTimer.cancel();
    await this.scrubbed();
    await Promise.all([...this.#sources.values()].map(({ guard }) => guard.stop()));
    await this.#suspects[Symbol.asyncDispose]();
    this.#sources.clear();
    await this.#native?.[Symbol.asyncDispose]();
    this.#native = undefined;
    await this.#shared.actors?.[Symbol.asyncDispose]();
    await this.#shared.validation[Symbol.asyncDispose]();
    await this.registry[Symbol.asyncDispose]();
  }

  /** One watcher child for all sources, started with the first. */
  #ears(): NativeWatcher | undefined {
    if (this.#options.nativeEvents === false) return undefined;
    this.#native ??= new NativeWatcher({
      clock: this.#options.clock,
      log: this.#options.observer.log,
      pulseFolder: join(this.#options.stateDir, "watch"),
    });
    return this.#native;
  }

  #guardsOf(path: BytePath): readonly SourceGuard[] {
    return [...this.#sources.values()]
      .map(({ guard }) => guard)
      .filter(({ context: { source } }) => source.includes(path) || source.includes(path, "folder"));
  }

  /** The source with the nearest root. */
  #guardOf(path: BytePath): SourceGuard | undefined {
    const depth = ({ context }: SourceGuard): number =>
      Math.max(0, ...context.source.roots.map(({ folder }) => (isWithin(path, folder) ? folder.length : 0)));
    return [...this.#guardsOf(path)].sort((left, right) => depth(right) - depth(left))[0];
  }

  async #acceptBelow(guard: SourceGuard, folder: BytePath, reason: string): Promise<void> {
    for await (const page of this.registry.entries(guard.context.name, folder)) {
      for (const { path, record } of page) if (isKept(record)) guard.recorder.acceptRemoval(path, record, reason);
    }
  }

  async #scrub(): Promise<void> {
    for (const { guard, scrubber } of this.#sources.values()) {
      try {
        await scrubber?.portion(AbortSignal.any([guard.context.signal, this.#closing.signal]));
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        this.#shared.log.warn("scrub.failed", { source: guard.context.name, message: messageOf(error) });
      }
    }
  }
}

function isKept(record: RegistryRecord): boolean {
  return record.state === "live" || record.state === "lost";
}
