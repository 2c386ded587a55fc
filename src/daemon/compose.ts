/**
 * The only place that builds the parts and joins them: who gets which port, and which event goes where. Everything
 * built here is owned by the stack that is handed in and closed in reverse order.
 */
import { hostname } from "node:os";
import { AlertDispatcher } from "../alerts/dispatcher.js";
import { EventBus } from "../base/events.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import type { ResourceStack } from "../base/lifecycle.js";
import { type BytePath, isWithin, pathFromText, pathText } from "../base/paths.js";
import type { CommitReceipt, Repository } from "../engine/repository.js";
import { isEmptyFolder } from "../monitor/look.js";
import { Monitor } from "../monitor/monitor.js";
import { BackupJobs } from "../policy/backup-jobs.js";
import { ChangeQueue } from "../policy/change-queue.js";
import { JobRunner } from "../policy/job-runner.js";
import { SpaceWatch } from "../policy/space.js";
import { Healer } from "../recovery/healer.js";
import { localFolderOf } from "../storage/open.js";
import { addProcessSeries } from "../telemetry/series.js";
import { AutoRepair } from "./auto-repair.js";
import { BackupWork, type WatchKnowledge } from "./backup-work.js";
import { EventLog } from "./event-log.js";
import { changesWithin } from "./limits.js";
import type { Ground, Parts } from "./parts.js";
import { pinsOf } from "./pins.js";
import { Plan } from "./plan.js";
import { alertChannels, recoveryStrategies } from "./plugins.js";
import type { ProtectedSource } from "./protected-source.js";
import { RetentionBook } from "./retention-book.js";
import { SourceBook } from "./source-book.js";
import { configureSource } from "./source-defaults.js";
import { type StateDatabase, closeStateDatabase, openStateDatabase } from "./state-database.js";
import { StoreGauges } from "./store-gauges.js";
import { Telling, type TellingPorts, alertRules, fullShareOf } from "./telling.js";

/** Everything built, and the plan over it. */
export interface Composition {
  readonly parts: Parts;
  readonly plan: Plan;
}

/** Builds all parts over an open repository. Nothing watches, heals or tells before `Operation.start`. */
export async function compose(ground: Ground, repository: Repository, owner: ResourceStack): Promise<Composition> {
  const { clock, metrics, configuration, version } = ground;
  const settings = { current: configuration };
  const database = await openStateDatabase(configuration.stateDir, clock, metrics.log);
  owner.defer(() => closeStateDatabase(configuration.stateDir, database));
  const bus = new EventBus((name, error) => metrics.log.error("event.fault", { name, message: messageOf(error) }));
  const jobs = owner.use(new JobRunner(clock, metrics.log));
  const book = await openBook(ground, repository, database, settings);
  const strategies = recoveryStrategies(repository, clock, ...(await pinsOf({ ground, bus, repository, book }, owner)));
  addProcessSeries(
    metrics,
    strategies.map(({ id }) => id),
  );
  const retention = await RetentionBook.open(configuration.stateDir, metrics.log);
  const bucket = database.sublevel("backups");
  const backupJobs = new BackupJobs({ clock, bus, observer: metrics, bucket });
  owner.defer(() => backupJobs[Symbol.dispose]());
  const monitor = owner.use(await openMonitor(ground, repository, database, bus));
  const backupWork = new BackupWork(repository, book, version, watchKnowledge({ ground, monitor, repository }));
  const healer = owner.use(
    new Healer({
      clock,
      observer: metrics,
      bus,
      database: database.sublevel("incidents"),
      stateDir: configuration.stateDir,
      versions: repository,
      watch: monitor,
      strategies,
      policyFor: (source, path) => book.get(source).healPolicy(path, monitor.modeOf(path), settings.current.mass.then),
    }),
  );
  const space = spaceWatch(ground, repository, bus);
  owner.defer(() => space[Symbol.dispose]());
  const queue = owner.use(changeQueue({ ground, bus, repository, book, monitor, space }));
  const gaugeBucket = database.sublevel("verify");
  const storeGauges = await StoreGauges.open({ clock, bus, observer: metrics, bucket: gaugeBucket, repository });
  owner.defer(() => storeGauges[Symbol.dispose]());
  const events = new EventLog(bus, clock);
  const startedAtMs = clock.nowMs();
  const parts: Parts = {
    ground,
    settings,
    bus,
    repository,
    book,
    retention,
    monitor,
    healer,
    queue,
    jobs,
    backupWork,
    backupJobs,
    space,
    storeGauges,
    telling: new Telling(),
    events,
    ...bucketsOf(database),
    startedAtMs,
  };
  const plan = new Plan(parts, database.sublevel("schedules"), owner);
  owner.use(parts.telling);
  if (ground.isDaemon) {
    const auto = new AutoRepair({ jobs, healer, plan });
    parts.telling.openWith(tellingPorts({ ground, bus, database, auto, startedAtMs }));
    await parts.telling.take(configuration.alerts, undefined);
  }
  return { parts, plan };
}

/** What parts keep in mind in a few words. */
function bucketsOf(database: StateDatabase): Pick<Parts, "blocksSince" | "recompressed"> {
  return { blocksSince: database.sublevel("cbt"), recompressed: database.sublevel("recompressed") };
}

