/**
 * One writer at a time: an exclusive lock on `leases/lock` in the store's folder. The kernel's file lock (which ends
 * with the process, however it ends) where koffi offers it; else a file that names the process and is there at once as
 * a whole, or not at all.
 */
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, readFile, rename } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { unlinkIfThere } from "../../base/atomic-file.js";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import { randomHex } from "../../base/ids.js";
import { ResourceStack } from "../../base/lifecycle.js";
import { type NativeCalls, nativeCalls } from "../../base/native.js";
import { processStat } from "../../base/process-stat.js";

/** Others that come and go before it is our turn to take a dead process's lock. */
const TURNS_MAX = 100;

/**
 * Takes the lock; it is held until disposed. Throws REPO_LOCKED, STORE_READ_ONLY, PERMISSION_DENIED. With `native` of
 * `none` the lock is a name.
 */
export async function lockStore(
  storeFolder: string,
  native: Pick<NativeCalls, "lockFile"> | "none" = nativeCalls() ?? "none",
): Promise<AsyncDisposable> {
  const folder = join(storeFolder, "leases");
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return native === "none"
      ? await lockByName(join(folder, "lock.pid"))
      : await lockByKernel(join(folder, "lock"), (fd) => native.lockFile(fd, "exclusive"));
  } catch (error) {
    throw lockError(error, storeFolder);
  }
}

async function lockByKernel(path: string, lock: (fd: number) => boolean): Promise<AsyncDisposable> {
  await using stack = new ResourceStack(); // the lock lasts as long as the file is open, also that of a try that failed
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  stack.defer(() => file.close());
  if (!lock(file.fd)) throw lockedError(await readFile(path, "utf8").catch(() => ""));
  await nameHolder(file);
  return stack.move();
}

async function nameHolder(file: FileHandle): Promise<void> {
  const start = await startOf(process.pid);
  await file.truncate(0);
  await file.write(`${[String(process.pid), hostname(), ...(start === undefined ? [] : [start])].join(" ")}\n`, 0);
}

/** Tells a process from a later one with its number: the run of the system, and when in it the process began. */
async function startOf(pid: number): Promise<string | undefined> {
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "latin1").catch(() => undefined);
  const stat = processStat(pid);
  return boot === undefined || stat === undefined ? undefined : `${boot.trim()}:${String(stat.startTicks)}`;
}

async function lockByName(path: string): Promise<AsyncDisposable> {
  const own = `${path}.${randomHex(8)}`;
  try {
    const file = await open(own, "wx", 0o600);
    await nameHolder(file).finally(() => file.close());
    if (!(await linkIfFree(own, path))) await takeFromDead(own, path);
  } finally {
    await unlinkIfThere(own);
  }
  return {
    [Symbol.asyncDispose]: async () => {
      await unlinkIfThere(path);
    },
  };
}

async function linkIfFree(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    return false;
  }
}

/** Puts `own` in the place of a lock whose holder is gone. Throws REPO_LOCKED when it is not, or another is about to. */
async function takeFromDead(own: string, path: string): Promise<void> {
  await aliveRefused(path);
  // One at a time: of two who saw the dead holder, the second would remove the lock of the first.
  const turn = `${path}.turn`;
  for (let tries = 1; !(await linkIfFree(own, turn)); tries += 1) {
    if (tries === TURNS_MAX) throw lockedError("");
    // Whoever died in these few lines left it; against two who find that, the writer's lease guards.
    if ((await aliveRefused(turn)) !== undefined) await unlinkIfThere(turn);
  }
  try {
    if ((await aliveRefused(path)) !== undefined) await rename(own, path);
    else if (!(await linkIfFree(own, path))) throw lockedError("");
  } finally {
    await unlinkIfThere(turn);
  }
}

/** Who is named in a lock and is gone; undefined when there is none. Throws REPO_LOCKED when that one is alive. */
async function aliveRefused(path: string): Promise<string | undefined> {
  try {
    const holder = await readFile(path, "utf8");
    if (await isAlive(holder)) throw lockedError(holder);
    return holder;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    return undefined;
  }
}

/** A holder on another host counts as alive: only its own host could tell. */
async function isAlive(holder: string): Promise<boolean> {
  const [pid, host, start] = holder.trim().split(" ");
  if (pid === undefined || host !== hostname()) return host !== undefined;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (errnoOf(error) !== "EPERM") return false;
  }
  const found = await startOf(Number(pid));
  return start === undefined || found === undefined || found === start;
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
