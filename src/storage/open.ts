/** From the place a person names (a path, `file:///path`, later `s3://…`) to the backend that serves it. */
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { errnoOf, HoldfastError } from "../base/errors.js";
import type { Backend } from "./backend.js";
import { LocalBackend } from "./drivers/local.js";
import { type FileIo, makeFoldersDurably, systemIo } from "./file-io.js";
import { storeError } from "./store-error.js";

export interface OpenBackendOptions {
  /** Makes the folder when it is missing; otherwise a missing place is REPO_NOT_FOUND. */
  readonly create?: boolean;
  /** File calls for writing; the system's unless told. */
  readonly io?: FileIo;
}

/** Opens the backend of a path or URL. Throws UNSUPPORTED for schemes without a driver, REPO_NOT_FOUND, STORE_IO. */
export async function openBackend(place: string, options: OpenBackendOptions = {}): Promise<Backend> {
  const folder = localFolderOf(place);
  if (folder === undefined) {
    throw new HoldfastError("UNSUPPORTED", `this version has no driver for ${schemeOf(place) ?? ""}: stores`, {
      hint: "Use a folder, such as /var/lib/holdfast/store or file:///mnt/backup/store.",
    });
  }
  return await LocalBackend.open(folder, { create: options.create ?? false, io: options.io ?? systemIo });
}

/** The local folder of a place, absolute, or undefined when it is not on this machine's file system. */
export function localFolderOf(place: string): string | undefined {
  const scheme = schemeOf(place);
  if (scheme === undefined) return resolve(place);
  if (scheme !== "file") return undefined;
  try {
    return fileURLToPath(place);
  } catch (error) {
    throw new HoldfastError("USAGE", `"${place}" names no folder of this machine`, {
      hint: "Write file:///path with three slashes.",
      cause: error,
    });
  }
}

/**
 * Removes what crashed writers left in the staging folder and counts it; a missing one is made, for copying a store can
 * lose empty folders. Only the holder of the writer's lock may call it.
 */
export async function clearStaging(backend: Backend, io: FileIo = systemIo): Promise<number> {
  try {
    const names = await readdir(backend.stagingFolder);
    for (const name of names) await io.unlink(join(backend.stagingFolder, name));
    return names.length;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw storeError(error, "clearing the staging folder");
  }
  try {
    await makeFoldersDurably(io, backend.stagingFolder);
    return 0;
  } catch (error) {
    throw storeError(error, "making the staging folder");
  }
}

/** The scheme of a URL, or undefined for a path. */
function schemeOf(place: string): string | undefined {
  return /^([a-z][a-z0-9+.-]+):\/\//i.exec(place)?.[1]?.toLowerCase();
}
