/**
 * Everything of a file beside its content: reading it into a node, and giving it back to a restored file in the order
 * that works: owner first (a change of owner clears setuid and capabilities), then attributes (which need write
 * permission), then mode, times last. What cannot be given back is listed, never thrown.
 */
import {
  type BigIntStats,
  chmodSync,
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  futimesSync,
  lchownSync,
  lutimesSync,
} from "node:fs";
import type { AnchoredFolder } from "../base/anchored.js";
import { errnoOf, HoldfastError } from "../base/errors.js";
import { attributesOf } from "../base/native-statx.js";
import { nativeCalls, type NativeCalls, type NodeTarget } from "../base/native.js";
import { type FileNode, INODE_FLAGS, type InodeFlag, type NodeKind } from "./types.js";

const PERMISSION_BITS = 0o7777;
/** setuid and setgid: never given to a file whose owner could not be restored. */
const IDENTITY_BITS = 0o6000;
/** Opens a name for nothing but to name it; of the Linux ABI, Node has no constant for it. */
const O_PATH = 0o10000000;
const SECOND_NS = 1e9;
/** Of the Linux ABI. */
const STATX_ATTRIBUTES: Readonly<Record<InodeFlag, number>> = { immutable: 0x10, append_only: 0x20, no_dump: 0x40 };
const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map();

/** A value that is still being filled. */
export type Filling<T> = { -readonly [K in keyof T]: T[K] };

/** The kind of a stat, or undefined for sockets and unknown things. */
export function kindOf(stat: BigIntStats): NodeKind | undefined {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "folder";
  if (stat.isSymbolicLink()) return "symlink";
  if (stat.isFIFO()) return "fifo";
  if (stat.isCharacterDevice()) return "char_device";
  return stat.isBlockDevice() ? "block_device" : undefined;
}

/**
 * The node of a stat without content: kind, tuple, mode, owner, links, device numbers, and extended attributes and flags
 * of the inode when `target` is given. Throws INTERNAL for a kind that is not kept (sockets).
 */
export function nodeFromStat(stat: BigIntStats, target?: NodeTarget): FileNode {
  const kind = kindOf(stat);
  if (kind === undefined) throw new HoldfastError("INTERNAL", "a socket has no node");
  const node: Filling<FileNode> = {
    kind,
    stat: {
      dev: stat.dev,
      ino: stat.ino,
      sizeBytes: kind === "file" ? Number(stat.size) : 0,
      mtimeNs: stat.mtimeNs,
      ctimeNs: stat.ctimeNs,
    },
    mode: Number(stat.mode) & PERMISSION_BITS,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    linkCount: Number(stat.nlink),
  };
  // Field by field, not by copies: this is done for every file of every walk.
  const xattrs = target === undefined ? undefined : readXattrs(target);
  if (xattrs !== undefined) node.xattrs = xattrs;
  const inodeFlags = target === undefined ? undefined : inodeFlagsOf(target);
  if (inodeFlags !== undefined) node.inodeFlags = inodeFlags;
  if (kind === "char_device" || kind === "block_device") node.device = deviceNumbers(stat.rdev);
  return node;
}

/** True for what the system lets nobody replace or remove: a restore over it fails, and one elsewhere does not make it so. */
export function isImmutable({ inodeFlags }: FileNode): boolean {
  return inodeFlags?.some((flag) => flag !== "no_dump") === true;
}

/** Undefined when none is set, or koffi, the system or the file system tell none. */
function inodeFlagsOf(target: NodeTarget): readonly InodeFlag[] | undefined {
  const attributes = attributesOf(target);
  return attributes === 0 ? undefined : flagsOfAttributes(attributes);
}

/** Of `stx_attributes` of statx(2). */
function flagsOfAttributes(attributes: number): readonly InodeFlag[] | undefined {
  const flags = INODE_FLAGS.filter((flag) => (attributes & STATX_ATTRIBUTES[flag]) !== 0);
  return flags.length === 0 ? undefined : flags;
}

/** As `major()` and `minor()` of the C library split the number. */
function deviceNumbers(rdev: bigint): { major: number; minor: number } {
  return {
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)),
  };
}

/** All attributes that may be read, sorted by name; undefined when there are none or koffi is missing. */
function readXattrs(target: NodeTarget): ReadonlyMap<string, Uint8Array> | undefined {
  const native = nativeCalls();
  const names = native === undefined ? [] : withErrno(() => native.listXattrs(target), []);
  if (native === undefined || names.length === 0) return undefined;
  const found = new Map<string, Uint8Array>();
  for (const name of names.sort()) {
    const value = withErrno(() => native.getXattr(target, name), undefined);
    if (value !== undefined) found.set(name, new Uint8Array(value));
  }
  return found.size === 0 ? undefined : found;
}

/** One thing that could not be given back; never an error of the restore. */
export interface MetadataGap {
  readonly what: "owner" | "mode" | "times" | "xattr" | "xattr_removal";
  /** Attribute name, where there is one. */
  readonly name?: string;
  /** The system's error name, or UNSUPPORTED without koffi. */
  readonly errno: string;
}

/** How the calls reach what is to be changed. */
interface Handle {
  readonly native: NodeTarget;
  readonly born?: Inheritance | undefined;
  stat(): BigIntStats | undefined;
  chown(uid: number, gid: number): void;
  /** Undefined for symlinks, which have no mode of their own. */
  readonly chmod: ((mode: number) => void) | undefined;
  setTimesRoughly(accessSeconds: number, modificationSeconds: number): void;
}

