/**
 * The folders of a restore, held open while files are put into them. Each is opened below its parent's descriptor and
 * never through a symbolic link; the target itself (or the root of the file system) is trusted and resolved once.
 * Folders that were just used stay open, so that neighbours do not open the whole way again.
 */
import { constants, mkdirSync, openSync, realpathSync } from "node:fs";
import { AnchoredFolder } from "../../base/anchored.js";
import { errnoOf, HoldfastError } from "../../base/errors.js";
import { type BytePath, joinPath, nameOf, parentPath, pathBytes, pathFromBytes, pathText } from "../../base/paths.js";
import { isInPlace } from "./place-batch.js";

/** Folders kept open without a user. */
const IDLE_MAX = 64;
/** Until its own mode is applied, a new folder lets nobody else in. */
export const NEW_FOLDER_MODE = 0o700;
const ROOT_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY;

/** An open folder of the target. `place` is its stored path: with a target, the path below that. */
export interface OpenFolder {
  readonly place: BytePath;
  readonly anchored: AnchoredFolder;
  readonly root: BytePath;
  users: number;
}

export class FolderTree implements Disposable {
  readonly #root: BytePath;
  readonly #makes: boolean;
  readonly #open = new Map<BytePath, OpenFolder>();
  readonly #idle = new Set<OpenFolder>();
  /** Folders that had to be made on the way to another. */
  readonly made = new Set<BytePath>();

  private constructor(root: BytePath, makes: boolean) {
    this.#root = root;
    this.#makes = makes;
  }

  /**
   * `target`: stored paths are found again below it; undefined: at their own places. It is made when it is missing,
   * unless `dryRun`. Throws TARGET_UNSAFE and the system's errors.
   */
  static begin(target: BytePath | undefined, dryRun: boolean): FolderTree {
    const root = target ?? ("/" as BytePath);
    if (!dryRun) mkdirSync(pathBytes(root), { recursive: true, mode: NEW_FOLDER_MODE });
    return new FolderTree(realPathOf(root, dryRun), !dryRun);
  }

  /**
   * Opens the folder of a stored path and counts a user, who must `release` it. Missing ones are made; in a dry run
   * the answer is undefined then. Throws TARGET_UNSAFE when a link or a file stands in the way.
   */
  open(place: BytePath): OpenFolder | undefined {
    const missing: BytePath[] = [];
    let above = place;
    let folder = this.#known(above);
    while (folder === undefined && above !== "/") {
      missing.push(above);
      above = parentPath(above);
      folder = this.#known(above);
    }
    folder ??= this.#openRoot();
    // From above down, holding one folder at a time: a path can have more names than a process may have open.
    for (let next = missing.pop(); next !== undefined && folder !== undefined; next = missing.pop()) {
      const parent = folder;
      try {
        folder = this.#openChild(parent.anchored, next);
      } finally {
        this.release(parent);
      }
    }
    return folder;
  }

  /** A folder that is open and still where it was. */
  #known(place: BytePath): OpenFolder | undefined {
    const known = this.#open.get(place);
    if (known === undefined) return undefined;
    if (!isInPlace(known.anchored)) {
      this.#forget(known);
      return undefined;
    }
    known.users += 1;
    this.#idle.delete(known);
    return known;
  }

  /** Moved away: whoever still uses it is told so by itself. */
  #forget(folder: OpenFolder): void {
    this.#open.delete(folder.place);
    if (this.#idle.delete(folder)) folder.anchored.close();
  }

  #register(place: BytePath, anchored: AnchoredFolder): OpenFolder {
    const folder = { place, anchored, root: this.#root, users: 1 };
    this.#open.set(place, folder);
    return folder;
  }

  /** Ends a use. */
  release(folder: OpenFolder): void {
    folder.users -= 1;
    if (folder.users > 0) return;
    if (this.#open.get(folder.place) !== folder) {
      folder.anchored.close();
      return;
    }
    this.#idle.add(folder);
    for (const oldest of this.#idle) {
      if (this.#idle.size <= IDLE_MAX) return;
      this.#idle.delete(oldest);
      this.#open.delete(oldest.place);
      oldest.anchored.close();
    }
  }

  /** Runs `work` with the open folder. */
  with<T>(place: BytePath, work: (folder: AnchoredFolder | undefined) => T): T {
    const folder = this.open(place);
    try {
      return work(folder?.anchored);
    } finally {
      if (folder !== undefined) this.release(folder);
    }
  }

  #openRoot(): OpenFolder | undefined {
    try {
      const fd = openSync(pathBytes(this.#root), ROOT_FLAGS);
      return this.#register("/" as BytePath, new AnchoredFolder(fd, this.#root, this.#root));
    } catch (error) {
      if (!this.#makes && errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  #openChild(parent: AnchoredFolder, place: BytePath): OpenFolder | undefined {
    const name = nameOf(place);
    try {
      return this.#register(place, parent.child(name));
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      if (!this.#makes) return undefined;
    }
    const made = this.#register(place, parent.child(name, { makeMode: NEW_FOLDER_MODE }));
    this.made.add(place);
    return made;
  }

  [Symbol.dispose](): void {
    for (const folder of this.#open.values()) folder.anchored.close();
    this.#open.clear();
    this.#idle.clear();
  }
}

/** Throws TARGET_UNSAFE for a stored path that is not absolute; its names are checked one by one when they are opened. */
export function assertPlace(place: BytePath): void {
  if (place.startsWith("/")) return;
  throw new HoldfastError("TARGET_UNSAFE", `a stored path is not absolute: ${pathText(place)}`);
}

function realPathOf(root: BytePath, dryRun: boolean): BytePath {
  try {
    return pathFromBytes(realpathSync.native(pathBytes(root), "buffer"));
  } catch (error) {
    if (!dryRun || errnoOf(error) !== "ENOENT") throw error;
    const parent = parentPath(root);
    return parent === root ? root : joinPath(realPathOf(parent, dryRun), nameOf(root));
  }
}
