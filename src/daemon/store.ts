/**
 * Opens the repository a configuration names, with its key: a password or key that was given, else the random key
 * beside the state (`keys/<repository id>`, 0600). Makes the repository when its place is empty and that is wanted.
 */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, readdir, rename, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncFolder, unlinkIfThere, writeFileDurably } from "../base/atomic-file.js";
import type { Clock } from "../base/clock.js";
import { HoldfastError, errnoOf, hasCode, messageOf } from "../base/errors.js";
import { makeFolders } from "../base/make-folders.js";
import type { Secret } from "../base/observe.js";
import { type Observer } from "../base/observe.js";
import { isRecoveryKey } from "../engine/keys.js";
import { type InitOptions, type InitResult, Repository, type Unlock } from "../engine/repository.js";
import { readConfig, type RepositoryConfig } from "../engine/repository-config.js";
import type { KeyService } from "../storage/key-service.js";
import { localFolderOf, openBackend } from "../storage/open.js";
import { keepRecoveryKey } from "./recovery-key.js";

const KEY_BYTES = 32;
/** Name of the key of a repository that is being made. */
const PENDING_KEY = "pending";
/** Says beside the state which repository stood last, and where. */
const STAND_FILE = "repository.json";

interface Stand {
  readonly store_url: string;
  readonly repository_id: string;
}

/** Places that are remembered, the newest last: whoever goes back to an earlier store is not to begin another there. */
const STANDS_MAX = 100;

export interface StoreOptions {
  readonly storeUrl: string;
  /** Absolute. */
  readonly stateDir: string;
  /** A password from a file, the environment or the configuration; wins over the key beside the state. */
  readonly password: Secret | undefined;
  /** Wraps the key of a repository that no password opens. */
  readonly keyService?: KeyService | undefined;
  readonly encrypt: boolean;
  /** How a password of a new repository is stretched. */
  readonly passwordKdf: "scrypt" | "pbkdf2-sha256";
  readonly workers: number | undefined;
  readonly readOnly?: boolean;
  /** As the engine's option of this name. */
  readonly onUnlocking?: () => void;
  readonly clock: Clock;
  readonly observer: Observer;
  readonly signal: AbortSignal;
}

export interface MadeRepository {
  readonly repositoryId: string;
  /** To be shown to the person now; undefined for an unencrypted repository. */
  readonly recoveryKey: Secret | undefined;
  /** Where the key lies; undefined when a password opens it. */
  readonly keyFile: string | undefined;
}

/**
 * Makes a repository. Without a password its random key is written beside the state before the repository exists, so
 * that no crash leaves one that nobody can open, but not before its place is known to be free: what is there may have no
 * other key than the one that was written last. Throws REPO_EXISTS, REPO_NOT_EMPTY, STORE_READ_ONLY.
 */
export async function makeRepository(options: StoreOptions): Promise<MadeRepository> {
  const { password, keyService } = options;
  const keyBytes =
    options.encrypt && password === undefined && keyService === undefined ? randomBytes(KEY_BYTES) : undefined;
  const init: InitOptions = {
    storeUrl: options.storeUrl,
    encrypt: options.encrypt,
    ...(password === undefined ? (keyService === undefined ? {} : { keyService }) : { password }),
    passwordKdf: options.passwordKdf,
    clock: options.clock,
    observer: options.observer,
  };
  const made = keyBytes === undefined ? await Repository.init(init) : await initKept(options, init, keyBytes);
  const keyFile = keyFileOf(options.stateDir, made.repositoryId);
  if (keyBytes !== undefined) {
    await rename(keyFileOf(options.stateDir, PENDING_KEY), keyFile);
    await syncFolder(join(options.stateDir, "keys"));
  }
  const { repositoryId, recoveryKey } = made;
  if (keyBytes !== undefined && recoveryKey !== undefined)
    await keepRecoveryKey(options.stateDir, repositoryId, recoveryKey);
  return { repositoryId, recoveryKey, keyFile: keyBytes === undefined ? undefined : keyFile };
}

