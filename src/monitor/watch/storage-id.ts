/**
 * What a file system calls itself, whatever device it comes on: `/dev/sdb1` may be `/dev/sdc1` after the next boot, and
 * another disk may have its name. ext2-4 tell by statfs; btrfs by /sys/fs/btrfs; others by what udev noted, or, where there
 * is no udev, xfs by its first block, which only root may read. An id says how it was learned, and only ids of one kind can be compared.
 */
import { closeSync, constants, openSync, readFileSync, readSync, readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { fileSystemIdOf } from "../../base/native-statfs.js";
import { type BytePath, pathBytes } from "../../base/paths.js";

/** What is mounted, as mountinfo has it. */
export interface Mounted {
  /** Number of its device, `major:minor`; major 0 for what has no disk of its own. */
  readonly device: string;
  readonly point: BytePath;
  /** `type source`. */
  readonly what: string;
}

/** Where the system tells. */
export interface StoragePlaces {
  readonly udev: string;
  readonly byUuid: string;
  readonly btrfs: string;
}

const PLACES: StoragePlaces = { udev: "/run/udev/data", byUuid: "/dev/disk/by-uuid", btrfs: "/sys/fs/btrfs" };
/** File systems whose statfs id is made of their UUID; that of others is a device number or made at the mount. */
const WITH_OWN_ID = /^ext[234] /;
const XFS_MAGIC = "XFSB";
/** Where the first block of xfs has its UUID. */
const XFS_UUID = { from: 32, to: 48 } as const;

/** The id of what is mounted; undefined when nothing here tells. */
export function storageIdOf(mount: Mounted, places: StoragePlaces = PLACES): string | undefined {
  if (WITH_OWN_ID.test(mount.what)) {
    const id = fileSystemIdOf(pathBytes(mount.point));
    if (id !== undefined) return `fsid:${id}`;
  }
  if (mount.what.startsWith("btrfs ")) return labelled("uuid", btrfsUuid(mount.what.slice("btrfs ".length), places));
  if (mount.device.startsWith("0:")) return undefined; // no disk of its own
  const noted = udevUuid(mount.device, places) ?? linkedUuid(mount.device, places);
  return labelled(
    "uuid",
    noted ?? (mount.what.startsWith("xfs ") ? xfsUuid(mount.what.slice("xfs ".length)) : undefined),
  );
}

/** Undefined: at least one is unknown, or they were learned in different ways. */
export function isSameStorageId(left: string | undefined, right: string | undefined): boolean | undefined {
  if (left === undefined || right === undefined || kindOf(left) !== kindOf(right)) return undefined;
  return left === right;
}

/** True for a folder without anything in it but what making a file system leaves. */
export function isNewDisk(point: BytePath): boolean {
  try {
    return readdirSync(pathBytes(point)).every((name) => name === "lost+found");
  } catch {
    return false;
  }
}

function kindOf(id: string): string {
  return id.slice(0, id.indexOf(":"));
}

function labelled(kind: string, id: string | undefined): string | undefined {
  return id === undefined || id === "" ? undefined : `${kind}:${id}`;
}

function btrfsUuid(source: string, { btrfs }: StoragePlaces): string | undefined {
  const device = basename(source);
  return namesIn(btrfs).find((uuid) => namesIn(join(btrfs, uuid, "devices")).includes(device));
}

function udevUuid(device: string, { udev }: StoragePlaces): string | undefined {
  try {
    return /^E:ID_FS_UUID=(.+)$/m.exec(readFileSync(join(udev, `b${device}`), "latin1"))?.[1];
  } catch {
    return undefined; // no udev here
  }
}

/** As the first block of the device has it; undefined: it cannot be read, or is not of xfs. */
function xfsUuid(device: string): string | undefined {
  const block = Buffer.alloc(XFS_UUID.to);
  let fd: number | undefined;
  try {
    fd = openSync(device, constants.O_RDONLY | constants.O_NONBLOCK);
    if (readSync(fd, block, 0, block.length, 0) < block.length) return undefined;
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
  if (block.toString("latin1", 0, XFS_MAGIC.length) !== XFS_MAGIC) return undefined;
  const digits = block.toString("hex", XFS_UUID.from, XFS_UUID.to);
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function linkedUuid(device: string, { byUuid }: StoragePlaces): string | undefined {
  return namesIn(byUuid).find((uuid) => {
    const rdev = statSync(join(byUuid, uuid), { bigint: true, throwIfNoEntry: false })?.rdev;
    return rdev !== undefined && deviceText(rdev) === device;
  });
}

/** As mountinfo writes it: `major:minor`. */
function deviceText(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn);
  return `${String(major)}:${String(minor)}`;
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
