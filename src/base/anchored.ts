/**
 * Path steps that cannot be tricked. A chain of folders is opened component by component, each below the descriptor
 * of the one before (`/proc/self/fd/N/name`) and never through a symbolic link, so that whoever swaps a folder for a
 * link while we work cannot make us write elsewhere. Calls are synchronous and short, except `sync`.
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  fsync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import { promisify } from "node:util";
import { errnoOf, HoldfastError } from "./errors.js";
import { nativeCalls } from "./native.js";
import { type BytePath, isWithin, joinPath, pathBytes, pathFromBytes, pathText, relativeTo } from "./paths.js";

export interface AnchorOptions {
  /** Missing folders below the root are made with this mode; undefined: ENOENT is thrown. */
  readonly makeMode?: number;
}

const FOLDER_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** What a system says that has no such rename, or not on this file system. */
const CANNOT_RENAME_SO = new Set(["EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"]);
const fsyncAsync = promisify(fsync);

/** An open folder. Names are single components in bytes-as-characters; "", ".", ".." and names with "/" are refused. */
export class AnchoredFolder implements AsyncDisposable {
  /** Where it was when it was opened. */
  readonly path: BytePath;
  readonly #fd: number;
  readonly #root: BytePath;
  #open = true;

  /** Takes over an open descriptor; use `openAnchored` and `child`. */
  constructor(fd: number, path: BytePath, root: BytePath) {
    this.#fd = fd;
    this.path = path;
    this.#root = root;
  }