/** What new files of a folder are born with: looked up for one, it holds for those made after it. */
export interface Inheritance {
  readonly uid: number;
  readonly gid: number;
  /** They get attributes of the folder, such as its default ACL: these have to be looked at for each. */
  readonly xattrs: boolean;
}

/** What a file has that was just made and not touched since. */
export function inheritanceOf(fd: number): Inheritance {
  const { uid, gid } = fstatSync(fd);
  const native = nativeCalls();
  return { uid, gid, xattrs: native === undefined || surplusXattrs({ fd }, NO_XATTRS, native).length > 0 };
}

/** Applies owner, attributes, mode and times to an open file or folder; `born` only to a file that was just made. */
export function applyToDescriptor(fd: number, node: FileNode, born?: Inheritance): MetadataGap[] {
  return applyMetadata(node, {
    native: { fd },
    born,
    stat: () => fstatSync(fd, { bigint: true }),
    chown: (uid, gid) => fchownSync(fd, uid, gid),
    chmod: (mode) => fchmodSync(fd, mode),
    setTimesRoughly: (access, modification) => futimesSync(fd, access, modification),
  });
}

/** Applies what a name of an anchored folder can take without following it: symlinks, FIFOs, devices. */
export function applyToName(folder: AnchoredFolder, name: string, node: FileNode): MetadataGap[] {
  const path = folder.at(name);
  return applyMetadata(node, {
    native: { path },
    stat: () => folder.lstat(name),
    chown: (uid, gid) => lchownSync(path, uid, gid),
    chmod: node.kind === "symlink" ? undefined : (mode) => chmodName(folder, name, mode),
    setTimesRoughly: (access, modification) => lutimesSync(path, access, modification),
  });
}

/** chmod without following: the name is pinned by a descriptor, a FIFO is not opened for reading. */
function chmodName(folder: AnchoredFolder, name: string, mode: number): void {
  const fd = folder.openFile(name, O_PATH);
  try {
    if (fstatSync(fd).isSymbolicLink()) throw new HoldfastError("TARGET_UNSAFE", "a link took the place of a file");
    chmodSync(`/proc/self/fd/${fd}`, mode);
  } finally {
    closeSync(fd);
  }
}

function applyMetadata(node: FileNode, handle: Handle): MetadataGap[] {
  const gaps: MetadataGap[] = [];
  const attempt = (what: MetadataGap["what"], work: () => void, name?: string): boolean => {
    try {
      work();
      return true;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined || error instanceof HoldfastError) throw error;
      gaps.push({ what, errno, ...(name === undefined ? {} : { name }) });
      return false;
    }
  };
  const { born } = handle;
  const before = born === undefined ? handle.stat() : undefined;
  const { uid, gid } = born ?? { uid: Number(before?.uid), gid: Number(before?.gid) };
  const owned = (uid === node.uid && gid === node.gid) || attempt("owner", () => handle.chown(node.uid, node.gid));
  if (born?.xattrs !== false || node.xattrs !== undefined) applyXattrs(node, handle, attempt);
  const mode = owned ? node.mode : node.mode & ~IDENTITY_BITS;
  const { chmod } = handle;
  if (chmod !== undefined) attempt("mode", () => chmod(mode));
  if (chmod !== undefined && mode !== node.mode) gaps.push({ what: "mode", errno: "EPERM" });
  attempt("times", () => setTimes(handle, before?.atimeNs, node.stat.mtimeNs));
  return gaps;
}

function setTimes(handle: Handle, accessNs: bigint | undefined, modificationNs: bigint): void {
  const native = nativeCalls();
  if (native !== undefined) native.setTimes(handle.native, undefined, modificationNs);
  else handle.setTimesRoughly(Number(accessNs ?? modificationNs) / SECOND_NS, Number(modificationNs) / SECOND_NS);
}

type Attempt = (what: MetadataGap["what"], work: () => void, name?: string) => boolean;

function applyXattrs(node: FileNode, handle: Handle, attempt: Attempt): void {
  const wanted = node.xattrs ?? NO_XATTRS;
  const native = nativeCalls();
  if (native === undefined) {
    for (const name of wanted.keys()) attempt("xattr", unsupported, name);
    return;
  }
  for (const name of surplusXattrs(handle.native, wanted, native)) {
    attempt("xattr_removal", () => native.removeXattr(handle.native, name), name);
  }
  for (const [name, value] of wanted) {
    attempt("xattr", () => native.setXattr(handle.native, name, value), name);
  }
}

/** What a fresh file inherited and the kept one had not: the folder's default ACL, mostly. Security labels stay. */
function surplusXattrs(
  target: NodeTarget,
  wanted: ReadonlyMap<string, Uint8Array>,
  native: NativeCalls,
): readonly string[] {
  const names = withErrno(() => native.listXattrs(target), []);
  return names.filter((name) => !wanted.has(name) && !name.startsWith("security."));
}

function unsupported(): never {
  throw Object.assign(new Error("koffi is not installed"), { code: "UNSUPPORTED" });
}

/** The result, or `otherwise` when the system refused. */
function withErrno<T>(call: () => T, otherwise: T): T {
  try {
    return call();
  } catch (error) {
    if (errnoOf(error) !== undefined) return otherwise;
    throw error;
  }
}
