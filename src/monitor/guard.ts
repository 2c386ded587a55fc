/**
 * Watches one source: opens its ears, looks through it at the start and in sweeps, keeps an eye on its roots, and
 * passes what is found to the judges of changes, damage and losses.
 */
import type { Timer } from "../base/clock.js";
import type { NoticedBy } from "../base/events.js";
import { asHoldfastError, hasCode, messageOf } from "../base/errors.js";
import { type BytePath, isWithin } from "../base/paths.js";
import { ChangeJudge } from "./changes.js";
import type { SourceContext } from "./context.js";
import { SourceCurrency } from "./currency.js";
import { DamageJudge } from "./damage.js";
import { Degradation, stateOf } from "./degradation.js";
import { AttackWatch } from "./judge/attack-watch.js";
import type { DirtyItem } from "./dirty.js";
import { ExpectationWatch } from "./expectation-watch.js";
import { FileSweep } from "./file-sweep.js";
import { FolderKeeper } from "./folders.js";
import { FreshReadings } from "./fresh.js";
import { isAsRegistered, lookAt } from "./look.js";
import { LossJudge } from "./losses.js";
import type { MonitorTimes, SourceStatus, WalkedEntry } from "./ports.js";
import { type DatedRecord, type KnownPath, type ReadPath, type RegistryRecord } from "./registry.js";
import { judgeBeforePauseEnds } from "./pause-end.js";
import { missingNeighbours } from "./missing.js";
import { Recorder } from "./recorder.js";
import { RestMark } from "./rest-mark.js";
import { Roots } from "./roots.js";
import { ArrivalRecall, forgetTold, hasLostAll, isDamageTold, noteThrough, registerStored } from "./start-evidence.js";
import { watchLimitReason } from "./watch/limits.js";
import type { HeardChanges, NativeWatcher } from "./watch/native.js";
import { reconcile } from "./watch/reconcile.js";
import { ReconcileQueue, type ReconcileOrder } from "./watch/reconcile-queue.js";

/** Removals are remembered this long, for `explain`, ms. */
const REMOVED_KEEP_MS = 7 * 86_400_000;
/** A source whose changes did not fit is looked through again after this pause, ms. */
const OVERFLOW_PAUSE_MS = 5000;

const NOT_WRITABLE = "what is known of the files cannot be written to the state folder (is its disk full?)";

export class SourceGuard {
  readonly context: SourceContext;
  readonly fresh = new FreshReadings();
  readonly expected: ExpectationWatch;
  readonly currency: SourceCurrency;
  readonly recorder: Recorder;
  readonly #times: MonitorTimes;
  readonly #abort: AbortController;
  readonly #changes: ChangeJudge;
  readonly #damage: DamageJudge;
  readonly #attack: AttackWatch;
  readonly #losses: LossJudge;
  readonly #folders: FolderKeeper;
  readonly #roots: Roots;
  readonly #reconciles: ReconcileQueue;
  readonly #fileSweep: FileSweep;
  readonly #timers: Timer[] = [];
  readonly #degradation: Degradation;
  readonly #rest: RestMark;
  #overflowTimer: Timer | undefined;
  #recall: ArrivalRecall | undefined;
  /** Until everything has been looked at once; nothing is protected before. */
  #isScanning = true;
  #sweeping: Promise<void> | undefined;
  #walkedCount = 0;