/** Makes the repository with a key that is kept as `PENDING_KEY`; where that fails nothing of it stays that no repository needs. */
async function initKept(options: StoreOptions, init: InitOptions, keyBytes: Buffer): Promise<InitResult> {
  const { stateDir } = options;
  const pending = keyFileOf(stateDir, PENDING_KEY);
  const undo: (() => Promise<unknown>)[] = [];
  const onFree = async (): Promise<void> => {
    const made = [dirname(pending), stateDir].filter((folder) => !existsSync(folder));
    undo.push(() => unlinkIfThere(pending), ...made.map((folder) => () => rmdir(folder)));
    await makeStateFolder(dirname(pending));
    await writeFileDurably(pending, keyBytes.toString("hex"), { mode: 0o600 });
  };
  try {
    return await Repository.init({ ...init, keyBytes, onFree });
  } catch (error) {
    // With one copy of its configuration there is a repository, and this is its key.
    if (await mayBeMade(options)) throw error;
    for (const step of undo) await step().catch(() => undefined); // a folder may be in use by now
    throw error;
  }
}

/** Whether anything there may be a repository. */
async function mayBeMade(options: StoreOptions): Promise<boolean> {
  try {
    await repositoryConfig(options);
    return true;
  } catch (error) {
    return !hasCode(error, "REPO_NOT_FOUND");
  }
}

/**
 * Opens the repository; where there is none, nothing is made. Throws REPO_NOT_FOUND, REPO_KEY_MISSING, REPO_KEY_WRONG,
 * REPO_LOCKED, INDEX_LOCKED, PERMISSION_DENIED.
 */
export async function openRepository(options: StoreOptions): Promise<Repository> {
  const config = await repositoryConfig(options);
  await makeStateFolder(options.stateDir);
  const repository = await Repository.open({
    storeUrl: options.storeUrl,
    stateDir: options.stateDir,
    unlock: config.encrypted ? await unlockFor(options, config.repository_id) : undefined,
    ...(options.readOnly === undefined ? {} : { readOnly: options.readOnly }),
    ...(options.onUnlocking === undefined ? {} : { onUnlocking: options.onUnlocking }),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
    clock: options.clock,
    observer: options.observer,
    signal: options.signal,
  });
  if (config.encrypted && options.password === undefined && options.keyService === undefined)
    await nameKey(options.stateDir, repository.id).catch(() => undefined); // it opens it the next time, too
  return repository;
}

/** Gives the key that has just opened a repository whose making was cut short its name; the next that is made needs the other. */
async function nameKey(stateDir: string, repositoryId: string): Promise<void> {
  const keyFile = keyFileOf(stateDir, repositoryId);
  if (existsSync(keyFile)) return;
  await rename(keyFileOf(stateDir, PENDING_KEY), keyFile);
  await syncFolder(dirname(keyFile));
}

/** What `makeRepository` may find of an attempt that a crash cut short, and what a new file system has. */
const LEFT_BY_A_CRASH: ReadonlySet<string> = new Set(["lost+found", "keys", "staging"]);

/** True when there is nothing at the place yet, so that a repository may be made there. */
export async function isUnmade(storeUrl: string): Promise<boolean> {
  const folder = localFolderOf(storeUrl);
  if (folder === undefined) return false;
  try {
    return (await readdir(folder)).every((name) => LEFT_BY_A_CRASH.has(name));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return true;
    throw new HoldfastError("STORE_IO", `cannot look at the store ${storeUrl}`, { cause: error });
  }
}

/**
 * Throws REPO_NOT_FOUND when a repository stood at that place before, so that its disk is not mounted or somebody has moved
 * it: a new one there would hide that, and begin without all that is stored.
 */
