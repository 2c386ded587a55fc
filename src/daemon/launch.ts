/**
 * From options to a composed holdfast, the same way for the daemon and for a command that works alone: configuration,
 * password, store, parts, services, router.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createRouter, type Router, type WriteNote } from "../api/router.js";
import type { Services } from "../api/services.js";
import type { Clock } from "../base/clock.js";
import { HoldfastError, hasCode, messageOf } from "../base/errors.js";
import type { ResourceStack } from "../base/lifecycle.js";
import { type Logger, Secret } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { Configuration, OnDelete } from "../config/configuration.js";
import { loadConfiguration } from "../config/load.js";
import { readSecret } from "../config/secrets.js";
import type { Repository } from "../engine/repository.js";
import { AuditLog } from "../telemetry/audit.js";
import { Metrics } from "../telemetry/prometheus.js";
import { auditEvents, auditWrite } from "./audit-trail.js";
import { compose } from "./compose.js";
import { keyServiceFor } from "./key-service.js";
import { workersWithin } from "./limits.js";
import { Operation } from "./operation.js";
import type { Ground, Parts } from "./parts.js";
import { alertService } from "./services/alerts.js";
import { auditService } from "./services/audit.js";
import { backupService } from "./services/backups.js";
import { browseService } from "./services/browse.js";
import { recoveryService } from "./services/recovery.js";
import { withRealPaths } from "./services/real-paths.js";
import { repositoryService } from "./services/repository.js";
import { retentionService } from "./services/retention.js";
import { cbtService } from "./services/cbt.js";
import { upkeepService } from "./services/upkeep.js";
import { systemService } from "./services/system.js";
import { watchService } from "./services/watch.js";
import { configureSource, freeSourceName } from "./source-defaults.js";
import {
  type MadeRepository,
  type StoreOptions,
  isUnmade,
  makeRepository,
  noteStand,
  openRepository,
  refuseToReplace,
} from "./store.js";
import { holdfastVersion } from "./version.js";

export interface LaunchOptions {
  readonly configPath?: string;
  readonly stateDir?: string;
  readonly socket?: string;
  readonly storeUrl?: string;
  readonly passwordFile?: string;
  readonly noEncrypt?: boolean;
  /** Protected beside the configured sources, under names of their own. */
  readonly extraPaths?: readonly BytePath[];
  readonly onDelete?: OnDelete;
}

export interface Launched {
  readonly parts: Parts;
  readonly operation: Operation;
  readonly services: Services;
  readonly router: Router;
  /** Set when the repository was made just now. */
  readonly made: MadeRepository | undefined;
}

/** Where a launch takes place; `reload` loads the configuration as it was loaded at the start. */
export interface LaunchGround {
  readonly configuration: Configuration;
  readonly log: Logger;
  readonly clock: Clock;
  readonly isDaemon: boolean;
  /** Changes what is logged from now on, after a reload. */
  readonly setLogLevel?: Ground["setLogLevel"];
  readonly signal: AbortSignal;
}

/** Loads the configuration that the options name, with the extra paths as sources. Throws CONFIG_INVALID. */
export async function loadFor(options: LaunchOptions): Promise<Configuration> {
  const loaded = await loadConfiguration({
    ...(options.configPath === undefined ? {} : { configFile: options.configPath }),
    ...(options.stateDir === undefined ? {} : { stateDir: options.stateDir }),
    ...(options.socket === undefined ? {} : { socket: options.socket }),
    ...(options.storeUrl === undefined ? {} : { storeUrl: options.storeUrl }),
  });
  const configured = new Set(loaded.sources.flatMap((source) => source.paths));
  const extra = (options.extraPaths ?? []).filter((path) => !configured.has(path));
  const names = new Set(loaded.sources.map((source) => source.name));
  const added = extra.map((path) => {
    const name = freeSourceName(path, (taken) => names.has(taken));
    names.add(name);
    const settings = options.onDelete === undefined ? {} : { onDelete: options.onDelete };
    return configureSource(loaded, { name, paths: [path], settings });
  });
  return { ...loaded, sources: [...loaded.sources, ...added] };
}

