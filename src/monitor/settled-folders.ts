/**
 * Folders that were as the registry has them when they were last compared, with what a walk said of them then. While a
 * walk says the same, and nothing of the folder was written to the registry, another comparison would find nothing.
 */
import { type BytePath, isWithin, parentPath } from "../base/paths.js";
import type { FolderTree } from "./folder-tree.js";
import type { FolderDigest } from "./ports.js";

export class SettledFolders {
  readonly #folders: FolderTree;
  /** What a walk said of folders that are to be compared. */
  readonly #offered = new Map<BytePath, FolderDigest>();
  /** False while a comparison does not meet all that is known. */
  readonly #isKnownWhole: () => boolean;
  #isAnySettled = false;

  constructor(folders: FolderTree, isKnownWhole: () => boolean) {
    this.#folders = folders;
    this.#isKnownWhole = isKnownWhole;
  }

  /** True when the folder need not be compared. */
  holds({ folder, digest }: FolderDigest): boolean {
    return digest !== undefined && this.#folders.digestOf(folder) === digest;
  }

  /** The folder is to be compared. */
  offer(digested: FolderDigest): void {
    if (digested.digest !== undefined && this.#isKnownWhole()) this.#offered.set(digested.folder, digested);
  }

  /** What was offered of the folder last, for who begins to compare it. */
  offerOf(folder: BytePath): FolderDigest | undefined {
    return this.#offered.get(folder);
  }

  /**
   * A folder was compared since this was offered of it, and all was as the registry has it. What was offered since the
   * comparison began may tell of a change behind its back.
   */
  settle(offer: FolderDigest | undefined): void {
    if (offer === undefined || this.#offered.get(offer.folder) !== offer) return;
    this.#offered.delete(offer.folder);
    if (!this.#isKnownWhole()) return;
    this.#folders.setDigest(offer.folder, offer.digest);
    this.#isAnySettled = true;
  }

  /** All that is offered at and below a root was compared, and is settled but for these folders. */
  settleBut(root: BytePath, unlike: ReadonlySet<BytePath>): void {
    for (const [folder, offer] of this.#offered) if (isWithin(folder, root) && !unlike.has(folder)) this.settle(offer);
    this.withdraw(root);
  }

  /** Nothing that was offered at and below a root is compared any more. */
  withdraw(root: BytePath): void {
    for (const folder of this.#offered.keys()) if (isWithin(folder, root)) this.#offered.delete(folder);
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
