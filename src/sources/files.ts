/**
 * The source of files: folders, single files and globs, with exclude patterns and limits. It tells which real folders
 * to watch, which paths belong to it, and walks them in a worker thread. Single files and globs live in their folder:
 * when the file is gone the folder still tells.
 */
import { lstatSync, realpathSync } from "node:fs";
import { availableParallelism } from "node:os";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { type BytePath, isWithin, joinPath, nameOf, parentPath, pathBytes, pathText } from "../base/paths.js";
import type { NodeKind } from "../engine/types.js";
import { SOCKET_ERRNO, WalkedBatch, type WalkedColumns } from "../engine/walked-batch.js";
import type { FolderDigest } from "./folder-digests.js";
import { globBase, isGlob } from "./patterns.js";
import { Selection, type SourceRoot } from "./selection.js";
import { WalkTeam } from "./walk-team.js";
import type { WalkStretch, WalkedEntry } from "./walk-tree.js";
import type { DigestedFolders } from "./walk-worker.js";

export type { FolderDigest } from "./folder-digests.js";
export type { SourceRoot } from "./selection.js";
export type { WalkFailure, WalkedEntry, WalkedNode } from "./walk-tree.js";

/** Entries in one batch of a walk. */
const BATCH_MAX = 512;
const PACKED_BATCH_MAX = 2048;
/** Folders in one batch. */
const FOLDERS_MAX = 256;
/**
 * Threads of one walk. The comparing thread keeps up with no more, and needs a core of its own: on two cores a second
 * walker was no faster and took a sixth more of the processor.
 */
const WALKERS_MAX = 4;
/** Threads that a parted walk is given; with one there is nothing to gain from parting it. */
export const WALKERS = Math.max(1, Math.min(WALKERS_MAX, availableParallelism() - 1));

export interface FileSourceOptions {
  readonly name: string;
  /** Absolute files, folders and globs. Symbolic links on the way to them are resolved once, here. */
  readonly paths: readonly BytePath[];
  /** gitignore-like patterns, as text. */
  readonly exclude?: readonly string[];
  /** Files outside these bounds do not belong to the source, bytes. */
  readonly sizeBytesMin?: number | undefined;
  readonly sizeBytesMax?: number | undefined;
  /** Folders of holdfast itself (store, state), so that protecting `/` does not back up its own store. */
  readonly ownFolders?: readonly BytePath[];
  /** True: mounted file systems below the folders belong to the source too. Default false. */
  readonly crossMounts?: boolean;
  /** What a path that is missing now is known to have been (the repository knows); undefined: guess by its name. */
  readonly knownKind?: (path: BytePath) => NodeKind | undefined;
}

interface WalkWish {
  readonly batchMax: number;
  readonly under?: BytePath | undefined;
  readonly partedAt?: readonly BytePath[];
}

/** Two sources that protect the same place. */
export interface SourceOverlap {
  readonly path: BytePath;
  readonly sources: readonly [string, string];
}

export class FileSource {
  readonly name: string;
  readonly roots: readonly SourceRoot[];
  /** True: mounted file systems below the roots belong to the source. */
  readonly crossMounts: boolean;
  readonly #selection: Selection;

  /** Resolves the paths. Missing ones are no error here: a walk tells, and a lost file must still be watched for. */
  constructor(options: FileSourceOptions) {
    this.name = options.name;
    this.roots = withoutCovered(options.paths.map((path) => resolveRoot(path, options.knownKind)));
    this.crossMounts = options.crossMounts ?? false;
    this.#selection = new Selection({
      roots: this.roots,
      exclude: options.exclude ?? [],
      ownFolders: (options.ownFolders ?? []).map(realOrSame),
      sizeBytesMin: options.sizeBytesMin,
      sizeBytesMax: options.sizeBytesMax,
      crossMounts: this.crossMounts,
    });
  }

  /** Whether the source protects this path, existing or not; `kind` matters for patterns and globs. */
  includes(path: BytePath, kind: NodeKind = "file"): boolean {
    return this.#selection.includes(path, kind === "folder");
  }

  /** Whether a path of the source can lie below this folder. */
  mayContain(folder: BytePath): boolean {
    return this.#selection.mayContain(folder);
  }

  /** Whether the source takes files of this size, bytes. */
  fitsSize(sizeBytes: number): boolean {
    return this.#selection.fitsSize(sizeBytes);
  }

  /**
   * Everything of the source, or what is at and below `under`, in batches of at most 512; each root in byte order of
   * the paths. What cannot be read comes as a failure. Throws SOURCE_ROOT_GONE when a root is missing.
   */
  async *walk(signal: AbortSignal, under?: BytePath): AsyncGenerator<readonly WalkedEntry[]> {
    for await (const batch of this.#walkBatches({ batchMax: BATCH_MAX, under }, signal)) {
      yield [...batch].filter((entry) => !("errno" in entry) || entry.errno !== SOCKET_ERRNO);
    }
  }

  /**
   * Everything of the source as `walk` gives it, packed and in larger batches: what a backup takes. Sockets come too, as
   * failures with SOCKET_ERRNO. Between the paths of `partedAt`, which need not exist, several threads walk side by
   * side; the order stays.
   */
  walkPacked(signal: AbortSignal, partedAt: readonly BytePath[] = []): AsyncGenerator<WalkedBatch> {
    return this.#walkBatches({ batchMax: PACKED_BATCH_MAX, partedAt }, signal);
  }

  /**
   * A walk of what is at and below `under` that tells only what each folder is like, deepest first, in batches of at most
   * 256: the quickest way to learn that nothing changed. Of single files nothing is told. Throws as `walk` does.
   */
  async *folderDigests(signal: AbortSignal, under: BytePath): AsyncGenerator<readonly FolderDigest[]> {
    signal.throwIfAborted();
    const order = { spec: this.#selection.spec, tells: "folders", batchMax: FOLDERS_MAX } as const;
    await using team = new WalkTeam<DigestedFolders>({ ...order, stretches: [{ start: under }], walkers: 1 }, signal);
    for (let part = await team.next(); part !== undefined; part = await team.next()) yield part.folders;
  }

  async *#walkBatches({ batchMax, under, partedAt = [] }: WalkWish, signal: AbortSignal): AsyncGenerator<WalkedBatch> {
    signal.throwIfAborted();
    const starts = under === undefined ? this.#starts() : [under];
    for (const start of under === undefined ? this.roots.map((root) => root.folder) : []) requireFolder(start);
    const stretches = starts.flatMap((start) => stretchesOf(start, partedAt));
    const walkers = partedAt.length === 0 ? 1 : WALKERS;
    const order = { spec: this.#selection.spec, tells: "entries", batchMax } as const;
    await using team = new WalkTeam<WalkedColumns>({ ...order, stretches, walkers }, signal);
    for (let batch = await team.next(); batch !== undefined; batch = await team.next()) yield new WalkedBatch(batch);
  }

  /** Where walks begin; a place below another start is reached from there, so that each path comes once. */
  #starts(): readonly BytePath[] {
    const places = [...new Set(this.roots.map((root) => root.file ?? root.folder))];
    return places.filter((place) => !places.some((other) => other !== place && isWithin(place, other)));
  }
}

