/**
 * The folder that is mounted on: whether it can be, what is mounted there already, and mounting and unmounting it - by
 * mount(2) as root, by the setuid helper fusermount3 as anyone else.
 */
import { closeSync, openSync } from "node:fs";
import { constants, readFile, readdir, stat } from "node:fs/promises";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import { type MountCalls, mountCalls } from "../base/native.js";
import { type BytePath, pathBytes, pathText } from "../base/paths.js";
import { type SpawnOptions, runProgram } from "../base/spawn.js";

const DEVICE = "/dev/fuse";
const TYPE = "fuse.holdfast";
const HELPER = "fusermount3";
const HELPER_TIMEOUT_MS = 15_000;

export interface MountPoint {
  readonly path: BytePath;
  /** Other users may look, as far as stored permissions let them. */
  readonly allowOther: boolean;
}

/** The calls for mounting. Throws MOUNT_UNAVAILABLE. */
export function requireMountCalls(): MountCalls {
  const calls = mountCalls();
  if (calls !== undefined) return calls;
  throw new HoldfastError(
    "MOUNT_UNAVAILABLE",
    "mounting needs the optional package koffi, which is not installed here",
  );
}

/**
 * Makes sure that a folder can be mounted on. A mount of ours that a crash left behind is cleared away, and told.
 * Throws MOUNT_POINT_INVALID.
 */
export async function prepareMountPoint(
  { path }: MountPoint,
  calls: MountCalls,
  tell: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const text = pathText(path);
  try {
    await requireEmptyFolder(path);
    return;
  } catch (error) {
    if (errnoOf(error) !== "ENOTCONN") throw error;
  }
  if (!(await isMounted(path))) {
    throw new HoldfastError("MOUNT_POINT_INVALID", `${text} is a mount of another program that has ended`, {
      hint: `Unmount it first: umount ${text}`,
    });
  }
  await unmount(path, calls, { detach: true, signal });
  tell(`A mount that ended without unmounting was left at ${text}; it was cleared away.`);
  await requireEmptyFolder(path);
}

async function requireEmptyFolder(path: BytePath): Promise<void> {
  const text = pathText(path);
  const refuse = (why: string, hint?: string): HoldfastError =>
    new HoldfastError("MOUNT_POINT_INVALID", `cannot mount on ${text}: ${why}`, hint === undefined ? {} : { hint });
  let names: string[];
  try {
    if (!(await stat(pathBytes(path))).isDirectory()) throw refuse("it is no folder");
    if (await isMounted(path)) throw refuse("holdfast is mounted there already", `Unmount it first: umount ${text}`);
    names = await readdir(pathBytes(path));
  } catch (error) {
    const errno = errnoOf(error) ?? "";
    if (errno === "ENOENT") throw refuse("it does not exist", `mkdir ${text}`);
    if (errno === "ENOTDIR") throw refuse("it is no folder");
    if (errno === "EACCES") throw refuse("this account may not look into it");
    throw error;
  }
  if (names.length > 0) throw refuse("it is not empty", "Files below a mount are out of reach: use an empty folder.");
}

/** True when the kernel lists a mount of ours at the path (also one whose program has ended). */
export async function isMounted(path: BytePath): Promise<boolean> {
  const lines = (await readFile("/proc/self/mountinfo", "latin1")).split("\n");
  return lines.some((line) => {
    const fields = line.split(" ");
    const type = fields[fields.indexOf("-") + 1];
    return type === TYPE && unescaped(fields[4] ?? "") === path;
  });
}

