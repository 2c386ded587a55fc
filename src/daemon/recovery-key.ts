/**
 * The recovery key, shown again to an admin. It is kept only beside a random key (`keys/<repository id>.recovery`, 0600
 * like the key itself): whoever reads the one can read the other, so it makes no secret weaker. Where a password opens
 * the repository nothing on this machine may open it alone; there a new recovery key is made, and is told to be new.
 */
import { chmod, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileDurably } from "../base/atomic-file.js";
import { HoldfastError, errnoOf, hasCode, messageOf } from "../base/errors.js";
import { Secret } from "../base/observe.js";
import { unlockMasters } from "../engine/keys.js";
import type { Repository } from "../engine/repository.js";
import { openBackend } from "../storage/open.js";

export interface ShownRecoveryKey {
  readonly recoveryKey: Secret;
  /** True when it was made just now; those given out before stay valid. */
  readonly isNew: boolean;
}

interface KeyPlace {
  readonly storeUrl: string;
  readonly stateDir: string;
  /** True when a password opens the repository: then the recovery key is kept nowhere. */
  readonly hasPassword: boolean;
}

/** Keeps the key for `shownRecoveryKey`. */
export async function keepRecoveryKey(stateDir: string, repositoryId: string, recoveryKey: Secret): Promise<void> {
  const folder = join(stateDir, "keys");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  await writeFileDurably(fileOf(stateDir, repositoryId), `${recoveryKey.reveal()}\n`, { mode: 0o600 });
}

/** The kept recovery key when it still opens the repository, else a new one. Throws UNSUPPORTED without encryption. */
export async function shownRecoveryKey(
  place: KeyPlace,
  repository: Repository,
  signal: AbortSignal,
): Promise<ShownRecoveryKey> {
  const kept = place.hasPassword ? undefined : await readKept(fileOf(place.stateDir, repository.id));
  if (kept !== undefined && repository.encrypted && (await opens(kept, place.storeUrl, repository.id, signal)))
    return { recoveryKey: kept, isNew: false };
  const recoveryKey = await repository.newRecoveryKey(signal);
  if (!place.hasPassword) await keepRecoveryKey(place.stateDir, repository.id, recoveryKey);
  return { recoveryKey, isNew: true };
}

function fileOf(stateDir: string, repositoryId: string): string {
  return join(stateDir, "keys", `${repositoryId}.recovery`);
}

async function readKept(file: string): Promise<Secret | undefined> {
  try {
    const text = (await readFile(file, "utf8")).trim();
    return text === "" ? undefined : new Secret(text);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw new HoldfastError("SECRET_UNREADABLE", `the recovery key ${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** False when its slot was removed, or the file holds something else. */
async function opens(recoveryKey: Secret, storeUrl: string, id: string, signal: AbortSignal): Promise<boolean> {
  await using backend = await openBackend(storeUrl);
  try {
    await unlockMasters(backend, Buffer.from(id, "hex"), { recoveryKey }, signal);
    return true;
  } catch (error) {
    if (hasCode(error, "REPO_KEY_WRONG")) return false; // also what a key with a mistake in it gives
    throw error;
  }
}
