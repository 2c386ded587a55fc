/**
 * What a file source consists of: which real folders it lives in and which paths below them belong to it. Plain data
 * in, pure decisions out, so that the same selection works in the daemon and in the walking worker.
 */
import { STAGING_PREFIX } from "../base/atomic-file.js";
import { PIN_FOLDER_PREFIX } from "../base/own-names.js";
import { type BytePath, isWithin, nameOf, parentPath } from "../base/paths.js";
import { ExcludePatterns, globMatcher } from "./patterns.js";

/** One configured path, resolved. */
export interface SourceRoot {
  /** The real folder to watch and walk. */
  readonly folder: BytePath;
  /** True: the folder itself and everything below is protected. */
  readonly whole: boolean;
  /** True: only names directly in the folder can match. */
  readonly shallow: boolean;
  /** The one file, when a single file was configured. */
  readonly file?: BytePath;
  /** The glob on whole paths, when a glob was configured. */
  readonly glob?: string;
}

/** Everything a selection is made from; can be sent to a worker. */
export interface SelectionSpec {
  readonly roots: readonly SourceRoot[];
  readonly exclude: readonly string[];
  /** holdfast's own folders (store, state): never part of a source. */
  readonly ownFolders: readonly BytePath[];
  readonly sizeBytesMin?: number | undefined;
  readonly sizeBytesMax?: number | undefined;
  /** False: folders that are mount points are left out (their own folder entry stays). */
  readonly crossMounts: boolean;
}

interface CompiledRoot extends SourceRoot {
  readonly matches: (path: string) => boolean;
}

export class Selection {
  readonly spec: SelectionSpec;
  readonly #roots: readonly CompiledRoot[];
  readonly #exclude: ExcludePatterns;

  constructor(spec: SelectionSpec) {
    this.spec = spec;
    this.#exclude = new ExcludePatterns(spec.exclude);
    this.#roots = spec.roots.map((root) => ({
      ...root,
      matches: root.glob === undefined ? (path) => path === root.file : globMatcher(root.glob),
    }));
  }

  /** Whether a path belongs to the source; `isFolder` decides about patterns and about globs, which take files. */
  includes(path: BytePath, isFolder: boolean): boolean {
    if (this.#isOwn(path)) return false;
    return this.#roots.some((root) => {
      if (!isWithin(path, root.folder)) return false;
      if (!root.whole && (isFolder || !root.matches(path))) return false;
      return !this.#exclude.excludesWithin(path, root.folder, isFolder);
    });
  }

  /** Whether something of the source can lie below this folder. */
  mayContain(folder: BytePath): boolean {
    if (this.#isOwn(folder)) return false;
    return this.#roots.some((root) => {
      if (folder === root.folder || isWithin(root.folder, folder)) return true;
      if (!isWithin(folder, root.folder) || root.shallow) return false;
      return !this.#exclude.excludesWithin(folder, root.folder, true);
    });
  }

  /** Whether a configured root is this folder or lies below it: then even a mount point is entered. */
  isOnTheWay(folder: BytePath): boolean {
    return this.#roots.some((root) => isWithin(root.folder, folder));
  }

  /** Whether a file of this size belongs to the source. */
  fitsSize(sizeBytes: number): boolean {
    return sizeBytes >= (this.spec.sizeBytesMin ?? 0) && sizeBytes <= (this.spec.sizeBytesMax ?? Infinity);
  }

  #isOwn(path: BytePath): boolean {
    if (OWN_PREFIXES.some((prefix) => path.includes(prefix)) && hasOwnName(path)) return true;
    return this.spec.ownFolders.some((folder) => isWithin(path, folder));
  }
}

/** What holdfast makes beside other people's files. */
const OWN_PREFIXES = [STAGING_PREFIX, PIN_FOLDER_PREFIX];

function hasOwnName(path: BytePath): boolean {
  for (let part = path; part !== "/"; part = parentPath(part)) {
    if (OWN_PREFIXES.some((prefix) => nameOf(part).startsWith(prefix))) return true;
  }
  return false;
}