export async function refuseToReplace({
  storeUrl,
  stateDir,
}: Pick<StoreOptions, "storeUrl" | "stateDir">): Promise<void> {
  const known = (await readStands(stateDir)).find((stand) => stand.store_url === storeUrl);
  if (known === undefined) return;
  throw new HoldfastError(
    "REPO_NOT_FOUND",
    `the repository ${known.repository_id} that stood at ${storeUrl} is not there`,
    {
      hint: "Mount its disk, or put it back. To begin a new one at that place: holdfast init.",
    },
  );
}

/** Remembers that the repository stands at that place. */
export async function noteStand(
  { storeUrl, stateDir }: Pick<StoreOptions, "storeUrl" | "stateDir">,
  repositoryId: string,
): Promise<void> {
  const known = await readStands(stateDir);
  const last = known.at(-1);
  if (last?.store_url === storeUrl && last.repository_id === repositoryId) return;
  const before = known.filter((stand) => stand.store_url !== storeUrl).slice(1 - STANDS_MAX);
  const stand = { store_url: storeUrl, repository_id: repositoryId, before };
  await writeFileDurably(join(stateDir, STAND_FILE), `${JSON.stringify(stand)}\n`, { mode: 0o600 });
}

/** Oldest first. None where it is unreadable, which must not keep anybody from their repository. */
async function readStands(stateDir: string): Promise<readonly Stand[]> {
  try {
    const last: unknown = JSON.parse(await readFile(join(stateDir, STAND_FILE), "utf8"));
    const hasMore = typeof last === "object" && last !== null && "before" in last && Array.isArray(last.before);
    return [...(hasMore ? (last.before as readonly unknown[]) : []), last].flatMap(standOf);
  } catch {
    return [];
  }
}

function standOf(value: unknown): readonly Stand[] {
  if (typeof value !== "object" || value === null || !("store_url" in value && "repository_id" in value)) return [];
  return [{ store_url: String(value.store_url), repository_id: String(value.repository_id) }];
}

/** The key file beside the state for a repository. */
export function keyFileOf(stateDir: string, repositoryId: string): string {
  return join(stateDir, "keys", repositoryId);
}

async function makeStateFolder(folder: string): Promise<void> {
  try {
    await makeFolders(folder, 0o700);
  } catch (error) {
    const isForbidden = ["EACCES", "EPERM", "EROFS"].includes(errnoOf(error) ?? "");
    throw new HoldfastError(
      isForbidden ? "PERMISSION_DENIED" : "STORE_IO",
      `the state folder ${folder} cannot be made: ${messageOf(error)}`,
      { cause: error, hint: "Name another one with --state-dir or HOLDFAST_STATE_DIR, or use sudo." },
    );
  }
}

async function repositoryConfig(options: StoreOptions): Promise<RepositoryConfig> {
  await using backend = await openBackend(options.storeUrl);
  return (await readConfig(backend, options.signal)).config;
}

async function unlockFor(options: StoreOptions, repositoryId: string): Promise<Unlock> {
  if (options.password !== undefined) return unlockOf(options.password);
  if (options.keyService !== undefined) return { keyService: options.keyService };
  const key = (await readKey(options.stateDir, repositoryId)) ?? (await readKey(options.stateDir, PENDING_KEY));
  if (key !== undefined) return { keyBytes: key };
  const file = keyFileOf(options.stateDir, repositoryId);
  throw new HoldfastError("REPO_KEY_MISSING", `the repository is encrypted and its key ${file} is not there`, {
    hint: "Give --password-file (a file with the recovery key will do), or put the key file back.",
  });
}

/** What a given password opens with: a recovery key may stand wherever a password does, its last group tells it from one. */
export function unlockOf(given: Secret): Unlock {
  return isRecoveryKey(given) ? { recoveryKey: given } : { password: given };
}

/** A key file's bytes, or undefined when there is none. */
async function readKey(stateDir: string, name: string): Promise<Buffer | undefined> {
  try {
    return Buffer.from((await readFile(keyFileOf(stateDir, name), "utf8")).trim(), "hex");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    const file = keyFileOf(stateDir, name);
    throw new HoldfastError("REPO_KEY_MISSING", `the key file ${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
