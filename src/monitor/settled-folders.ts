/**
 * Folders that were as the registry has them when they were last compared, with what a walk said of them then. While a
 * walk says the same, and nothing of the folder was written to the registry, another comparison would find nothing.
 */
import { type BytePath, parentPath } from "../base/paths.js";
import type { FolderTree } from "./folder-tree.js";
import type { FolderDigest } from "./ports.js";

export class SettledFolders {
  readonly #folders: FolderTree;
  /** What a walk said of folders that are to be compared. */
  readonly #offered = new Map<BytePath, number>();
  #isAnySettled = false;

  constructor(folders: FolderTree) {
    this.#folders = folders;
  }

  /** True when the folder need not be compared. */
  holds({ folder, digest }: FolderDigest): boolean {
    return digest !== undefined && this.#folders.digestOf(folder) === digest;
  }

  /** The folder is to be compared. */
  offer({ folder, digest }: FolderDigest): void {
    if (digest !== undefined) this.#offered.set(folder, digest);
  }

  isOffered(folder: BytePath): boolean {
    return this.#offered.has(folder);
  }

  /** It was compared since it was offered, and all was as the registry has it. */
  settle(folder: BytePath): void {
    const digest = this.#offered.get(folder);
    if (digest === undefined) return;
    this.#offered.delete(folder);
    this.#folders.setDigest(folder, digest);
    this.#isAnySettled = true;
  }

  /** All that is offered was compared, and is settled but for these folders. */
  settleBut(unlike: ReadonlySet<BytePath>): void {
    for (const folder of this.#offered.keys()) if (!unlike.has(folder)) this.settle(folder);
    this.#offered.clear();
  }

  /** Nothing that was offered is compared any more. */
  withdraw(): void {
    this.#offered.clear();
  }

  /** What the registry has of a path was written: its folder is to be compared. */
  written(path: BytePath): void {
    if (!this.#isAnySettled && this.#offered.size === 0) return;
    for (const folder of [path, parentPath(path)]) {
      this.#offered.delete(folder);
      this.#folders.setDigest(folder, undefined);
    }
  }
}
