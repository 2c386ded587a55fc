/**
 * The daemon: loads the configuration, opens the store, composes the parts, serves the API, and stays until it is told
 * to stop. SIGTERM and SIGINT end it cleanly, SIGHUP takes the configuration anew, an error that nobody caught ends it
 * with exit code 1. When the local index proves damaged all is closed and begun anew, which makes the index again.
 */
import { existsSync } from "node:fs";
import { ApiServer } from "../api/server.js";
import { socketTransport } from "../api/socket-transport.js";
import { systemClock } from "../base/clock.js";
import { EXIT } from "../base/error-codes.js";
import { HoldfastError, asHoldfastError, hasCode } from "../base/errors.js";
import { ResourceStack } from "../base/lifecycle.js";
import { memoryCalls } from "../base/native-memory.js";
import type { Secret } from "../base/observe.js";
import { pathText } from "../base/paths.js";
import { counted, formatDuration } from "../base/units.js";
import { readSecret } from "../config/secrets.js";
import type { Configuration } from "../config/configuration.js";
import { recompress } from "../engine/recompress.js";
import { type Log, type LogLevel, chooseLogFormat, isJournal, openLog } from "../telemetry/logger.js";
import { type LaunchGround, type LaunchOptions, type Launched, launch, loadFor } from "./launch.js";
import { IdleRecompression, systemPressure } from "./idle-recompression.js";
import { MemoryKeeper } from "./memory-keeper.js";
import { keepStatus } from "./service-status.js";
import { type InheritedSocket, SystemdNotifier, takeInheritedSockets } from "./systemd.js";
import { UncaughtErrors } from "./uncaught.js";

export interface DaemonOptions extends LaunchOptions {
  /** Log as JSON whatever the output is. */
  readonly json?: boolean;
  /** Lines for a person who watches (`holdfast protect` in the foreground); undefined: only the log speaks. */
  readonly announce?: (line: string) => void;
}

/** Work may stand still this long before the watchdog is left to bite, ms. */
const STALL_MAX_MS = 10 * 60_000;
/** How long a command that has the store may keep a starting daemon waiting, ms. */
const LOCK_WAIT_MS = 30_000;
const LOCK_RETRY_MS = 250;

/** A local index that proves damaged so often in one process lies on a disk that fails: the supervisor is to decide. */
const INDEX_MENDS_MAX = 3;

/** Runs until it is told to stop; gives the exit code. Throws what keeps it from starting, and INDEX_DAMAGED. */
export async function runDaemon(options: DaemonOptions): Promise<number> {
  const stop = new AbortController();
  memoryCalls().keepSmall();
  await using signals = new Signals(stop);
  const [inherited] = takeInheritedSockets(process.env, process.pid);
  for (let mends = 0; ; mends += 1) {
    const damage = await damageOf({ options, signals, inherited, run: new AbortController() }, stop.signal);
    if (damage === undefined) return EXIT.ok;
    // A socket that was inherited went with the server, and only the service manager can give it again.
    if (mends === INDEX_MENDS_MAX || inherited !== undefined) throw damage;
  }
}

/** Runs once, to its end; gives why to begin anew, and undefined when it was told to stop. */
async function damageOf(run: Run, stopping: AbortSignal): Promise<HoldfastError | undefined> {
  const { signal: damaged } = run.run;
  try {
    await protectUntilStopped(run, AbortSignal.any([stopping, damaged]));
  } catch (error) {
    if (!stopping.aborted && hasCode(error, "INDEX_DAMAGED")) return error;
    // Told to stop before it stood: what was begun has been closed, nothing is lost.
    if (!stopping.aborted && !damaged.aborted) throw error;
  }
  return stopping.aborted ? undefined : asHoldfastError(damaged.reason);
}

interface Run {
  readonly options: DaemonOptions;
  readonly signals: Signals;
  readonly inherited: InheritedSocket | undefined;
  /** Aborted to begin anew. */
  readonly run: AbortController;
}

