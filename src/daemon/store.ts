/**
 * Opens the repository a configuration names, with its key: a password or key that was given, else the random key
 * beside the state (`keys/<repository id>`, 0600). Makes the repository when its place is empty and that is wanted.
 */
import { mkdir, readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileDurably } from "../base/atomic-file.js";
import type { Clock } from "../base/clock.js";
import { HoldfastError, errnoOf, hasCode } from "../base/errors.js";
import type { Secret } from "../base/observe.js";
import { type Observer } from "../base/observe.js";
import { Repository, type Unlock } from "../engine/repository.js";
import { readConfig, type RepositoryConfig } from "../engine/repository-config.js";
import { localFolderOf, openBackend } from "../storage/open.js";

export interface StoreOptions {
  readonly storeUrl: string;
  /** Absolute. */
  readonly stateDir: string;
  /** A password from a file, the environment or the configuration; wins over the key beside the state. */
  readonly password: Secret | undefined;
  readonly encrypt: boolean;
  readonly workers: number | undefined;
  readonly readOnly?: boolean;
  readonly clock: Clock;
  readonly observer: Observer;
  readonly signal: AbortSignal;
}

export interface MadeRepository {
  readonly repositoryId: string;
  /** Shown to the person once; undefined for an unencrypted repository. */
  readonly recoveryKey: Secret | undefined;
  /** Where the key lies; undefined when a password opens it. */
  readonly keyFile: string | undefined;
}

/** Makes a repository. Throws REPO_EXISTS, REPO_NOT_EMPTY, STORE_READ_ONLY. */
export async function makeRepository(options: StoreOptions): Promise<MadeRepository> {
  const made = await Repository.init({
    storeUrl: options.storeUrl,
    encrypt: options.encrypt,
    ...(options.password === undefined ? {} : { password: options.password }),
    clock: options.clock,
    observer: options.observer,
  });
  let keyFile: string | undefined;
  if (made.keyBytes !== undefined) {
    keyFile = keyFileOf(options.stateDir, made.repositoryId);
    await mkdir(join(options.stateDir, "keys"), { recursive: true, mode: 0o700 });
    await writeFileDurably(keyFile, made.keyBytes.toString("hex"), { mode: 0o600 });
  }
  return { repositoryId: made.repositoryId, recoveryKey: made.recoveryKey, keyFile };
}

/** Opens the repository. Throws REPO_NOT_FOUND, REPO_KEY_MISSING, REPO_KEY_WRONG, REPO_LOCKED, INDEX_LOCKED. */
export async function openRepository(options: StoreOptions): Promise<Repository> {
  await mkdir(options.stateDir, { recursive: true, mode: 0o700 });
  const config = await repositoryConfig(options);
  return await Repository.open({
    storeUrl: options.storeUrl,
    stateDir: options.stateDir,
    unlock: config.encrypted ? await unlockFor(options, config.repository_id) : undefined,
    ...(options.readOnly === undefined ? {} : { readOnly: options.readOnly }),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
    clock: options.clock,
    observer: options.observer,
    signal: options.signal,
  });
}

/** True when there is nothing at the place yet, so that a repository may be made there. */
export async function isUnmade(storeUrl: string): Promise<boolean> {
  const folder = localFolderOf(storeUrl);
  if (folder === undefined) return false;
  try {
    return (await readdir(folder)).every((name) => name === "lost+found");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return true;
    throw new HoldfastError("STORE_IO", `cannot look at the store ${storeUrl}`, { cause: error });
  }
}

/** The key file beside the state for a repository. */
export function keyFileOf(stateDir: string, repositoryId: string): string {
  return join(stateDir, "keys", repositoryId);
}

async function repositoryConfig(options: StoreOptions): Promise<RepositoryConfig> {
  await using backend = await openBackend(options.storeUrl);
  return (await readConfig(backend, options.signal)).config;
}

async function unlockFor(options: StoreOptions, repositoryId: string): Promise<Unlock> {
  if (options.password !== undefined) return { password: options.password };
  const file = keyFileOf(options.stateDir, repositoryId);
  try {
    return { keyBytes: Buffer.from((await readFile(file, "utf8")).trim(), "hex") };
  } catch (error) {
    if (hasCode(error, "REPO_KEY_MISSING")) throw error;
    throw new HoldfastError("REPO_KEY_MISSING", `the repository is encrypted and its key ${file} cannot be read`, {
      hint: "Give --password-file, or put the key file back from the recovery kit.",
      cause: error,
    });
  }
}
