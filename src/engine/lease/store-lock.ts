/**
 * One writer at a time: an exclusive lock on `leases/lock` in the store's folder. The kernel's file lock (which ends
 * with the process, however it ends) where koffi offers it; else a file that names the process and is there at once as
 * a whole, or not at all. Who is named there is dead when the process is gone that has the number in the same run of the
 * system and the same space of process numbers. Of another run or space (another host of the same name, a container, the
 * time before a restart) only the holder itself can tell: it writes its name anew every 10 s, and is dead when the file
 * is 60 s older than one made now, both by the clock of the store's file system. Whoever slept for so long and wakes finds
 * its lease gone (`writer-lease.ts`) and writes no more.
 */
import { constants, readlinkSync } from "node:fs";
import { link, mkdir, open, readFile, rename, stat } from "node:fs/promises";
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
/** How often a holder writes its name anew, and how long it must not have for it to be dead, ms. */
const BEAT_MS = 10_000;
const SILENT_MS = 60_000;
/** Random bytes that no other process has. */
const TOKEN_BYTES = 8;
const UNKNOWN = "?";

/**
 * Takes the lock; it is held until disposed. Throws REPO_LOCKED, STORE_READ_ONLY, PERMISSION_DENIED. With `native` of
 * `none` the lock is a name, written anew every `beatMs`.
 */
export async function lockStore(
  storeFolder: string,
  native: Pick<NativeCalls, "lockFile"> | "none" = nativeCalls() ?? "none",
  beatMs: number = BEAT_MS,
): Promise<AsyncDisposable> {
  const folder = join(storeFolder, "leases");
  try {
    await makeIfMissing(folder);
    return native === "none"
      ? await lockByName(join(folder, "lock.pid"), beatMs)
      : await lockByKernel(join(folder, "lock"), (fd) => native.lockFile(fd, "exclusive"));
  } catch (error) {
    throw lockError(error, storeFolder);
  }
}

/** In a store that is there: where its folder went meanwhile, as with its disk, none is made. Shared with the lease. */
export async function makeIfMissing(folder: string): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
  }
}

async function lockByKernel(path: string, lock: (fd: number) => boolean): Promise<AsyncDisposable> {
  await using stack = new ResourceStack(); // the lock lasts as long as the file is open, also that of a try that failed
  const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  stack.defer(() => file.close());
  if (!lock(file.fd)) throw lockedError(await readFile(path, "utf8").catch(() => ""));
  await file.truncate(0);
  await file.write(await ownName(), 0);
  return stack.move();
}

/** This process, as another can find whether it lives: number, host, run and start, space of numbers, a random token. */
async function ownName(): Promise<string> {
  const start = (await startOf(process.pid)) ?? UNKNOWN;
  return `${[String(process.pid), hostname(), start, spaceOfNumbers() ?? UNKNOWN, randomHex(TOKEN_BYTES)].join(" ")}\n`;
}

/** Within it a process number means one process; containers mostly have one each. */
function spaceOfNumbers(): string | undefined {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return undefined; // no /proc
  }
}

/** Tells a process from a later one with its number: the run of the system, and when in it the process began. */
async function startOf(pid: number): Promise<string | undefined> {
  const [boot, found] = [await bootId(), processStat(pid)];
  return boot === undefined || found === undefined ? undefined : `${boot}:${String(found.startTicks)}`;
}

async function bootId(): Promise<string | undefined> {
  const id = await readFile("/proc/sys/kernel/random/boot_id", "latin1").catch(() => undefined);
  return id?.trim();
}

async function lockByName(path: string, beatMs: number): Promise<AsyncDisposable> {
  const own = `${path}.${randomHex(TOKEN_BYTES)}`;
  const name = await ownName();
  await using stack = new ResourceStack();
  const file = await open(own, "wx", 0o600);
  try {
    await stack.use(file).write(name, 0);
    if (!(await linkIfFree(own, path))) await takeFromDead(own, path);
    const beat = setInterval(() => void file.write(name, 0).catch(() => undefined), beatMs).unref();
    stack.defer(async () => {
      clearInterval(beat);
      if ((await readFile(path, "utf8").catch(() => "")) === name) await unlinkIfThere(path);
    });
    return stack.move();
  } finally {
    await unlinkIfThere(own);
  }
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
  await aliveRefused(path, own);
  // One at a time: of two who saw the dead holder, the second would remove the lock of the first.
  const turn = `${path}.turn`;
  for (let tries = 1; !(await linkIfFree(own, turn)); tries += 1) {
    if (tries === TURNS_MAX) throw lockedError("");
    // Whoever died in these few lines left it; against two who find that, the writer's lease guards.
    if ((await aliveRefused(turn, own)) !== undefined) await unlinkIfThere(turn);
  }
  try {
    if ((await aliveRefused(path, own)) !== undefined) await rename(own, path);
    else if (!(await linkIfFree(own, path))) throw lockedError("");
  } finally {
    await unlinkIfThere(turn);
  }
}

/** Who is named in a lock and is gone; undefined when there is none. Throws REPO_LOCKED when that one is alive, or may be. */
async function aliveRefused(path: string, own: string): Promise<string | undefined> {
  try {
    const holder = await readFile(path, "utf8");
    const isAlive = (await isRunning(holder)) ?? (await silentMs(path, own)) < SILENT_MS;
    if (isAlive) throw lockedError(holder);
    return holder;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
    return undefined;
  }
}

/** How much older a file is than one made now, by the clock of their file system, ms. */
async function silentMs(path: string, madeNow: string): Promise<number> {
  const [then, now] = await Promise.all([stat(path), stat(madeNow)]);
  return now.mtimeMs - then.mtimeMs;
}

/** Undefined where this process cannot tell. What names no space of numbers writes nothing anew: on another host it counts as running. */
async function isRunning(holder: string): Promise<boolean | undefined> {
  const [pid, host, start = UNKNOWN, space] = holder.trim().split(" ");
  if (pid === undefined || host === undefined) return false; // nobody ever was named there
  const isOfOld = space === undefined;
  if (host !== hostname()) return isOfOld ? true : undefined;
  const isHere = start.split(":")[0] === (await bootId()) && space === spaceOfNumbers();
  if (!isHere && !isOfOld) return undefined;
  try {
    process.kill(Number(pid), 0);
  } catch (error) {
    if (errnoOf(error) !== "EPERM") return false;
  }
  const found = await startOf(Number(pid));
  return start === UNKNOWN || found === undefined || found === start;
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