/** Opens the store (making it when `mayMake` and nothing is there) and builds everything over it. */
export async function launch(
  options: LaunchOptions,
  ground: LaunchGround,
  mayMake: boolean,
  owner: ResourceStack,
): Promise<Launched> {
  const { configuration, clock, log, isDaemon, setLogLevel, signal } = ground;
  const version = await holdfastVersion();
  const metrics = new Metrics({ log, processMetrics: isDaemon, build: { version, commit: "" } });
  const password = await passwordFor(options, configuration, log, signal);
  const keyService = password === undefined ? await keyServiceFor(configuration, ground, signal) : undefined;
  const store: StoreOptions = {
    storeUrl: configuration.storeUrl,
    stateDir: configuration.stateDir,
    password,
    keyService,
    encrypt: configuration.encryption.enabled && options.noEncrypt !== true,
    passwordKdf: configuration.encryption.kdf,
    workers: workersWithin(configuration.limits),
    clock,
    observer: metrics,
    signal,
  };
  const isNew = mayMake && (await isUnmade(configuration.storeUrl));
  if (isNew) await refuseToReplace(store);
  const made = isNew ? await makeRepository(store) : undefined;
  const repository = owner.use(await openOrSayWhatStood(store));
  await noteStand(store, repository.id);
  const given = setLogLevel === undefined ? {} : { setLogLevel };
  const composed: Ground = { configuration, password, keyService, clock, metrics, version, isDaemon, ...given, signal };
  const { parts, plan } = await compose(composed, repository, owner);
  const operation = owner.use(await Operation.prepare(parts, plan));
  const audit = owner.use(new AuditLog({ folder: join(configuration.stateDir, "audit"), clock, log }));
  auditEvents(parts.bus, audit);
  const services = servicesOf(parts, { operation, audit }, async () => await loadFor(options));
  const onWrite = (write: WriteNote): void => auditWrite(audit, write);
  const router = await createRouter({ services, observer: metrics, clock, version, onWrite });
  return { parts, operation, services, router, made };
}

/** Of a place where a repository stood before it is said that it is away. Throws what `openRepository` does. */
async function openOrSayWhatStood(store: StoreOptions): Promise<Repository> {
  try {
    return await openRepository(store);
  } catch (error) {
    if (hasCode(error, "REPO_NOT_FOUND")) await refuseToReplace(store);
    throw error;
  }
}

function servicesOf(
  parts: Parts,
  { operation, audit }: { readonly operation: Operation; readonly audit: AuditLog },
  load: () => Promise<Configuration>,
): Services {
  const services: Services = {
    backups: backupService(parts, operation),
    browse: browseService(parts),
    repository: repositoryService(parts, operation),
    retention: retentionService(parts),
    upkeep: upkeepService(parts),
    cbt: cbtService(parts),
    watch: watchService(parts, operation),
    recovery: recoveryService(parts, operation),
    alerts: alertService(parts),
    audit: auditService(audit),
    system: systemService(parts, operation, load),
  };
  return withRealPaths(services, parts);
}

/** The password that was given, in the order option, environment, configuration; undefined: the key beside the state. */
export async function passwordFor(
  options: LaunchOptions,
  configuration: Configuration,
  log: Logger,
  signal: AbortSignal,
): Promise<Secret | undefined> {
  const file = options.passwordFile ?? process.env["HOLDFAST_PASSWORD_FILE"];
  if (file !== undefined) return await passwordFromFile(file);
  const given = process.env["HOLDFAST_PASSWORD"];
  if (given !== undefined && given !== "") return new Secret(given);
  const { key } = configuration.encryption;
  if (key === undefined) return undefined;
  return await readSecret(key, { warn: (message) => log.warn("secret.exposed", { message }) }, signal);
}

async function passwordFromFile(file: string): Promise<Secret> {
  try {
    const text = (await readFile(file, "utf8")).replace(/\r?\n$/, "");
    if (text !== "") return new Secret(text);
  } catch (error) {
    throw new HoldfastError("SECRET_UNREADABLE", `the password file ${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
  throw new HoldfastError("SECRET_UNREADABLE", `the password file ${file} is empty`);
}
