/**
 * The only place that builds the parts and joins them: who gets which port, and which event goes where. Everything
 * built here is owned by the stack that is handed in and closed in reverse order.
 */
import { hostname } from "node:os";
import { AlertDispatcher } from "../alerts/dispatcher.js";
import { resolveRules } from "../alerts/rules.js";
import { EventBus } from "../base/events.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import type { ResourceStack } from "../base/lifecycle.js";
import { type BytePath, pathFromText } from "../base/paths.js";
import type { AlertsConfiguration } from "../config/configuration.js";
import type { CommitReceipt, Repository } from "../engine/repository.js";
import { Monitor } from "../monitor/monitor.js";
import { ChangeQueue } from "../policy/change-queue.js";
import { JobRunner } from "../policy/job-runner.js";
import { Healer } from "../recovery/healer.js";
import type { HealPolicy } from "../recovery/ports.js";
import { localFolderOf } from "../storage/open.js";
import { AutoRepair } from "./auto-repair.js";
import { BackupWork } from "./backup-work.js";
import { EventLog } from "./event-log.js";
import type { Ground, Parts } from "./parts.js";
import { alertChannels, recoveryStrategies } from "./plugins.js";
import { SourceBook } from "./source-book.js";
import { configureSource } from "./source-defaults.js";
import { type StateDatabase, openStateDatabase } from "./state-database.js";

/** Builds all parts over an open repository. Nothing watches, heals or tells before `Operation.start`. */
export async function compose(ground: Ground, repository: Repository, owner: ResourceStack): Promise<Parts> {
  const { clock, metrics, configuration, version } = ground;
  const settings = { current: configuration };
  const database = await openStateDatabase(configuration.stateDir, clock, metrics.log);
  owner.defer(() => database.close());
  const bus = new EventBus((name, error) => metrics.log.error("event.fault", { name, message: messageOf(error) }));
  const jobs = owner.use(new JobRunner(clock, metrics.log));
  const book = await openBook(ground, repository, database, settings);
  const backupWork = new BackupWork(repository, book, version);
  const monitor = owner.use(
    await Monitor.open({
      clock,
      observer: metrics,
      bus,
      store: database.sublevel("monitor"),
      known: repository,
      stateDir: configuration.stateDir,
      times: { scrubMs: configuration.verify.checksumsEveryMs },
    }),
  );
  const healer = owner.use(
    new Healer({
      clock,
      observer: metrics,
      bus,
      database: database.sublevel("incidents"),
      stateDir: configuration.stateDir,
      versions: repository,
      watch: monitor,
      strategies: recoveryStrategies(repository, clock),
      policyFor: (source, path) => healPolicy(book, monitor, settings.current.mass.then, source, path),
    }),
  );
  const queue = owner.use(changeQueue({ ground, bus, repository, book, monitor }));
  const repair = new AutoRepair({ jobs, backupWork, repository, healer, settings, bus });
  const alerts = ground.isDaemon
    ? owner.use(await openAlerts(ground, configuration.alerts, { bus, database, repair }))
    : undefined;
  const events = new EventLog(bus, clock);
  const startedAtMs = clock.nowMs();
  return {
    ground,
    settings,
    bus,
    repository,
    book,
    monitor,
    healer,
    queue,
    jobs,
    backupWork,
    alerts,
    events,
    startedAtMs,
  };
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
  const book = new SourceBook(database.sublevel("sources"), surroundings, (name, paths, onDelete) =>
    configureSource(settings.current, { name, paths, onDelete }),
  );
  await book.load(configuration.sources);
  const open = book.all().find((source) => source.configuration.encryptionRequired);
  if (open !== undefined && !repository.encrypted) {
    throw new HoldfastError("ENCRYPTION_REQUIRED", `the source ${open.name} demands encryption and the store has none`);
  }
  return book;
}

function healPolicy(
  book: SourceBook,
  monitor: Monitor,
  mass: "hold" | "heal",
  source: string,
  path: BytePath,
): HealPolicy {
  const { mode } = monitor.explain(path);
  return book.get(source).healPolicy(path, mode, mass);
}

function changeQueue(around: {
  readonly ground: Ground;
  readonly bus: EventBus;
  readonly repository: Repository;
  readonly book: SourceBook;
  readonly monitor: Monitor;
}): ChangeQueue<CommitReceipt> {
  const { ground, bus, repository, book, monitor } = around;
  return new ChangeQueue<CommitReceipt>({
    clock: ground.clock,
    observer: ground.metrics,
    bus,
    commit: (source, changes, signal) => repository.commitChanges(source, changes, signal),
    onDurable: (source, receipt) => monitor.recordDurable(source, receipt),
    onOverflow: (source) => monitor.requestReconcile(source, "more changes than can be remembered"),
    priorityOf: (source) => book.find(source)?.configuration.priority ?? "medium",
  });
}

async function openAlerts(
  ground: Ground,
  configured: AlertsConfiguration,
  parts: { readonly bus: EventBus; readonly database: StateDatabase; readonly repair: AutoRepair },
): Promise<AlertDispatcher> {
  const { clock, metrics } = ground;
  const warn = (message: string): void => metrics.log.warn("secret.exposed", { message });
  const channels = await alertChannels(configured.channels, warn, ground.signal);
  const rules = configured.rules.map(({ autoRetry, threshold, ...rule }) => ({
    ...rule,
    ...(threshold === undefined ? {} : { threshold }),
    ...(autoRetry === undefined ? {} : { autoRetry }),
  }));
  return await AlertDispatcher.open({
    bus: parts.bus,
    bucket: parts.database.sublevel("alerts"),
    channels,
    rules: resolveRules(
      rules,
      channels.map((channel) => channel.name),
    ),
    auto: parts.repair,
    clock,
    observer: metrics,
    host: hostname(),
  });
}
