/**
 * The folders of a restore: made (or found) when their entry comes, and at the end, the deepest first, swept of what
 * does not belong and given their metadata.
 */
import { chmodSync, fstatSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { AnchoredFolder } from "../../base/anchored.js";
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, nameOf, parentPath } from "../../base/paths.js";
import { applyToDescriptor } from "../metadata.js";
import type { Entry, FileNode } from "../types.js";
import { type FolderTree, NEW_FOLDER_MODE } from "./folders.js";
import type { Keeper } from "./keep-first.js";
import type { Ledger } from "./ledger.js";
import type { Overwrite } from "./protocol.js";
import { clearLeftovers, type Spared, sweepFolder, type SweptPlace } from "./sweep.js";

/** The event loop gets its turn after this many folders: about 10 ms. */
const FOLDERS_PER_TURN = 64;
const OWNER_ALL = 0o700;

export interface FolderWorkOptions {
  readonly overwrite: Overwrite;
  readonly delete: boolean;
  readonly dryRun: boolean;
  readonly spared: Spared;
  readonly ledger: Ledger;
  readonly keeper: Keeper | undefined;
  readonly onRemoved?: ((place: SweptPlace) => void) | undefined;
}

interface KnownFolder {
  readonly source: string;
  node: FileNode;
  /** It was made by this run. */
  readonly fresh: boolean;
  /** Names that belong there; only kept when others are to be deleted. */
  readonly names: Set<string> | undefined;
}

export class FolderWork {
  readonly #tree: FolderTree;
  readonly #options: FolderWorkOptions;
  readonly #known = new Map<BytePath, KnownFolder>();
  /** One folder of each file system written to. */
  readonly #devices = new Map<bigint, BytePath>();
  /** Folders whose file system is known. */
  readonly #noted = new Set<BytePath>();
  #sinceTurn = 0;

  constructor(tree: FolderTree, options: FolderWorkOptions) {
    this.#tree = tree;
    this.#options = options;
  }

  /** Makes the folder of an entry or accepts what is there. Throws TARGET_EXISTS when that is no folder. */
  async begin({ source, path, node }: Entry): Promise<void> {
    this.belongs(path);
    await this.#turn();
    const known = this.#known.get(path);
    if (known !== undefined) {
      known.node = node; // of another source; the names of both belong there
      return;
    }
    const fresh = path === "/" ? false : this.#makeOrAccept(path);
    const names = this.#options.delete && !fresh ? new Set<string>() : undefined;
    this.#known.set(path, { source, node, fresh, names });
    if (fresh) this.#options.ledger.did(path, "folder");
  }

  /** Notes that a name belongs where it is. */
  belongs(path: BytePath): void {
    this.#known.get(parentPath(path))?.names?.add(nameOf(path));
  }

  /** True when this run made the folder: nothing is in it that this run did not put there. */
  isFresh(place: BytePath): boolean {
    return this.#known.get(place)?.fresh === true || this.#tree.made.has(place);
  }

  /** Deletes what does not belong, and gives folders their metadata. */
  async finish(parentNode: ((path: BytePath) => FileNode | undefined) | undefined, signal: AbortSignal): Promise<void> {
    for (const place of this.#tree.made) {
      const node = this.#known.has(place) ? undefined : parentNode?.(place);
      if (node?.kind === "folder") this.#known.set(place, { source: "", node, fresh: true, names: undefined });
    }
    // Descending byte order: a folder comes after everything below it.
    for (const place of [...this.#known.keys()].sort().reverse()) {
      signal.throwIfAborted();
      const known = this.#known.get(place);
      try {
        if (known !== undefined) await this.#finishFolder(place, known);
      } catch (error) {
        signal.throwIfAborted();
        this.#options.ledger.fail(place, error);
      }
    }
  }

  /** Notes the file system of a folder that is written to. */
  noteDevice(place: BytePath, folder: AnchoredFolder): void {
    if (this.#noted.has(place)) return;
    // A new folder lies where the one above it does.
    const isNew = this.isFresh(place) && this.#noted.has(parentPath(place));
    this.#noted.add(place);
    if (isNew) return;
    const { dev } = fstatSync(folder.fd, { bigint: true });
    if (!this.#devices.has(dev)) this.#devices.set(dev, place);
  }

  /** A folder on each file system that was written to. */
  devicePlaces(): BytePath[] {
    return [...this.#devices.values()];
  }

  /** Runs `work` with the descriptor of a folder. */
  async withFolder<T>(place: BytePath, work: (fd: number) => Promise<T>): Promise<T> {
    const folder = this.#tree.open(place);
    if (folder === undefined) throw new HoldfastError("TARGET_UNSAFE", "a restored folder is gone");
    try {
      return await work(folder.anchored.fd);
    } finally {
      this.#tree.release(folder);
    }
  }

  #makeOrAccept(path: BytePath): boolean {
    const { overwrite, dryRun } = this.#options;
    return this.#tree.with(parentPath(path), (parent) => {
      const name = nameOf(path);
      const present = this.isFresh(parentPath(path)) ? undefined : parent?.lstat(name);
      if (present === undefined) {
        if (!dryRun) parent?.mkdir(name, NEW_FOLDER_MODE);
        return true;
      }
      if (!present.isDirectory()) throw new HoldfastError("TARGET_EXISTS", "something that is no folder stands there");
      if (!dryRun && parent !== undefined) {
        const folder = parent.child(name);
        try {
          if (overwrite !== "never") letUsIn(folder, Number(present.mode), Number(present.uid));
          clearLeftovers(folder);
        } finally {
          folder.close();
        }
      }
      return false;
    });
  }

  async #finishFolder(place: BytePath, { source, node, fresh, names }: KnownFolder): Promise<void> {
    const { overwrite, dryRun, ledger } = this.#options;
    await this.#turn();
    const open = this.#tree.open(place);
    if (open === undefined) return;
    try {
      const folder = open.anchored;
      if (names !== undefined) await sweepFolder(folder, { path: place, source }, names, this.#options);
      if (dryRun || (overwrite === "never" && !fresh)) return;
      ledger.gaps(place, applyToDescriptor(folder.fd, node));
      this.noteDevice(place, folder);
    } finally {
      this.#tree.release(open);
    }
  }

  async #turn(): Promise<void> {
    this.#sinceTurn += 1;
    if (this.#sinceTurn < FOLDERS_PER_TURN) return;
    this.#sinceTurn = 0;
    await nextTurn();
  }
}

/** Without root's rights, a folder of ours that forbids writing is opened for us; its own mode comes at the end. */
function letUsIn(folder: AnchoredFolder, mode: number, uid: number): void {
  if (process.geteuid?.() === 0 || uid !== process.geteuid?.() || (mode & OWNER_ALL) === OWNER_ALL) return;
  chmodSync(`/proc/self/fd/${folder.fd}`, (mode & 0o7777) | OWNER_ALL);
}