  /** Descriptor of the folder, for as long as it is not disposed. */
  get fd(): number {
    if (!this.#open) throw new HoldfastError("INTERNAL", "an anchored folder was used after it was closed");
    return this.#fd;
  }

  /** Opens a sub-folder; TARGET_UNSAFE when the name is a symbolic link or no folder, ENOENT when missing. */
  child(name: string, options: AnchorOptions = {}): AnchoredFolder {
    const path = joinPath(this.path, name);
    try {
      return new AnchoredFolder(openSync(this.at(name), FOLDER_FLAGS), path, this.#root);
    } catch (error) {
      if (isNoFolder(error)) throw unsafe(path, error);
      if (errnoOf(error) !== "ENOENT" || options.makeMode === undefined) throw error;
    }
    makeUnlessThere(() => this.mkdir(name, options.makeMode ?? 0));
    return this.child(name);
  }

  /** Path of a name below this descriptor, for calls that this class does not have; valid while it is open. */
  at(name: string): Buffer {
    if (name === "" || name === "." || name === ".." || name.includes("/") || name.includes("\0")) {
      throw new HoldfastError("TARGET_UNSAFE", "a file name is empty, or leads out of its folder");
    }
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, "latin1");
  }

  /** Stat without following; undefined when there is no such name. */
  lstat(name: string): BigIntStats | undefined {
    return lstatSync(this.at(name), { bigint: true, throwIfNoEntry: false });
  }

  /** Opens a file below, never through a link (O_NOFOLLOW is added); the caller closes the descriptor. */
  openFile(name: string, flags: number, mode?: number): number {
    try {
      return openSync(this.at(name), flags | constants.O_NOFOLLOW, mode);
    } catch (error) {
      if (errnoOf(error) === "ELOOP") throw unsafe(joinPath(this.path, name), error);
      throw error;
    }
  }

  /** Target of a link, bytes as characters. */
  readlink(name: string): string {
    return readlinkSync(this.at(name), "latin1");
  }

  /** Names in the folder, bytes as characters, in no order. */
  names(): string[] {
    return readdirSync(`/proc/self/fd/${this.fd}`, "latin1");
  }

  mkdir(name: string, mode: number): void {
    mkdirSync(this.at(name), { mode });
  }

  symlink(target: string, name: string): void {
    symlinkSync(Buffer.from(target, "latin1"), this.at(name));
  }

  /** Hard link; EEXIST when `name` is taken: nothing is overwritten. */
  link(fromName: string, to: AnchoredFolder, name: string): void {
    linkSync(this.at(fromName), to.at(name));
  }

  rename(fromName: string, to: AnchoredFolder, name: string): void {
    renameSync(this.at(fromName), to.at(name));
  }

  /**
   * Gives the entry a name only if that is free, in one step where the system can, else by a link beside it. False: the
   * name is taken and nothing changed.
   */
  renameToFree(fromName: string, to: AnchoredFolder, name: string): boolean {
    try {
      if (!renamedAs(this.at(fromName), to.at(name), "to_free")) {
        this.link(fromName, to, name);
        this.unlink(fromName);
      }
      return true;
    } catch (error) {
      if (errnoOf(error) === "EEXIST") return false;
      throw error;
    }
  }

  /** The same for a folder; where the system cannot, a folder of that name is replaced when it is empty. */
  renameFolderToFree(fromName: string, to: AnchoredFolder, name: string): boolean {
    try {
      if (!renamedAs(this.at(fromName), to.at(name), "to_free")) this.rename(fromName, to, name);
      return true;
    } catch (error) {
      if (["EEXIST", "ENOTEMPTY"].includes(errnoOf(error) ?? "")) return false;
      throw error;
    }
  }

  /** Swaps what two names stand for, in one step. False: the system or the file system cannot; nothing changed. */
  exchange(fromName: string, to: AnchoredFolder, name: string): boolean {
    return renamedAs(this.at(fromName), to.at(name), "exchange");
  }

  unlink(name: string): void {
    unlinkSync(this.at(name));
  }

  rmdir(name: string): void {
    rmdirSync(this.at(name));
  }

  /** Makes the names in this folder durable. */
  async sync(): Promise<void> {
    await fsyncAsync(this.fd);
  }

  /** True while the path still leads to this very folder without passing a symbolic link below the root. */
  verify(): boolean {
    try {
      const here = fstatSync(this.fd, { bigint: true });
      const again = openChain(this.#root, relativeTo(this.path, this.#root), {});
      try {
        const there = fstatSync(again.fd, { bigint: true });
        return here.dev === there.dev && here.ino === there.ino;
      } finally {
        again.close();
      }
    } catch (error) {
      if (error instanceof HoldfastError || errnoOf(error) !== undefined) return false;
      throw error;
    }
  }

  /** Closes the descriptor at once; idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await Promise.resolve();
  }
}

/**
 * Opens `folder`, which must be `root` or below it. `root` is trusted as configured: links in it are resolved once;
 * below it none is followed. Throws TARGET_UNSAFE, and the system's errors (ENOENT, EACCES).
 */
export function openAnchored(root: BytePath, folder: BytePath, options: AnchorOptions = {}): AnchoredFolder {
  if (!isWithin(folder, root)) throw new HoldfastError("TARGET_UNSAFE", `${pathText(folder)} is not in its root`);
  const realRoot = pathFromBytes(realpathSync.native(pathBytes(root), "buffer"));
  return openChain(realRoot, relativeTo(folder, root), options);
}

/** Opens the root and then name after name below it; what is passed on the way is closed again. */
function openChain(root: BytePath, below: string, options: AnchorOptions): AnchoredFolder {
  let folder = openRoot(root);
  for (const name of below.split("/").filter((part) => part !== "")) {
    const parent = folder;
    try {
      folder = parent.child(name, options);
    } finally {
      parent.close();
    }
  }
  return folder;
}

function openRoot(root: BytePath): AnchoredFolder {
  try {
    return new AnchoredFolder(openSync(pathBytes(root), FOLDER_FLAGS), root, root);
  } catch (error) {
    if (isNoFolder(error)) throw unsafe(root, error);
    throw error;
  }
}

/** False where the system knows no such rename. */
function renamedAs(from: Buffer, to: Buffer, how: "exchange" | "to_free"): boolean {
  const native = nativeCalls();
  if (native === undefined) return false;
  try {
    native.renameAs(from, to, how);
    return true;
  } catch (error) {
    if (CANNOT_RENAME_SO.has(errnoOf(error) ?? "")) return false;
    throw error;
  }
}

/** With O_DIRECTORY and O_NOFOLLOW a link gives ENOTDIR or ELOOP, whichever the kernel looks at first. */
function isNoFolder(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ELOOP" || errno === "ENOTDIR";
}

function makeUnlessThere(make: () => void): void {
  try {
    make();
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
  }
}

function unsafe(path: BytePath, cause: unknown): HoldfastError {
  return new HoldfastError("TARGET_UNSAFE", `${pathText(path)} is a symbolic link or no folder; nothing was written`, {
    cause,
  });
}