/** Places that more than one source protects; both keep their own versions of them. */
export function findOverlaps(sources: readonly FileSource[]): readonly SourceOverlap[] {
  const overlaps: SourceOverlap[] = [];
  for (const [index, source] of sources.entries()) {
    for (const other of sources.slice(index + 1)) {
      for (const root of source.roots) {
        const shared = other.roots.find(
          (candidate) => isWithin(candidate.folder, root.folder) || isWithin(root.folder, candidate.folder),
        );
        if (shared === undefined || !root.whole || !shared.whole) continue;
        const path = shared.folder.length > root.folder.length ? shared.folder : root.folder;
        overlaps.push({ path, sources: [source.name, other.name] });
      }
    }
  }
  return overlaps;
}

/** The stretches into which these paths part what is at and below a start. */
function stretchesOf(start: BytePath, partedAt: readonly BytePath[]): readonly WalkStretch[] {
  const borders = [...new Set(partedAt)].filter((path) => path !== start && isWithin(path, start)).sort();
  return [undefined, ...borders].map((from, index) => ({ start, from, before: borders[index] }));
}

function resolveRoot(path: BytePath, knownKind: FileSourceOptions["knownKind"]): SourceRoot {
  if (isGlob(path)) {
    const base = globBase(path);
    const folder = realOrSame(base.folder as BytePath);
    return { folder, whole: false, shallow: base.shallow, glob: joinPath(folder, path.slice(base.folder.length + 1)) };
  }
  const kind = kindAt(path) ?? knownKind?.(path) ?? guessKind(path);
  if (kind === "folder") return { folder: realOrSame(path), whole: true, shallow: false };
  const folder = realOrSame(parentPath(path));
  return { folder, whole: false, shallow: true, file: joinPath(folder, nameOf(path)) };
}

/** Folder for a folder and for a link to one; undefined when nothing is there. */
function kindAt(path: BytePath): "file" | "folder" | undefined {
  try {
    const real = realpathSync(pathBytes(path), { encoding: "latin1" });
    return lstatSync(Buffer.from(real, "latin1")).isDirectory() ? "folder" : "file";
  } catch (error) {
    // A dangling link is an entry of its own.
    return errnoOf(error) === "ENOENT" && lstatSync(pathBytes(path), { throwIfNoEntry: false }) !== undefined
      ? "file"
      : undefined;
  }
}

function guessKind(path: BytePath): "file" | "folder" {
  return nameOf(path).lastIndexOf(".") > 0 ? "file" : "folder";
}

/** The real path as far as it exists; missing names at the end are kept as they are. */
export function realOrSame(path: BytePath): BytePath {
  try {
    return realpathSync(pathBytes(path), { encoding: "latin1" }) as BytePath;
  } catch {
    return path === "/" ? path : joinPath(realOrSame(parentPath(path)), nameOf(path));
  }
}

/** Drops roots that another root holds already, so that no path is walked twice. */
function withoutCovered(roots: readonly SourceRoot[]): readonly SourceRoot[] {
  const kept: SourceRoot[] = [];
  for (const [index, root] of roots.entries()) {
    const place = root.file ?? root.folder;
    const covered = roots.some((other, otherIndex) => {
      if (otherIndex === index) return false;
      if (other.whole && isWithin(place, other.folder))
        return place !== other.folder || !root.whole || otherIndex < index;
      return otherIndex < index && other.file === root.file && other.glob === root.glob && other.folder === root.folder;
    });
    if (!covered) kept.push(root);
  }
  return kept.sort((left, right) => (left.folder < right.folder ? -1 : left.folder > right.folder ? 1 : 0));
}

function requireFolder(folder: BytePath): void {
  if (kindAt(folder) === "folder") return;
  throw new HoldfastError("SOURCE_ROOT_GONE", `${pathText(folder)} is gone`, { details: { path: pathText(folder) } });
}
