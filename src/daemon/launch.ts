/**
 * From options to a composed holdfast, the same way for the daemon and for a command that works alone: configuration,
 * password and store here; what is built over the open store in `assemble.ts`, whose many modules load while the
 * password is stretched.
 */
import { readFile } from "node:fs/promises";
import type { Clock } from "../base/clock.js";
import { HoldfastError, hasCode, messageOf } from "../base/errors.js";
import type { ResourceStack } from "../base/lifecycle.js";
import { type Logger, Secret } from "../base/observe.js";
import type { BytePath } from "../base/paths.js";
import type { Configuration, OnDelete } from "../config/configuration.js";
import { loadConfiguration } from "../config/load.js";
import { readSecret } from "../config/secrets.js";
import type { Repository } from "../engine/repository.js";
import { Metrics } from "../telemetry/prometheus.js";
import type { Assembled, assemble } from "./assemble.js";
import { keyServiceFor } from "./key-service.js";
import { workersWithin } from "./limits.js";
import type { Ground } from "./parts.js";
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

export interface Launched extends Assembled {
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

/**
 * Loads the configuration that the options name, with the extra paths as sources. `forThisMachine`: a reload, which takes
 * nothing that would not start. Throws CONFIG_INVALID.
 */
export async function loadFor(options: LaunchOptions, forThisMachine = false): Promise<Configuration> {
  const loaded = await loadConfiguration({
    forThisMachine,
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
    onUnlocking: () => void loadAssembly().catch(() => undefined), // heard where it is awaited
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
  const assembly = await loadAssembly();
  const assembled = await assembly.assemble(
    composed,
    { repository, load: async () => await loadFor(options, true) },
    owner,
  );
  return { ...assembled, made };
}

/** Once for all: what is loaded is not loaded again. */
async function loadAssembly(): Promise<{ readonly assemble: typeof assemble }> {
  return await import("./assemble.js");
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
