/**
 * Folders that were as the registry has them when they were last compared, with what a walk said of them then. While a
 * walk says the same, and nothing of the folder was written to the registry, another comparison would find nothing. All is
 * kept in the tree of folders: of a million some tens of megabytes, where their paths would take hundreds.
 */
import { type BytePath, parentPath } from "../base/paths.js";
import type { FolderTree, Offer } from "./folder-tree.js";
import type { FolderDigest } from "./ports.js";

export class SettledFolders {
  readonly #folders: FolderTree;
  /** False while a comparison does not meet all that is known. */
  readonly #isKnownWhole: () => boolean;
  #isAnyOffered = false;

  constructor(folders: FolderTree, isKnownWhole: () => boolean) {
    this.#folders = folders;
    this.#isKnownWhole = isKnownWhole;
  }

  /** True when the folder need not be compared. */
  holds({ folder, digest }: FolderDigest): boolean {
    return digest !== undefined && this.#folders.digestOf(folder) === digest;
  }

  /** The folder is to be compared; of one that is not known nothing is settled. */
  offer({ folder, digest }: FolderDigest): void {
    if (digest === undefined || !this.#isKnownWhole()) return;
    this.#folders.setOffer(folder, { digest });
    this.#isAnyOffered = true;
  }

  /** What was offered of the folder last, for who begins to compare it. */
  offerOf(folder: BytePath): Offer | undefined {
    return this.#folders.offerOf(folder);
  }

  /**
   * A folder was compared since this was offered of it, and all was as the registry has it. What was offered since the
   * comparison began may tell of a change behind its back.
   */
  settle(folder: BytePath, offer: Offer | undefined): void {
    if (offer === undefined || this.#folders.offerOf(folder) !== offer) return;
    this.#folders.setOffer(folder, undefined);
    if (this.#isKnownWhole()) this.#folders.setDigest(folder, offer.digest);
  }

  /** A path is not as the registry has it, or was not seen: nothing is offered any more of its folder, nor of itself. */
  differs(path: BytePath): void {
    for (const folder of [path, parentPath(path)]) this.#folders.setOffer(folder, undefined);
  }

  /** All that still is offered at and below a root was compared, and nothing in it differs. */
  settleAll(root: BytePath): void {
    const isKnownWhole = this.#isKnownWhole();
    for (const [folder, { digest }] of this.#folders.takeOffers(root))
      if (isKnownWhole) this.#folders.setDigest(folder, digest);
  }

  /** Nothing that was offered at and below a root is compared any more. */
  withdraw(root: BytePath): void {
    for (const _taken of this.#folders.takeOffers(root));
  }

  /** What the registry has of a path was written: its folder is to be compared. */
  written(path: BytePath): void {
    if (!this.#isAnyOffered) return;
    for (const folder of [path, parentPath(path)]) {
      this.#folders.setOffer(folder, undefined);
      this.#folders.setDigest(folder, undefined);
    }
  }
}
