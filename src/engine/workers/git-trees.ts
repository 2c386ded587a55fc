/**
 * Which files lie in a work tree of git: only of those the blob id is of use (`recovery/` looks for it in git's
 * objects), and it costs a second hash over the whole content. Answers are remembered for one batch, so that a tree
 * that becomes one of git's counts from then on.
 */
import { lstatSync } from "node:fs";
import { type BytePath, joinPath, parentPath } from "../../base/paths.js";
import { reach } from "../../base/reach.js";

const GIT_NAME = ".git";

export class GitTrees {
  readonly #folders = new Map<BytePath, boolean>();

  /** Forgets what was found. */
  forget(): void {
    this.#folders.clear();
  }

  /** True when a folder above the path holds `.git`, and the path is not inside of that. */
  holds(path: BytePath): boolean {
    return this.#isTree(parentPath(path)) && !path.includes(`/${GIT_NAME}/`);
  }

  #isTree(folder: BytePath): boolean {
    const known = this.#folders.get(folder);
    if (known !== undefined) return known;
    const found = hasGit(folder) || (folder !== "/" && this.#isTree(parentPath(folder)));
    this.#folders.set(folder, found);
    return found;
  }
}

function hasGit(folder: BytePath): boolean {
  try {
    return reach(joinPath(folder, GIT_NAME), (place) => lstatSync(place, { throwIfNoEntry: false })) !== undefined;
  } catch {
    return false; // not ours to look at: then git's objects are neither
  }
}
