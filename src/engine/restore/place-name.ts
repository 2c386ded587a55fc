/**
 * Giving a staged file its name. A new name is taken in a way that never overwrites: by a rename that fails when it is
 * taken, or a hard link; where the file system has neither, the name is checked and then taken by rename. Where it can,
 * a new file has no staging name at all (O_TMPFILE): half the work in the folder, and nothing is left behind by a kill.
 * Staging names tell which process made them, so that what a killed one left can be cleared.
 */
import { randomBytes } from "node:crypto";
import { constants, openSync } from "node:fs";
import type { AnchoredFolder } from "../../base/anchored.js";
import { STAGING_PREFIX } from "../../base/atomic-file.js";
import { errnoOf, HoldfastError } from "../../base/errors.js";
import { nativeCalls } from "../../base/native.js";

const RESTORE_PREFIX = `${STAGING_PREFIX}restore-`;
/** Errors of `link` on file systems without hard links, and of an inode that can have no more. */
const NO_LINKS = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]);

/** Of the Linux ABI; Node has no constant for it. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
/** What a system says that has no files without names, or not on this file system. */
const NO_UNNAMED = new Set(["EOPNOTSUPP", "ENOTSUP", "EISDIR", "EINVAL", "ENOENT", "EPERM"]);
/**
 * What a system says that gives a file without a name none: beside the lack of hard links, rules on whose files may be
 * linked, and a /proc that does not lead to descriptors.
 */
const NOT_NAMED = new Set([...NO_LINKS, "EISDIR", "EXDEV", "EACCES", "EINVAL", "ELOOP", "ENOTDIR"]);

/** Opens a new file of the folder that has no name yet, mode 0600; undefined where there is no such thing. */
export function openUnnamed(folder: AnchoredFolder): number | undefined {
  if (nativeCalls() === undefined) return undefined;
  try {
    return openSync(`/proc/self/fd/${folder.fd}`, O_TMPFILE | constants.O_RDWR, 0o600);
  } catch (error) {
    if (NO_UNNAMED.has(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}

/**
 * Gives an unnamed file its name, which must be new. False: it cannot have one here and has to be staged by name.
 * Throws TARGET_EXISTS, and ENOENT when the folder is gone.
 */
export function nameUnnamed(fd: number, folder: AnchoredFolder, name: string): boolean {
  const native = nativeCalls();
  if (native === undefined) return false;
  try {
    native.linkOpenFile(fd, folder.at(name));
    return true;
  } catch (error) {
    const errno = errnoOf(error) ?? "";
    if (errno === "EEXIST") throw appeared(error);
    if (NOT_NAMED.has(errno)) return false;
    throw error;
  }
}

/** A prefix for the staging names of one run: the process and a random part. */
export function newStagingPrefix(): string {
  return `${RESTORE_PREFIX}${process.pid}-${randomBytes(6).toString("hex")}-`;
}

/** True for a staging name of a restore whose process is gone. */
export function isLeftover(name: string): boolean {
  if (!name.startsWith(RESTORE_PREFIX)) return false;
  const pid = Number.parseInt(name.slice(RESTORE_PREFIX.length), 10);
  return Number.isSafeInteger(pid) && pid > 0 && !isRunning(pid);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) !== "ESRCH";
  }
}

/** Gives a staged file a name that must be new. Throws TARGET_EXISTS; the staging name may stay then. */
export function placeNew(folder: AnchoredFolder, staged: string, name: string): void {
  try {
    if (!folder.renameToFree(staged, folder, name)) throw appeared(undefined);
  } catch (error) {
    if (!NO_LINKS.has(errnoOf(error) ?? "")) throw error;
    if (folder.lstat(name) !== undefined) throw appeared(error);
    folder.rename(staged, folder, name);
  }
}

function appeared(cause: unknown): HoldfastError {
  return new HoldfastError("TARGET_EXISTS", "something of that name was made meanwhile", { cause });
}

export function unlinkQuietly(folder: AnchoredFolder, name: string): void {
  try {
    folder.unlink(name);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}
