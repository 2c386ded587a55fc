/**
 * Whether the ground under a root is still the same: its inode, and the mount that holds it. A root or a mount that
 * went away is "storage gone" and never so many deletions. Reads /proc/self/mountinfo.
 */
import { lstatSync, readFileSync, readdirSync, statfsSync } from "node:fs";
import { errnoOf } from "../../base/errors.js";
import { type BytePath, isWithin, joinPath, parentPath, pathBytes } from "../../base/paths.js";
import { type Mounted, isNewDisk, isSameStorageId, storageIdOf } from "./storage-id.js";

export interface Mount extends Mounted {
  /** The kernel's number of the mount; unique while it is mounted. */
  readonly id: string;
}

/** Where a root was found; kept across restarts. */
export interface RootIdentity {
  readonly dev: string;
  readonly ino: string;
  readonly mountId: string;
  readonly mountPoint: string;
  readonly mountWhat: string;
  /** What its file system calls itself, where that can be told; not in notes of earlier versions. */
  readonly storage?: string;
}

export type RootVerdict =
  | { readonly state: "there"; readonly identity: RootIdentity }
  /** Another folder of the same storage stands at the path. */
  | { readonly state: "replaced"; readonly identity: RootIdentity }
  /** The folder itself was removed while its storage lives on. */
  | { readonly state: "deleted" }
  /** Not mounted, covered by another mount, moved away, or not readable. */
  | { readonly state: "gone"; readonly reason: string };

/** File systems that report no events of what others do on them, by statfs type. */
const EARLESS_TYPES: ReadonlyMap<number, string> = new Map([
  [0x6969, "nfs"],
  [0x517b, "smb"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb2"],
  [0x65735546, "fuse"],
  [0x01021997, "9p"],
  [0x00c36400, "ceph"],
  [0x5346414f, "afs"],
  [0x6b414653, "afs"],
  [0x73757245, "coda"],
  [0x786f4256, "vboxsf"],
  [0x0bd00bd0, "lustre"],
  [0x7461636f, "ocfs2"],
  [0x01161970, "gfs2"],
]);

/** Why events of a folder's file system cannot be relied on, or undefined when they can. */
export function earlessReason(folder: BytePath): string | undefined {
  try {
    const name = EARLESS_TYPES.get(statfsSync(pathBytes(folder)).type);
    return name === undefined ? undefined : `${name} reports no changes made elsewhere; the folder is swept`;
  } catch {
    return undefined;
  }
}

/** Everything that is mounted now. */
export function readMounts(): readonly Mount[] {
  const mounts: Mount[] = [];
  for (const line of readFileSync("/proc/self/mountinfo", "latin1").split("\n")) {
    const [left, right] = line.split(" - ");
    const fields = left?.split(" ") ?? [];
    const [id, device, point] = [fields[0], fields[2], fields[4]];
    if (id === undefined || device === undefined || point === undefined || right === undefined) continue;
    const [type, source] = right.split(" ");
    mounts.push({ id, device, point: unescapeOctal(point), what: `${type ?? ""} ${source ?? ""}` });
  }
  return mounts;
}

/** The mount that a path lies on: the last one (the topmost) of the longest mount point above it. */
export function mountOf(path: BytePath, mounts: readonly Mount[]): Mount | undefined {
  let best: Mount | undefined;
  for (const mount of mounts) {
    if (isWithin(path, mount.point) && mount.point.length >= (best?.point.length ?? 0)) best = mount;
  }
  return best;
}

/** The mount point between a root and a path, which hides what was known below it; undefined when there is none. */
export function coveringMount(path: BytePath, root: BytePath, mounts: readonly Mount[]): Mount | undefined {
  return mounts.find((mount) => mount.point !== root && isWithin(mount.point, root) && isWithin(path, mount.point));
}

/** Compares what stands at the root's path with what stood there before (undefined: never seen). */
export function judgeRoot(
  folder: BytePath,
  before: RootIdentity | undefined,
  mounts: readonly Mount[] = readMounts(),
  idOf: (mount: Mount) => string | undefined = storageIdOf,
): RootVerdict {
  const mount = mountOf(folder, mounts);
  const storage = mount === undefined ? undefined : idOf(mount);
  const foreign = before === undefined ? undefined : reasonOfForeign(mount, storage, before);
  if (foreign !== undefined) return { state: "gone", reason: foreign };
  const found = lookAt(folder);
  if (typeof found === "string") return verdictOfMissing(folder, before, found);
  const identity = { ...found, ...mountFields(mount, storage) };
  // A remount of the same storage has another number and the same inode: the same root.
  const isSame = before === undefined || before.ino === identity.ino;
  return { state: isSame ? "there" : "replaced", identity };
}

function mountFields(mount: Mount | undefined, storage: string | undefined): Omit<RootIdentity, "dev" | "ino"> {
  const { id = "", point = "", what = "" } = mount ?? {};
  return { mountId: id, mountPoint: point, mountWhat: what, ...(storage === undefined ? {} : { storage }) };
}

/** Why what is mounted is not the storage of before. An empty disk in its place is taken: there is nothing to mistake. */
function reasonOfForeign(
  mount: Mount | undefined,
  storage: string | undefined,
  before: RootIdentity,
): string | undefined {
  if (mount === undefined || mount.point !== before.mountPoint) return "its file system is not mounted";
  const isSame = isSameStorageId(storage, before.storage);
  if (isSame === true) return undefined;
  // Without ids the device's name has to do.
  if (isSame === undefined) return mount.what === before.mountWhat ? undefined : "its file system is not mounted";
  if (mount.what === before.mountWhat && isNewDisk(mount.point)) return undefined;
  return "another file system is mounted in its place; if that is meant, `holdfast unprotect` and `protect` it again";
}

/** Device and inode of a folder, or the system's error name. */
function lookAt(folder: BytePath): { readonly dev: string; readonly ino: string } | string {
  try {
    const stats = lstatSync(pathBytes(folder), { bigint: true });
    return stats.isDirectory() ? { dev: String(stats.dev), ino: String(stats.ino) } : "ENOTDIR";
  } catch (error) {
    return errnoOf(error) ?? "EIO";
  }
}

function verdictOfMissing(folder: BytePath, before: RootIdentity | undefined, errno: string): RootVerdict {
  if (errno === "ENOTDIR") return { state: "gone", reason: "it is no folder any more" };
  if (errno !== "ENOENT") return { state: "gone", reason: `it cannot be looked at (${errno})` };
  if (before === undefined) return { state: "gone", reason: "it does not exist" };
  const newName = renamedTo(folder, before);
  if (newName === undefined) return { state: "deleted" };
  return { state: "gone", reason: `it was renamed to ${Buffer.from(newName, "latin1").toString("utf8")}` };
}

/** The name beside the missing folder that holds its inode now. */
function renamedTo(folder: BytePath, before: RootIdentity): string | undefined {
  const parent = parentPath(folder);
  try {
    return readdirSync(pathBytes(parent), "latin1").find((name) => {
      const found = lookAt(joinPath(parent, name));
      return typeof found !== "string" && found.ino === before.ino && found.dev === before.dev;
    });
  } catch {
    return undefined; // the folder above went with it
  }
}

function unescapeOctal(text: string): BytePath {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  ) as BytePath;
}