/** mountinfo writes blanks and backslashes of a path as octal numbers. */
function unescaped(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_all, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** Mounts; gives the descriptor of the FUSE device, which does not block. Throws MOUNT_UNAVAILABLE. */
export async function mount(point: MountPoint, calls: MountCalls, signal: AbortSignal): Promise<number> {
  return process.getuid?.() === 0 ? mountAsRoot(point, calls) : await mountByHelper(point, calls, signal);
}

function mountAsRoot({ path, allowOther }: MountPoint, calls: MountCalls): number {
  const fd = openDevice();
  const owner = `user_id=${process.getuid?.() ?? 0},group_id=${process.getgid?.() ?? 0}`;
  const options = `fd=${fd},rootmode=40000,${owner},default_permissions${allowOther ? ",allow_other" : ""}`;
  try {
    calls.mount({ target: pathBytes(path), type: TYPE, source: "holdfast" }, options);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw new HoldfastError("MOUNT_UNAVAILABLE", `mounting on ${pathText(path)} failed: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function openDevice(): number {
  try {
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const why = errnoOf(error) === "ENOENT" ? "does not exist" : `cannot be opened: ${messageOf(error)}`;
    throw new HoldfastError("MOUNT_UNAVAILABLE", `${DEVICE} ${why}`, { cause: error });
  }
}

/** The helper opens the device, mounts, and sends the descriptor over a socket whose number it is told. */
async function mountByHelper(point: MountPoint, calls: MountCalls, signal: AbortSignal): Promise<number> {
  const [ours, theirs] = calls.socketPair();
  try {
    const options = "ro,nosuid,nodev,default_permissions,fsname=holdfast,subtype=holdfast";
    const command = [HELPER, "-o", point.allowOther ? `${options},allow_other` : options, "--", helperPath(point.path)];
    const env = { _FUSE_COMMFD: String(theirs) };
    await runHelper(command, { env, inherits: [theirs] }, signal);
    const fd = calls.receiveDescriptor(ours);
    if (fd === undefined) throw new HoldfastError("MOUNT_UNAVAILABLE", `${HELPER} gave no descriptor of ${DEVICE}`);
    calls.setNonBlocking(fd);
    return fd;
  } finally {
    calls.closeDescriptor(ours);
    calls.closeDescriptor(theirs);
  }
}

/** A path for the helper's command line, which is text. Throws MOUNT_POINT_INVALID. */
function helperPath(path: BytePath): string {
  const text = pathText(path);
  if (Buffer.from(text, "utf8").equals(pathBytes(path))) return text;
  throw new HoldfastError("MOUNT_POINT_INVALID", `the name of ${text} is no UTF-8, which ${HELPER} needs`);
}

async function runHelper(
  command: readonly string[],
  surroundings: Pick<SpawnOptions, "env" | "inherits">,
  signal: AbortSignal,
): Promise<void> {
  try {
    const { exitCode, stderr } = await runProgram(command, { timeoutMs: HELPER_TIMEOUT_MS, signal, ...surroundings });
    if (exitCode === 0) return;
    throw new HoldfastError("MOUNT_UNAVAILABLE", stderr.trim().split("\n").at(-1) ?? `${HELPER} failed`, {
      hint: stderr.includes("allow_other")
        ? "Write user_allow_other in /etc/fuse.conf, or leave --allow-other out."
        : HINT,
    });
  } catch (error) {
    if (error instanceof HoldfastError && error.code === "SPAWN_FAILED") {
      throw new HoldfastError("MOUNT_UNAVAILABLE", `without root, mounting needs the program ${HELPER}`, {
        cause: error,
        hint: "Install fuse3 (apt install fuse3), or use `holdfast serve webdav`.",
      });
    }
    throw error;
  }
}

const HINT = "See the message; `holdfast serve webdav` needs no mounting.";

/** Unmounts. With `detach` it goes out of sight also while programs use it; without, it throws EBUSY then. */
export async function unmount(
  path: BytePath,
  calls: MountCalls,
  { detach, signal }: { readonly detach: boolean; readonly signal: AbortSignal },
): Promise<void> {
  if (process.getuid?.() === 0) calls.unmount(pathBytes(path), detach);
  else await runHelper([HELPER, detach ? "-uz" : "-u", "--", helperPath(path)], {}, signal);
}
