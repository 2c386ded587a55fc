/**
 * Making what was written survive a power cut. For a handful of files each is synced; for many the whole file system
 * is, once: that is one journal commit instead of hundreds.
 */
import { fstatSync, fsync } from "node:fs";
import { promisify } from "node:util";
import { errnoOf, HoldfastError } from "../../base/errors.js";
import { type NativeCalls, nativeCalls } from "../../base/native.js";
import { runProgram } from "../../base/spawn.js";

/** Up to this many files are synced one by one: others may have gigabytes on the file system that wait for the disk. */
const FSYNC_EACH_MAX = 8;
/** A slow disk with gigabytes of unwritten data takes minutes; ms. */
const SYNC_TIMEOUT_MS = 30 * 60_000;
const fsyncAsync = promisify(fsync);

/** Open files that were written, and the folders that they are in. */
export interface WrittenFiles {
  readonly fds: readonly number[];
  readonly folderFds: Iterable<number>;
}

/** Resolves when the files are on disk. Throws TARGET_IO and the system's errors. */
export async function syncWritten({ fds, folderFds }: WrittenFiles, signal: AbortSignal): Promise<void> {
  if (fds.length > FSYNC_EACH_MAX) {
    const oneOfEach = new Map<number, number>();
    for (const fd of folderFds) oneOfEach.set(fstatSync(fd).dev, fd);
    const synced = await Promise.all([...oneOfEach.values()].map(async (fd) => await syncFileSystem(fd, signal)));
    if (synced.every(Boolean)) return;
  }
  for (const fd of fds) {
    signal.throwIfAborted();
    await fsyncAsync(fd);
  }
}

/**
 * Syncs the file system of an open folder; false when this machine has nothing that can. With `native` of `none` the
 * program `sync` does it. Throws TARGET_IO.
 */
export async function syncFileSystem(
  folderFd: number,
  signal: AbortSignal,
  native: Pick<NativeCalls, "syncFileSystem"> | "none" = nativeCalls() ?? "none",
): Promise<boolean> {
  if (native === "none") return await syncByProgram(folderFd, signal);
  try {
    await native.syncFileSystem(folderFd);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOSYS") return false;
    throw new HoldfastError("TARGET_IO", "what was written could not be brought to the disk", { cause: error });
  }
}

async function syncByProgram(folderFd: number, signal: AbortSignal): Promise<boolean> {
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
