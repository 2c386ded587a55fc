/**
 * Looking things up in backups: lists of folders, kept while there is room, and the list of backups, which is asked for
 * again after a moment. Equal questions at the same time are asked once.
 */
import type { Clock } from "../base/clock.js";
import { type BytePath, joinPath, nameOf, parentPath } from "../base/paths.js";
import type { BackupLibrary, BrowseBackup, BrowseNode } from "./library.js";

/** Names kept of all folders together: about 60 MB; one folder that is larger is kept alone. */
const NAMES_KEPT = 100_000;
/** A new backup shows after this long. */
const BACKUPS_FRESH_MS = 2_000;
/** A link that leads through more links than this leads nowhere (as the kernel has it). */
const LINKS_MAX = 40;

/** A folder's names, in the order of the backup. */
export interface Folder {
  readonly nodes: readonly BrowseNode[];
  readonly byName: ReadonlyMap<string, number>;
}

/** A path of a backup with what stands there. */
export interface Found {
  readonly path: BytePath;
  readonly node: BrowseNode;
}

export class BackupTree {
  readonly #library: BackupLibrary;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #folders = new Map<string, Folder>();
  readonly #asked = new Map<string, Promise<Folder>>();
  #namesKept = 0;
  #backups: { readonly list: Promise<readonly BrowseBackup[]>; readonly untilMs: number } | undefined;

  constructor(library: BackupLibrary, clock: Clock, signal: AbortSignal) {
    this.#library = library;
    this.#clock = clock;
    this.#signal = signal;
  }

  /** Oldest first. */
  async backups(): Promise<readonly BrowseBackup[]> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#backups === undefined || nowMs >= this.#backups.untilMs) {
      const list = this.#library.backups(this.#signal);
      this.#backups = { list, untilMs: nowMs + BACKUPS_FRESH_MS };
      list.catch(() => {
        this.#backups = undefined; // a failure is not kept
      });
    }
    return await this.#backups.list;
  }

  async folder(backupId: string, path: BytePath): Promise<Folder> {
    const key = `${backupId}\0${path}`;
    const kept = this.#folders.get(key);
    if (kept !== undefined) {
      this.#folders.delete(key); // the last used one stays longest
      this.#folders.set(key, kept);
      return kept;
    }
    const asked = this.#asked.get(key) ?? this.#ask(key, backupId, path);
    this.#asked.set(key, asked);
    return await asked;
  }

  async #ask(key: string, backupId: string, path: BytePath): Promise<Folder> {
    try {
      const nodes = await this.#library.folder(backupId, path, this.#signal);
      const folder: Folder = { nodes, byName: new Map(nodes.map((node, index) => [node.name, index])) };
      this.#keep(key, folder);
      return folder;
    } finally {
      this.#asked.delete(key);
    }
  }

  #keep(key: string, folder: Folder): void {
    this.#folders.set(key, folder);
    this.#namesKept += folder.nodes.length + 1;
    for (const [oldest, { nodes }] of this.#folders) {
      if (this.#namesKept <= NAMES_KEPT || oldest === key) return;
      this.#folders.delete(oldest);
      this.#namesKept -= nodes.length + 1;
    }
  }

  /** The folder that a path lies in. */
  async parentOf({ backupId, path }: { readonly backupId: string; readonly path: BytePath }): Promise<Folder> {
    return await this.folder(backupId, parentPath(path));
  }

  /** What stands at a path; undefined when nothing. The root has no node of its own. */
  async node(backupId: string, path: BytePath): Promise<BrowseNode | undefined> {
    const { nodes, byName } = await this.folder(backupId, parentPath(path));
    const index = byName.get(nameOf(path));
    return index === undefined ? undefined : nodes[index];
  }

  /** As `node`, but undefined also when a folder on the way does not exist. */
  async find(backupId: string, path: BytePath): Promise<BrowseNode | undefined> {
    let folder = "/" as BytePath;
    const names = path.split("/").filter(Boolean);
    for (const [index, name] of names.entries()) {
      const here = joinPath(folder, name);
      const node = await this.node(backupId, here);
      if (node === undefined || index === names.length - 1) return node;
      if (node.kind !== "folder") return undefined;
      folder = here;
    }
    return undefined;
  }

  /** Where a symbolic link of a backup leads within it; undefined when to nothing there, or in a circle. */
  async follow(backupId: string, path: BytePath): Promise<Found | undefined> {
    let left = LINKS_MAX;
    const todo = path.split("/").filter(Boolean).reverse();
    let at = "/" as BytePath;
    let last: Found | undefined;
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      if (name === "." || name === "..") {
        if (name === "..") at = parentPath(at);
        last = undefined;
        continue;
      }
      const here = joinPath(at, name);
      const node = await this.node(backupId, here);
      if (node === undefined) return undefined;
      if (node.kind === "symlink") {
        left -= 1;
        if (left < 0) return undefined;
        const target = node.linkTarget ?? "";
        if (target.startsWith("/")) at = "/" as BytePath;
        todo.push(...target.split("/").filter(Boolean).reverse());
        continue;
      }
      if (node.kind !== "folder" && todo.length > 0) return undefined;
      last = { path: here, node };
      at = here;
    }
    return last;
  }
}