async function protectUntilStopped({ options, signals, inherited, run }: Run, signal: AbortSignal): Promise<void> {
  const configuration = await loadFor(options);
  await using owner = new ResourceStack();
  const log = owner.use(daemonLog(options, configuration));
  owner.use(new UncaughtErrors(process, log, (exitCode) => process.exit(exitCode)));
  const notifier = owner.use(
    new SystemdNotifier({ environment: process.env, pid: process.pid, clock: systemClock, log }),
  );
  for (const warning of configuration.warnings) log.warn("config.doubtful", { warning });
  const isWatched = options.announce !== undefined; // then only errors are logged, beside what is announced
  const levels = isWatched ? {} : { setLogLevel: (level: LogLevel) => log.setLevel(level) };
  const ground = { configuration, log, clock: systemClock, isDaemon: true, ...levels, signal };
  // A socket that the service manager holds for us is ours: nobody would answer on it but this daemon.
  const rival = inherited === undefined ? configuration.socket.path : undefined;
  const launched = await launchPatiently({ options, ground, rival }, owner);
  beginAnewWhenDamaged(launched, run, log);
  const asides = new Asides(log, signal);
  owner.defer(async () => await asides.ended());
  // Before anybody may ask: a source that was protected, or an incident decided, while this begins would come up twice or
  // lose what it was told.
  await launched.operation.start();
  owner.use(await serve(launched, inherited, signal));
  signals.onReload(() => asides.begin("reload", async () => await reload(launched, notifier, log)));
  owner.defer(() => signals.onReload(undefined)); // begun anew, the next launch takes it
  keepMemorySmall(launched, owner);
  recompressWhenIdle(launched, owner);
  notifier.ready("Looking at the protected folders");
  notifier.startWatchdog(progressOf(launched));
  const tell = (line: string): void => notifier.status(line);
  announceStart(options, launched, configuration);
  asides.begin("start", async () => {
    await launched.operation.started();
    if (signal.aborted) return;
    const status = keepStatus({ clock: systemClock, sources: () => launched.parts.monitor.status(), tell });
    owner.defer(() => status[Symbol.dispose]());
    await announceProtected(launched, options);
  });
  log.info("daemon.started", { pid: process.pid, store: configuration.storeUrl, socket: configuration.socket.path });
  await aborted(signal);
  if (run.signal.aborted) return;
  notifier.stopping("Finishing");
  log.info("daemon.stopping", { signal: signals.reason });
}

/** What is logged when the repository ends by itself. */
const EVENT_OF_END: Readonly<Record<string, string>> = { REPO_LOCKED: "lease.lost", REPO_NOT_FOUND: "store.gone" };

