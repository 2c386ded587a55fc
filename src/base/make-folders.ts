/**
 * `mkdir -p` that ends. Node's own, asked to be recursive, asks again for ever where a file system says of a new name that
 * something on its way is missing, as /proc and automounted folders do, and keeps a thread busy with that.
 */
import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { errnoOf } from "./errors.js";

/**
 * Makes a folder, given by an absolute path, and those above it that are missing, all with this mode; what is there
 * stays as it is. Throws the system's errors, EEXIST where something else stands.
 */
export async function makeFolders(path: string | Buffer, mode: number): Promise<void> {
  if (await hasMade(path, mode)) return;
  const text = typeof path === "string" ? path : path.toString("latin1");
  const above = dirname(text);
  await makeFolders(typeof path === "string" ? above : Buffer.from(above, "latin1"), mode);
  if (await hasMade(path, mode)) return;
  // What is above it is there now, and it still cannot be: mkdir itself says why.
  await mkdir(path, { mode });
}

/** False where something on the way is missing. */
async function hasMade(path: string | Buffer, mode: number): Promise<boolean> {
  try {
    await mkdir(path, { mode });
    return true;
  } catch (error) {
    if (errnoOf(error) === "EEXIST" && (await stat(path)).isDirectory()) return true;
    if (errnoOf(error) !== "ENOENT") throw error;
    return false;
  }
}
