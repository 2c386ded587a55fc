/** Whether anything stands at a path. */
import { lstat } from "node:fs/promises";
import { errnoOf } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import { reached } from "../base/reach.js";

/** Throws what a look throws that says neither, such as EACCES. */
export async function isThere(path: BytePath): Promise<boolean> {
  try {
    using place = reached(path);
    await lstat(place.bytes);
    return true;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return false;
    throw error;
  }
}