async function openMonitor(
  ground: Ground,
  repository: Repository,
  database: StateDatabase,
  bus: EventBus,
): Promise<Monitor> {
  const { clock, metrics, configuration } = ground;
  return await Monitor.open({
    clock,
    observer: metrics,
    bus,
    store: database.sublevel("monitor"),
    known: repository,
    stateDir: configuration.stateDir,
    times: { scrubMs: configuration.verify.checksumsEveryMs },
    expectChange: () => repository.expectChanges(),
    actors: configuration.watch.actors,
    stopAttacker: configuration.watch.stopAttacker,
  });
}

/** Folders are left out: one that came back is walked like any other. */
interface Watched {
  readonly ground: Ground;
  readonly monitor: Monitor;
  readonly repository: Repository;
}

/** What the monitor knows, as a backup asks for it. */
function watchKnowledge(watched: Watched): WatchKnowledge {
  const { monitor } = watched;
  return {
    awayReason: async (source) => await awayReason(source, watched),
    hiddenPoints: async ({ files }) => await monitor.hiddenPoints(files),
    isUndecided: (name, path) => isUndecided(monitor, name, path),
    verifiedMs: (name, path, sha256) => {
      const record = monitor.registry.get(name, path);
      return record?.sha256 === sha256 ? record.lastVerifiedMs : undefined;
    },
    suspect: (name, path) => monitor.suspect(name, path),
    currency: async (name, walkedBecause) => await monitor.currency(name, walkedBecause),
  };
}

function isUndecided(monitor: Monitor, source: string, path: BytePath): boolean {
  if (monitor.registry.lostCount(source) === 0) return false; // a backup asks for each path
  const record = monitor.registry.get(source, path);
  return record?.state === "lost" && record.kind !== "folder";
}

/**
 * The monitor remembers what a source stood on. A command that works alone may run where no daemon ever watched: there
 * an empty folder of which files are stored counts as the mount point of a disk that is away.
 */
async function awayReason(
  source: ProtectedSource,
  { ground, monitor, repository }: Watched,
): Promise<string | undefined> {
  const reason = await monitor.awayReason(source.files);
  if (reason !== undefined || ground.isDaemon) return reason;
  const empty = source.folders.filter(isEmptyFolder);
  if (empty.length === 0) return undefined;
  for await (const { path } of repository.currentEntries(source.name)) {
    const folder = empty.find((candidate) => candidate !== path && isWithin(path, candidate));
    if (folder === undefined) continue;
    return `${pathText(folder)} is empty though files of it are stored: is its disk mounted? (Emptied on purpose: put any file there.)`;
  }
  return undefined;
}

function spaceWatch({ clock, metrics, configuration }: Ground, repository: Repository, bus: EventBus): SpaceWatch {
  return new SpaceWatch({
    clock,
    bus,
    observer: metrics,
    tier: "hot",
    space: () => repository.spaceInfo(),
    fullShare: fullShareOf(configuration.alerts),
  });
}

async function openBook(
  ground: Ground,
  repository: Repository,
  database: StateDatabase,
  settings: Parts["settings"],
): Promise<SourceBook> {
  const { configuration } = ground;
  const store = localFolderOf(configuration.storeUrl);
  const ownFolders = [pathFromText(configuration.stateDir), ...(store === undefined ? [] : [pathFromText(store)])];
  const surroundings = { ownFolders, knownKind: (path: BytePath) => repository.current(path)?.node.kind };
  const book = new SourceBook(database.sublevel("sources"), surroundings, (added) =>
    configureSource(settings.current, added),
  );
  await book.load(configuration.sources);
  const open = book.all().find((source) => source.configuration.encryptionRequired);
  if (open !== undefined && !repository.encrypted) {
    throw new HoldfastError("ENCRYPTION_REQUIRED", `the source ${open.name} demands encryption and the store has none`);
  }
  return book;
}

function changeQueue(around: {
  readonly ground: Ground;
  readonly bus: EventBus;
  readonly repository: Repository;
  readonly book: SourceBook;
  readonly monitor: Monitor;
  readonly space: SpaceWatch;
}): ChangeQueue<CommitReceipt> {
  const { ground, bus, repository, book, monitor, space } = around;
  return new ChangeQueue<CommitReceipt>({
    clock: ground.clock,
    observer: ground.metrics,
    bus,
    commit: (source, changes, signal) => repository.commitChanges(source, changes, signal),
    onDurable: (source, receipt) => monitor.recordDurable(source, receipt),
    onOverflow: (source) => monitor.requestReconcile(source, "more changes than can be remembered"),
    priorityOf: (source) => book.find(source)?.configuration.priority ?? "medium",
    space,
    pathsMax: changesWithin(ground.configuration.limits),
  });
}

function tellingPorts(around: {
  readonly ground: Ground;
  readonly bus: EventBus;
  readonly database: StateDatabase;
  readonly auto: AutoRepair;
  /** Start of the process, wall ms; also for a dispatcher that a reload opens. */
  readonly startedAtMs: number;
}): TellingPorts {
  const { bus, database, auto, startedAtMs } = around;
  const { clock, metrics, signal } = around.ground;
  const warn = (message: string): void => metrics.log.warn("secret.exposed", { message });
  return {
    channels: async (alerts) => await alertChannels(alerts.channels, warn, signal),
    open: async (alerts, channels) =>
      await AlertDispatcher.open({
        bus,
        bucket: database.sublevel("alerts"),
        channels,
        rules: alertRules(alerts),
        auto,
        clock,
        observer: metrics,
        host: hostname(),
        startedAtMs,
      }),
  };
}
