/** Whether anything stands at a path, and whether it is still the same. */
import { lstat } from "node:fs/promises";
import { errnoOf } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import { reached } from "../base/reach.js";

/** Throws what a look throws that says neither, such as EACCES. */
export async function isThere(path: BytePath): Promise<boolean> {
  return (await standingAt(path)) !== undefined;
}

/**
 * A short text of inode, size and time of change, which differs when the content was worked on; undefined: nothing stands
 * there. Without the device, whose number may be another after a restart of the machine. Throws as `isThere` does.
 */
export async function standingAt(path: BytePath): Promise<string | undefined> {
  try {
    using place = reached(path);
    const { ino, size, mtimeNs } = await lstat(place.bytes, { bigint: true });
    return [ino, size, mtimeNs].map(String).join(":");
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