/** What is acknowledged is in the store, and the index can be made from it. */
function beginAnewWhenDamaged({ parts }: Launched, run: AbortController, log: Log): void {
  const { indexDamage } = parts.repository;
  const begin = (): void => {
    const { code, message } = asHoldfastError(indexDamage.reason);
    const event = EVENT_OF_END[code] ?? "index.damaged";
    log.error(event, { code, message, next: "everything is closed and begun anew from what the store has" });
    run.abort(indexDamage.reason);
  };
  if (indexDamage.aborted) begin();
  else indexDamage.addEventListener("abort", begin, { once: true });
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** Work beside the main flow; it is waited for at the end, and its failures are logged. */
class Asides {
  readonly #log: Log;
  readonly #stopping: AbortSignal;
  readonly #running = new Set<Promise<void>>();

  constructor(log: Log, stopping: AbortSignal) {
    this.#log = log;
    this.#stopping = stopping;
  }

  begin(name: string, work: () => Promise<void>): void {
    const running = work()
      .catch((error: unknown) => {
        const { code, message } = asHoldfastError(error);
        if (!this.#stopping.aborted) this.#log.error("daemon.aside_failed", { name, code, message });
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  async ended(): Promise<void> {
    await Promise.all(this.#running);
  }
}

interface Start {
  readonly options: DaemonOptions;
  readonly ground: LaunchGround;
  /** Socket on which another daemon may answer. */
  readonly rival: string | undefined;
}

/**
 * Launches; waits a while when a command that works alone (`holdfast status` at the wrong moment) has the store. Throws
 * DAEMON_RUNNING at once when a daemon answers on the socket.
 */
async function launchPatiently({ options, ground, rival }: Start, owner: ResourceStack): Promise<Launched> {
  const deadlineMs = systemClock.monotonicMs() + LOCK_WAIT_MS;
  for (;;) {
    if (rival !== undefined && (await isAnswered(rival, ground.signal))) {
      throw new HoldfastError("DAEMON_RUNNING", `a daemon answers on ${rival} already`);
    }
    await using attempt = new ResourceStack();
    try {
      const launched = await launch(options, ground, true, attempt);
      owner.use(attempt.move());
      return launched;
    } catch (error) {
      const isLocked = hasCode(error, "REPO_LOCKED") || hasCode(error, "INDEX_LOCKED");
      if (!isLocked || systemClock.monotonicMs() > deadlineMs) throw error;
      await systemClock.sleep(LOCK_RETRY_MS, ground.signal);
    }
  }
}

async function isAnswered(socketPath: string, signal: AbortSignal): Promise<boolean> {
  if (!existsSync(socketPath)) return false;
  try {
    const answer = await socketTransport(socketPath).send({ method: "GET", path: "/healthz" }, signal);
    for await (const _part of answer.body) signal.throwIfAborted();
    return true;
  } catch (error) {
    return !hasCode(error, "DAEMON_UNREACHABLE");
  }
}

function daemonLog(options: DaemonOptions, configuration: Configuration): Log {
  const format = options.announce === undefined ? chooseLogFormat(process.env, options.json === true) : "text";
  const stream = format === "json" ? process.stdout : process.stderr;
  return openLog({
    level: options.announce === undefined ? configuration.log.level : "error",
    format,
    journal: isJournal(process.env, format === "json" ? 1 : 2),
    stream,
    colour: process.stderr.isTTY && process.env["NO_COLOR"] === undefined,
    clock: systemClock,
  });
}

async function serve(
  launched: Launched,
  inherited: InheritedSocket | undefined,
  signal: AbortSignal,
): Promise<ApiServer> {
  const { configuration } = launched.parts.ground;
  const { socket, metrics } = configuration;
  return await ApiServer.start(launched.router, {
    socketPath: socket.path,
    mode: socket.mode,
    access: { group: socket.group, others: socket.others },
    ...(inherited === undefined ? {} : { activatedFd: inherited.fd }),
    ...(metrics.listen === undefined
      ? {}
      : { metrics: { listen: metrics.listen, token: await metricsToken(configuration, signal) } }),
  });
}

async function metricsToken(configuration: Configuration, signal: AbortSignal): Promise<Secret> {
  const { token } = configuration.metrics;
  if (token === undefined) throw new HoldfastError("CONFIG_INVALID", "metrics.listen needs metrics.token");
  return await readSecret(token, {}, signal);
}

async function reload(launched: Launched, notifier: SystemdNotifier, log: Log): Promise<void> {
  notifier.reloading();
  try {
    const { plan } = await launched.services.system.reload();
    log.info("config.reloaded", { plan });
  } catch (error) {
    const { code, message } = asHoldfastError(error);
    log.error("config.refused", { code, message });
  }
  notifier.ready();
}

/** Packs are recompressed while nothing else is to be done. */
function recompressWhenIdle({ parts }: Launched, owner: ResourceStack): void {
  const { jobs, queue, repository, settings, recompressed: tried, ground } = parts;
  owner.use(
    new IdleRecompression({
      clock: systemClock,
      observer: ground.metrics,
      settings: () => settings.current.recompress,
      isQuiet: () => queue.pendingTotal === 0 && jobs.list().every(({ state }) => state !== "running"),
      pressure: systemPressure,
      run: async (options, signal) => await recompress(repository, { ...options, tried }, signal),
    }),
  );
}

function keepMemorySmall({ parts }: Launched, owner: ResourceStack): void {
  const memory = memoryCalls();
  let lastCount = -1;
  /** Nothing is under way, and nothing was since the last time that this was asked. */
  const isQuiet = (): boolean => {
    const count = parts.queue.commitCount + parts.jobs.finishedCount;
    const isSame = count === lastCount;
    lastCount = count;
    return isSame && parts.queue.pendingTotal === 0 && parts.jobs.list().every(({ state }) => state !== "running");
  };
  const keeper = new MemoryKeeper({
    clock: systemClock,
    collect: () => memory.collect(),
    giveBack: () => {
      memory.giveBack();
      memory.letGoOfFiles(parts.ground.configuration.stateDir);
    },
    isQuiet,
    residentBytes: () => process.memoryUsage.rss(),
  });
  owner.defer(() => keeper[Symbol.dispose]());
}

/** For the watchdog: true while nothing waits, or something has moved within `STALL_MAX_MS`. */
function progressOf({ parts }: Launched): () => boolean {
  let lastCount = -1;
  let lastMoveMs = 0;
  return () => {
    const nowMs = systemClock.monotonicMs();
    const count = parts.queue.commitCount + parts.jobs.finishedCount;
    const isIdle = parts.queue.pendingTotal === 0 || parts.queue.isStoreBad;
    if (isIdle || count !== lastCount) [lastCount, lastMoveMs] = [count, nowMs];
    return nowMs - lastMoveMs < STALL_MAX_MS;
  };
}

function announceStart({ announce }: DaemonOptions, { made, parts }: Launched, configuration: Configuration): void {
  if (announce === undefined) return;
  const state = made === undefined ? "opened" : parts.repository.encrypted ? "new, AES-256-GCM" : "new, not encrypted";
  announce(`store     ${configuration.storeUrl}  (${state})`);
  if (made?.recoveryKey !== undefined) {
    announce(`recovery  ${made.recoveryKey.reveal()}`);
    announce("          Write this key down: with it and the store everything can be restored, without this machine.");
  }
  announce(`control   ${configuration.socket.path}`);
  parts.bus.on("incident.healed", (healed) => void announceHealed(announce, parts, healed));
  parts.bus.on("incident.held", ({ id, paths, reason }) =>
    announce(`held      ${counted(paths, "file")}: ${reason}. Decide: holdfast incidents show ${id}`),
  );
  parts.bus.on("incident.failed", ({ id, message }) =>
    announce(`failed    ${message}. See: holdfast incidents show ${id}`),
  );
  parts.bus.on("file.removed", ({ path, reason }) => announce(`removed   ${pathText(path)} (${reason})`));
}

async function announceHealed(
  announce: (line: string) => void,
  parts: Launched["parts"],
  healed: { readonly id: string; readonly paths: number; readonly durationMs: number },
): Promise<void> {
  const incident = await parts.healer.incident(healed.id);
  const first = incident.paths[0];
  const what = healed.paths === 1 && first !== undefined ? pathText(first) : counted(healed.paths, "file");
  const origin = incident.taken === undefined ? "" : ` from ${incident.taken.strategy}`;
  announce(`healed    ${what}  (${incident.kind}${origin}, ${formatDuration(healed.durationMs)})`);
}

async function announceProtected({ services }: Launched, { announce }: DaemonOptions): Promise<void> {
  if (announce === undefined) return;
  const { sources } = await services.system.status();
  for (const source of sources) {
    const note = source.reason === null ? "" : `  (${source.reason})`;
    const word = source.state === "root_gone" ? "missing " : "watching";
    announce(`${word}  ${source.paths.join(" ")}  ${counted(source.files, "file")}${note}`);
  }
  if (sources.every((source) => source.state === "root_gone")) {
    announce("waiting   Nothing to protect is there yet: is the path right, is its disk mounted? Ctrl-C ends.");
    return;
  }
  announce("ready     Delete or break a protected file and look: it comes back. Ctrl-C ends.");
}

/** SIGTERM and SIGINT stop, SIGHUP reloads. A second SIGINT does not wait. */
class Signals implements AsyncDisposable {
  readonly #stop: AbortController;
  #reload: (() => void) | undefined;
  /** SIGHUP came before anybody could take it: the file may have been read before it was changed. */
  #isReloadAsked = false;
  reason = "";

  constructor(stop: AbortController) {
    this.#stop = stop;
    process.on("SIGTERM", this.#onStop);
    process.on("SIGINT", this.#onStop);
    process.on("SIGHUP", this.#onReload);
  }

  /** Who takes SIGHUP from now on; one that came while nobody did is given at once. */
  onReload(reload: (() => void) | undefined): void {
    this.#reload = reload;
    if (reload === undefined || !this.#isReloadAsked) return;
    this.#isReloadAsked = false;
    reload();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.off("SIGTERM", this.#onStop);
    process.off("SIGINT", this.#onStop);
    process.off("SIGHUP", this.#onReload);
    await Promise.resolve();
  }

  readonly #onStop = (signal: NodeJS.Signals): void => {
    if (signal === "SIGINT" && this.#stop.signal.aborted) process.exit(EXIT.interrupted);
    this.reason = signal;
    this.#stop.abort(new HoldfastError("INTERRUPTED", `stopped by ${signal}`));
  };

  readonly #onReload = (): void => {
    if (this.#reload === undefined) this.#isReloadAsked = true;
    else this.#reload();
  };
}