  constructor(context: SourceContext, abort: AbortController, times: MonitorTimes, native: NativeWatcher | undefined) {
    this.context = context;
    this.#abort = abort;
    this.#times = times;
    this.currency = new SourceCurrency(context, {
      doubt: () => this.#doubt(),
      fence: async () => await native?.fence(),
      isUnsure: () => this.#changes.isUnsure || this.#losses.pending > 0,
      unstored: () => this.#changes.unstored(),
      foundUnheard: (path) => this.#changes.mark(path, "sweep"),
    });
    this.expected = new ExpectationWatch(context);
    this.#degradation = new Degradation({ ...context.shared, name: context.name, signal: context.signal });
    this.#rest = new RestMark(
      context.shared,
      context.name,
      () => this.#isAtRest && this.#roots.goneReason === undefined,
    );
    this.#attack = new AttackWatch(context, context.canaries);
    this.#damage = new DamageJudge(context, this.#attack, () => this.#changes);
    this.#changes = new ChangeJudge(context, {
      missing: (path, known, item) => this.#missing(path, known, item),
      isMissed: (path) => this.#losses.has(path),
      present: (path) => this.#losses.present(path),
      folder: (path, look, item) => this.#folder(path, look, item),
      inspect: (change) => this.#damage.inspect(change),
      accepting: (change) => this.#attack.accepting(change),
      overflow: () => this.#overflow(),
      unseen: (path) => this.currency.missed(path),
      isForeign: (path, dev) => this.#roots.isForeign(path, dev),
    });
    this.#losses = new LossJudge(context, {
      grounds: () => this.#roots.grounds(),
      lookAgain: (path, noticedBy) => this.#changes.mark(path, noticedBy),
      isLookedThrough: () => this.#changes.isLookedThrough && !this.#isScanning,
      isStarting: () => context.shared.startScans.areUnderWay,
      isCatchingUp: () => this.#reconciles.isBusyWith((reason) => reason !== "sweep"),
      awaitRemoval: (path) => this.#changes.awaitRemoval(path),
      takesDeparture: (departed) => this.#attack.takesDeparture(departed),
      isAttacked: () => this.#attack.isAlarmed,
      survey: (folder, near) => this.#survey(folder, near),
    });
    const judges = { changes: this.#changes, losses: this.#losses, rest: this.#rest };
    this.recorder = new Recorder(context, { ...judges, currency: this.currency, fresh: this.fresh });
    this.#folders = new FolderKeeper(context, {
      mark: (path, noticedBy) => this.#changes.mark(path, noticedBy),
      missing: (path, known, item) => this.#missing(path, known, item),
      foundUnwatched: (folder) => this.#roots.of(folder)?.foundUnwatched(folder),
      foundChanged: (path, ctimeNs) => this.currency.changedBefore(path, ctimeNs),
      room: () => this.#changes.room(),
    });
    this.#fileSweep = new FileSweep(context, this.#folders.settled);
    this.#reconciles = new ReconcileQueue((order) => this.#reconcile(order), context.shared.walks, context.signal);
    this.#roots = new Roots(context, native, times.pollMs, {
      changed: (heard) => this.#takeHeard(heard),
      reconcile: (under, reason) => this.#reconciles.add({ under, reason, noticedBy: "sweep" }),
      recheck: (folders) => {
        for (const folder of folders) this.#changes.mark(folder, "sweep", true);
      },
      degraded: (key, reason) => this.#degradation.set(key, reason),
      gone: (root) => this.#losses.forgetBelow((path) => isWithin(path, root)),
      deleted: (root) => void this.#expandMissing(root, itemOf("event", context.nowMs())),
      forget: (root) => this.#folders.forget(root),
    });
  }

  /** Begins to watch; resolves when everything has been looked at once. */
  async start(signal: AbortSignal): Promise<void> {
    const { shared, name, source } = this.context;
    const { registry, known, clock } = shared;
    shared.startScans.begin(name, {
      progress: () => this.#walkedCount - this.#changes.freshCount,
      isOver: () => this.context.signal.aborted || (!this.#isScanning && this.#changes.isLookedThrough),
    });
    const lastChange = known.lastChange(name);
    const wasBuilt = await registry.isBuilt(name);
    await this.#rest.read();
    registry.listen(name, (path) => this.#folders.settled.written(path));
    if (!wasBuilt) {
      const count = await registry.rebuild(name, known.currentEntries(name), clock, signal);
      for (const { folder } of source.roots)
        if (await hasLostAll(registry, name, folder)) this.#losses.begunWithout(folder);
      if (count > 0) shared.log.info("registry.rebuilt", { source: name, entries: count });
    } else await registerStored(this.context, lastChange, this.#rest, signal);
    noteThrough(this.context, lastChange);
    await this.#attack.start();
    await this.expected.start();
    await this.#roots.open();
    // Without a run before nobody can have met a name and not judged it.
    this.#recall = wasBuilt ? new ArrivalRecall(shared, this.#rest.trustedMs) : undefined;
    const beganMs = this.context.nowMs();
    const starts = [...new Set(source.roots.map((root) => root.folder))].map((under) =>
      this.#reconciles.add({ under, reason: "start", noticedBy: "start" }),
    );
    const either = AbortSignal.any([signal, this.context.signal]);
    const interrupted = new Promise<void>((resolve) =>
      either.addEventListener("abort", () => resolve(), { once: true }),
    );
    await Promise.race([Promise.all(starts), interrupted]);
    this.#isScanning = false;
    either.throwIfAborted(); // `stop` has cancelled the timers that there were: none may follow
    this.#timers.push(
      clock.every(this.#times.folderSweepMs, () => this.#sweepFolders()),
      clock.every(this.#times.fileSweepMs, () => this.#sweepFiles()),
      clock.every(this.#times.rootCheckMs, () => {
        this.#roots.check();
        if (this.#roots.ears === "inotify") this.#degradation.set("limit", watchLimitReason(this.#folders.count));
        const { notWritable } = shared.registry;
        this.#degradation.set("state", notWritable === undefined ? undefined : `${NOT_WRITABLE}: ${notWritable}`);
        if (notWritable !== undefined) void shared.registry.flush().catch(() => undefined); // it is told above
        this.updateGauges();
        this.#rest.update();
      }),
    );
    this.#rest.looked(beganMs);
    this.updateGauges();
    shared.bus.emit("watch.ready", { source: name });
  }

  #takeHeard({ paths, unnamed, heardAtMs }: HeardChanges): void {
    for (const path of paths) this.#heard(path, heardAtMs);
    for (const folder of unnamed) {
      this.currency.folderMoved(folder);
      this.#changes.mark(folder, "event", true, heardAtMs);
    }
  }

  #heard(path: BytePath, heardAtMs: number): void {
    this.currency.heard(path);
    if (this.#folders.has(path)) this.currency.folderMoved(path);
    this.#changes.mark(path, "event", false, heardAtMs);
  }

  /** Why something may have changed without being known; undefined when everything is heard and was looked at. */
  #doubt(): string | undefined {
    const { state, reason } = this.#state();
    if (state !== "protected") return reason;
    if (this.#overflowTimer !== undefined || this.#reconciles.isBusyWith((why) => why !== "sweep"))
      return "the source is being looked through";
    return this.#roots.doubt;
  }

  /** Stops watching and waits for what is under way. Idempotent. */
  async stop(): Promise<void> {
    this.#abort.abort();
    for (const timer of this.#timers) timer.cancel();
    this.#overflowTimer?.cancel();
    this.context.shared.registry.listen(this.context.name, undefined);
    this.#roots.close();
    await Promise.allSettled([
      this.#changes.stop(),
      this.#damage.stop(),
      this.#attack.stop(),
      this.#losses.stop(),
      this.#reconciles.stop(),
      this.#sweeping,
      this.#rest.stop(),
    ]);
    const labels = { source: this.context.name };
    const { degraded, files, bytes, pending } = this.context.shared.metrics;
    for (const gauge of [degraded, files, bytes, pending]) gauge.remove(labels);
  }

  status(): SourceStatus {
    const { shared, name } = this.context;
    const { files, bytes } = shared.registry.totals(name);
    return {
      name,
      ...this.#state(),
      files,
      bytes,
      pending: this.pending,
      ears: this.#roots.ears,
      unmet: this.expected.unmet,
    };
  }

  get pending(): number {
    return this.#changes.pending + this.#damage.pending + this.#losses.pending;
  }

  updateGauges(): void {
    const { shared, name } = this.context;
    const { files, bytes } = shared.registry.totals(name);
    shared.metrics.files.set(files, { source: name });
    shared.metrics.bytes.set(bytes, { source: name });
    shared.metrics.pending.set(this.pending, { source: name });
  }

  /** Looks at a path as if an event had named it. */
  mark(path: BytePath, noticedBy: NoticedBy): void {
    this.#changes.mark(path, noticedBy);
  }

  /** An announced write stands at its path. */
  ownWriteStands(path: BytePath): void {
    this.#changes.ownWriteStands(path);
  }

  /** Judges content that differs under the stat that is registered as a change, which no look would notice. */
  takeUnseen(path: BytePath, record: RegistryRecord, noticedBy: NoticedBy): void {
    this.#changes.settleUnseen(path, record, { noticedBy, seenAtMs: this.context.nowMs(), thorough: false });
  }

  /** Pauses of these paths (undefined: of all) are about to end: what went in them is judged before; false: not all of it. */
  async pausesEnd(paths: readonly (BytePath | undefined)[]): Promise<boolean> {
    const { shared, source, signal } = this.context;
    const paused = {
      clock: shared.clock,
      roots: source.roots.map(({ folder }) => folder),
      lookThrough: (under: BytePath) => this.#reconciles.add({ under, reason: "resume", noticedBy: "sweep" }),
      mark: (missing: BytePath) => this.#changes.mark(missing, "sweep"),
      isAtRest: () => signal.aborted || this.#isAtRest,
    };
    const areJudged = await Promise.all(paths.map((path) => judgeBeforePauseEnds(paused, path)));
    return areJudged.every(Boolean) && this.#isAtRest;
  }

  /** True when nothing waits for a look or a verdict. */
  get #isAtRest(): boolean {
    const isLooking = this.#isScanning || this.#overflowTimer !== undefined || this.#reconciles.isBusy;
    return !isLooking && this.#changes.isAtRest && this.#losses.isAtRest && !this.context.signal.aborted;
  }

  /** Looks at the roots now, so that `status` tells of them as they are. */
  checkRoots(): void {
    this.#roots.check();
  }

  /** Why nothing can be said or done about a path now, looked at freshly: its storage is away. */
  awayReason(path: BytePath): string | undefined {
    const { shared, name } = this.context;
    const ground = this.#roots.grounds()(path, shared.registry.get(name, path)?.stat.dev);
    return ground.is === "away" ? ground.detail : undefined;
  }

  /** Looks through the whole source, soon. */
  requestReconcile(reason: string): void {
    this.context.shared.log.info("watch.reconcile_requested", { source: this.context.name, reason });
    this.#overflow();
  }

  #state(): Pick<SourceStatus, "state" | "reason"> {
    const { goneReason } = this.#roots;
    return stateOf(this.context, { goneReason, degraded: this.#degradation.reason, isScanning: this.#isScanning });
  }

  #overflow(): void {
    if (this.#overflowTimer !== undefined || this.context.signal.aborted) return;
    this.#degradation.set("overflow", "more changes than can be remembered");
    this.#overflowTimer = this.context.shared.clock.after(OVERFLOW_PAUSE_MS, () => {
      this.#overflowTimer = undefined;
      void this.#reconcileAll("overflow").then(() => this.#degradation.set("overflow", undefined));
    });
  }

  async #reconcileAll(reason: string): Promise<void> {
    const folders = new Set(this.context.source.roots.map((root) => root.folder));
    await Promise.all([...folders].map((under) => this.#reconciles.add({ under, reason, noticedBy: "sweep" })));
  }

  #sweepFolders(): void {
    if (this.#sweeping !== undefined || this.#reconciles.isBusy) return;
    this.#sweeping = this.#folders
      .sweep()
      .then((sinceMs) => (sinceMs === undefined ? undefined : this.#rest.looked(sinceMs)))
      // A pause that could not be forgotten, as on a full disk, is forgotten after the next look.
      .catch((error: unknown) => {
        this.context.shared.log.error("watch.sweep_failed", { source: this.context.name, message: messageOf(error) });
      })
      .finally(() => (this.#sweeping = undefined));
  }

  #sweepFiles(): void {
    if (!this.#reconciles.isBusy) void this.#reconcileAll("sweep");
  }

  async #reconcile(order: ReconcileOrder): Promise<void> {
    const { under, reason } = order;
    const { shared, name, source, signal } = this.context;
    if (signal.aborted || !this.#roots.isThere(under)) return;
    shared.metrics.rescans.add(1, { reason });
    const isSweep = reason === "sweep" && source.roots.some(({ folder }) => folder === under);
    try {
      const unsettled = isSweep ? await this.#fileSweep.unsettled(under) : undefined;
      if (unsettled === undefined) await this.#compareAll(order, isSweep);
      else await this.#compareFolders(unsettled);
    } catch (error) {
      if (this.context.signal.aborted) return;
      if (hasCode(error, "SOURCE_ROOT_GONE")) this.#roots.check();
      else shared.log.error("watch.reconcile_failed", { source: name, ...asHoldfastError(error).toDocument() });
    }
  }

  async #compareAll(order: ReconcileOrder, isSweep: boolean): Promise<void> {
    const { under, noticedBy } = order;
    const { shared, name, source, signal, expectations } = this.context;
    const sides = { walked: source.walk(signal, under), known: shared.registry.entries(name, under) };
    const item = itemOf(noticedBy, this.context.nowMs());
    const isWholeRoot = source.roots.some(({ folder }) => folder === under);
    const tally = isWholeRoot ? expectations.newTally() : undefined;
    const { settled } = this.#folders;
    await reconcile(
      sides,
      {
        found: (entry, known) => {
          if (tally !== undefined && "stat" in entry && entry.kind === "file")
            tally.saw(entry.path, entry.stat.mtimeNs);
          if (!this.#found(entry, known, order) && isSweep) settled.differs(entry.path);
        },
        unseen: (path) => {
          if (isSweep) settled.differs(path);
        },
        absent: (known) => {
          if (isSweep && known.record.state !== "removed") settled.differs(known.path);
          this.#absent(known, item);
        },
        pause: () => this.#changes.room(),
      },
      signal,
    );
    if (isSweep) this.#fileSweep.passed(under);
    if (tally !== undefined) this.expected.looked(under, tally, this.#roots.goneReason === undefined);
  }

  async #compareFolders(folders: readonly BytePath[]): Promise<void> {
    for (const folder of folders) {
      await this.#changes.room();
      this.#changes.mark(folder, "sweep", true);
    }
  }

  /** Marks what is other than registered; false then. */
  #found(
    entry: WalkedEntry,
    known: KnownPath | undefined,
    { noticedBy, reason }: Omit<ReconcileOrder, "under">,
  ): boolean {
    if ("errno" in entry) return false;
    const { path } = entry;
    this.#walkedCount += 1;
    this.currency.saw(path, entry);
    if (entry.kind === "folder") this.#foundFolder(path, entry.stat.mtimeNs, noticedBy);
    const record = known?.record;
    if (record?.state === "live" && isAsRegistered(record, entry)) {
      // It was walked a moment ago: what was missed since is looked at by its judge.
      if (this.#losses.has(path) && lookAt(path).is === "there") this.#losses.present(path);
      if (noticedBy === "start") this.#recall?.note(path, record);
      return true;
    }
    if (reason === "sweep") this.currency.changedBefore(path, entry.stat.ctimeNs);
    if (!isDamageTold(this.context, { path, record }, { entry, noticedBy })) this.#changes.mark(path, noticedBy);
    return false;
  }

  #foundFolder(path: BytePath, mtimeNs: bigint, noticedBy: NoticedBy): void {
    const was = this.#folders.walked(path, mtimeNs);
    if (was !== "known") this.currency.folderMoved(path);
    if (was === "new" && noticedBy !== "start") this.#roots.of(path)?.foundUnwatched(path);
  }

  #absent(known: ReadPath, item: DirtyItem): void {
    const { path, record } = known;
    const { shared, name, source } = this.context;
    if (record.state === "removing" && item.noticedBy === "start") {
      this.recorder.acceptRemoval(path, record, record.reason ?? "removed"); // told again: it was not durable yet
    } else if (record.state === "removed") {
      if (this.context.nowMs() - record.registeredAtMs > REMOVED_KEEP_MS) shared.registry.forget(name, path);
    } else if (!source.includes(path, record.kind) && lookAt(path).is === "there") {
      shared.registry.forget(name, path); // excluded since; the repository keeps its versions
    } else if (this.#roots.isRoot(path)) {
      this.#roots.check();
    } else {
      if (record.kind === "folder") this.#folders.forget(path); // what is known below it comes next
      this.#addLoss(path, known, item);
    }
  }

  async #folder(path: BytePath, look: Parameters<FolderKeeper["examine"]>[1], item: DirtyItem): Promise<void> {
    if (!this.context.source.crossMounts && !this.#roots.isOnRootDevice(path, look.node.stat.dev)) return;
    this.currency.folderMoved(path);
    await this.#folders.examine(path, look, item);
  }

  /** A path is not there: it, and everything known below it, is handed to the judge of losses. */
  async #missing(path: BytePath, known: DatedRecord | undefined, found: DirtyItem): Promise<void> {
    if (this.#roots.isRoot(path)) {
      this.#roots.check();
      return;
    }
    // What went before the start is known when the first look has been everywhere: this went since, whoever looked late.
    const isSince = found.noticedBy === "start" && !this.#isScanning;
    const item = isSince ? itemOf("event", this.context.nowMs()) : found;
    const isFolder = known === undefined ? this.#folders.has(path) : known.record.kind === "folder";
    if (isFolder && !this.#losses.has(path)) await this.#expandMissing(path, item);
    if (known !== undefined) this.#addLoss(path, known, item);
  }

  /** Looks at registered neighbours of a missing path, from its name on and round to it, as many as are cheap. */
  async #survey(folder: BytePath, near: BytePath): Promise<void> {
    const { shared, name } = this.context;
    // Until the first look has been everywhere nobody knows whether it went now or before the start.
    const item = itemOf(this.#isScanning ? "start" : "event", this.context.nowMs());
    const isKnown = (path: BytePath): boolean => this.#losses.has(path);
    for await (const known of missingNeighbours(shared.registry, name, { folder, near, isKnown }))
      await this.#missing(known.path, known, item);
  }

  async #expandMissing(folder: BytePath, item: DirtyItem): Promise<void> {
    const { shared, name } = this.context;
    this.#folders.forget(folder);
    const own = shared.registry.read(name, folder);
    if (own !== undefined) this.#addLoss(folder, own, item);
    for await (const page of shared.registry.entries(name, folder))
      for (const known of page) this.#addLoss(known.path, known, item);
  }

  #addLoss(path: BytePath, known: DatedRecord, item: DirtyItem): void {
    const { record } = known;
    const isTold = record.state === "lost" && record.lossKind === "deleted";
    const isMissed = record.state === "live" || (record.state === "lost" && !isTold);
    if (isMissed || (isTold && item.noticedBy === "start" && forgetTold(this.context, path, record)))
      this.#losses.add(path, known, item);
  }
}

function itemOf(noticedBy: NoticedBy, seenAtMs: number): DirtyItem {
  return { noticedBy, seenAtMs, thorough: false };
}
