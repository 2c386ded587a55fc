/**
 * Durable writes of small files: temporary file beside the target, fsync, rename (or link, when the name must be
 * new), fsync of the folder. After `writeFileDurably` returns, the new content survives a power cut; before, the old
 * one does. Staged leftovers (`.holdfast-tmp-…`) can be removed at any time.
 */
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, open, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { errnoOf } from "./errors.js";

/** Names of staging files begin so; the watcher and the walker skip them. */
export const STAGING_PREFIX = ".holdfast-tmp-";

export interface DurableWriteOptions {
  /** Permission bits of the new file; 0600 unless told. */
  readonly mode?: number;
  /** True: fail with EEXIST when the name is taken, decided by `link()`, so that nothing is ever overwritten. */
  readonly exclusive?: boolean;
}

/** Writes `data` to `path` so that either the old or the new content is there after any crash. */
export async function writeFileDurably(
  path: string,
  data: Uint8Array | string,
  options: DurableWriteOptions = {},
): Promise<void> {
  // Without the target's own name in it: that may be as long as a name can be.
  const staged = join(dirname(path), `${STAGING_PREFIX}${randomBytes(12).toString("hex")}`);
  const file = await open(staged, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, options.mode ?? 0o600);
  try {
    await writeAndSync(file, data);
    if (options.exclusive === true) {
      await link(staged, path);
      await unlink(staged);
    } else {
      await rename(staged, path);
    }
  } catch (error) {
    await unlinkIfThere(staged);
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Removes a file; true when it was there. */
export async function unlinkIfThere(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return false;
    throw error;
  }
}

async function writeAndSync(file: FileHandle, data: Uint8Array | string): Promise<void> {
  try {
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
}
