/**
 * Making what was written survive a power cut. For a handful of files each is synced; for many the whole file system
 * is, once (`sync -f`, for which Node has no call): that is one journal commit instead of hundreds.
 */
import { closeSync, constants, fsyncSync } from "node:fs";
import type { AnchoredFolder } from "../../base/anchored.js";
import { HoldfastError } from "../../base/errors.js";
import { runProgram } from "../../base/spawn.js";

/** Up to this many files are synced one by one. */
const FSYNC_EACH_MAX = 4;
/** A slow disk with gigabytes of unwritten data takes minutes; ms. */
const SYNC_TIMEOUT_MS = 30 * 60_000;

export interface StagedName {
  readonly folder: AnchoredFolder;
  readonly staged: string;
}

/** Resolves when the content of the staged files is on disk. Throws TARGET_IO and the system's errors. */
export async function syncStaged(names: readonly StagedName[], signal: AbortSignal): Promise<void> {
  const [first] = names;
  if (first === undefined) return;
  if (names.length > FSYNC_EACH_MAX && (await syncFileSystem(first.folder.fd, signal))) return;
  for (const { folder, staged } of names) {
    signal.throwIfAborted();
    const fd = folder.openFile(staged, constants.O_RDONLY);
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }
}

/** Syncs the file system of an open folder; false when this machine has no program that can. */
export async function syncFileSystem(folderFd: number, signal: AbortSignal): Promise<boolean> {
  // The folder is named by its descriptor: whatever its path has become, this is the file system that was written to.
  const cwd = `/proc/${process.pid}/fd/${folderFd}`;
  try {
    const { exitCode, stderr } = await runProgram(["sync", "-f", "."], { cwd, timeoutMs: SYNC_TIMEOUT_MS, signal });
    if (exitCode === 0) return true;
    if (/input\/output|no space/i.test(stderr)) throw new HoldfastError("TARGET_IO", `sync: ${stderr.trim()}`);
    return false;
  } catch (error) {
    if (error instanceof HoldfastError && error.code === "SPAWN_FAILED") return false;
    throw error;
  }
}
