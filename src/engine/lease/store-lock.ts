/**
 * One writer at a time: an exclusive lock on `leases/lock` in the store's folder. The kernel's file lock (which ends
 * with the process, however it ends) where koffi offers it; else a file created with O_EXCL that names the process.
 */
import { constants } from "node:fs";
import { type FileHandle, mkdir, open, readFile, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import { nativeCalls } from "../../base/native.js";

/** Takes the lock; it is held until disposed. Throws REPO_LOCKED, STORE_READ_ONLY, PERMISSION_DENIED. */
export async function lockStore(storeFolder: string): Promise<AsyncDisposable> {
  const folder = join(storeFolder, "leases");
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const native = nativeCalls();
    return native === undefined
      ? await lockByName(join(folder, "lock.pid"))
      : await lockByKernel(join(folder, "lock"), (fd) => native.lockFile(fd, "exclusive"));
  } catch (error) {
    throw lockError(error, storeFolder);
  }
}

async function lockByKernel(path: string, lock: (fd: number) => boolean): Promise<AsyncDisposable> {
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  if (!lock(file.fd)) {
    const holder = await readFile(path, "utf8").catch(() => "");
    await file.close();
    throw lockedError(holder);
  }
  await nameHolder(file);
  return { [Symbol.asyncDispose]: () => file.close() };
}

async function nameHolder(file: FileHandle): Promise<void> {
  await file.truncate(0);
  await file.write(`${String(process.pid)} ${hostname()}\n`, 0);
}

async function lockByName(path: string): Promise<AsyncDisposable> {
  try {
    const file = await open(path, "wx", 0o600);
    await nameHolder(file);
    await file.close();
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    const holder = await readFile(path, "utf8").catch(() => "");
    if (isAlive(holder)) throw lockedError(holder);
    await unlink(path);
    return await lockByName(path);
  }
  return { [Symbol.asyncDispose]: () => unlink(path) };
}

/** A holder on another host counts as alive: only its own host could tell. */
function isAlive(holder: string): boolean {
  const [pid, host] = holder.trim().split(" ");
  if (pid === undefined || host !== hostname()) return host !== undefined;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return errnoOf(error) === "EPERM";
  }
}

function lockedError(holder: string): HoldfastError {
  const [pid, host] = holder.trim().split(" ");
  const who = pid === undefined || pid === "" ? "another process" : `process ${pid} on ${host ?? "this host"}`;
  return new HoldfastError("REPO_LOCKED", `${who} is writing to this repository`);
}

function lockError(error: unknown, folder: string): unknown {
  const errno = errnoOf(error);
  if (error instanceof HoldfastError || errno === undefined) return error;
  if (errno === "EROFS")
    return new HoldfastError("STORE_READ_ONLY", `the store ${folder} is read-only`, { cause: error });
  if (errno === "EACCES" || errno === "EPERM") {
    return new HoldfastError("PERMISSION_DENIED", `the store ${folder} may not be written by this user`, {
      cause: error,
    });
  }
  if (errno === "ENOSPC") return new HoldfastError("STORE_FULL", `the store ${folder} is full`, { cause: error });
  return new HoldfastError("STORE_IO", `the store ${folder} cannot be locked: ${errno}`, { cause: error });
}
