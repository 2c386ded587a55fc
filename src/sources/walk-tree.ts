/**
 * The walk itself: synchronous, one folder's names in memory at a time for each level, in byte order of the whole
 * paths. It runs in a worker thread. Mount points are not crossed unless told, and file systems that are no storage
 * (proc, sysfs and so on) never are.
 */
import { type BigIntStats, lstatSync, readdirSync, statfsSync } from "node:fs";
import { errnoOf } from "../base/errors.js";
import { type BytePath, joinPath } from "../base/paths.js";
import { reach } from "../base/reach.js";
import { kindOf, nodeFromStat } from "../engine/metadata.js";
import type { NodeKind } from "../engine/types.js";
import { type OwnedNode, SOCKET_ERRNO } from "../engine/walked-batch.js";
import type { FolderDigests } from "./folder-digests.js";
import type { Selection } from "./selection.js";

/** A path as the walk found it. */
export type WalkedNode = OwnedNode;

/** A path that could not be looked at: it and all below it keep what is known of them. Or a socket (SOCKET_ERRNO). */
export interface WalkFailure {
  readonly path: BytePath;
  /** The system's error name, such as EACCES. */
  readonly errno: string;
}

export type WalkedEntry = WalkedNode | WalkFailure;

/** File systems that hold no files of people, by statfs type. */
const PSEUDO_TYPES: ReadonlySet<number> = new Set([
  0x9fa0, // proc
  0x62656572, // sysfs
  0x1cd1, // devpts
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x64626720, // debugfs
  0x74726163, // tracefs
  0x73636673, // securityfs
  0xcafe4a11, // bpf
  0x6e736673, // nsfs
  0x958458f6, // hugetlbfs
  0x19800202, // mqueue
  0x62656570, // configfs
  0xde5e81e4, // efivarfs
  0x6165676c, // pstore
  0xf97cff8c, // selinux
  0x42494e4d, // binfmt_misc
]);

/** A folder whose content is to be walked, and the device on which it lies. */
interface FolderPart {
  readonly folder: BytePath;
  readonly dev: bigint;
}

/** A folder that is being walked. */
interface Level extends FolderPart {
  /** Names still to come, in the byte order of whole paths: a folder's content stands as its name with "/". */
  readonly order: string[];
  at: number;
  /** Devices of the folders whose content is still to come, by name with "/". */
  readonly folders: Map<string, bigint>;
}

/** What a walk goes through: what is at and below a place, or a stretch of that in the byte order of whole paths. */
export interface WalkStretch {
  /** Lies in a root of the selection. */
  readonly start: BytePath;
  /** The first path of the stretch, whether it is there or not; undefined: from the beginning. */
  readonly from?: BytePath | undefined;
  /** The first path after the stretch; undefined: to the end. */
  readonly before?: BytePath | undefined;
}

/**
 * A walk of a place or of a stretch of it, entry by entry; it can pause after each. Stretches that meet give together
 * what one walk gives. What cannot be looked at on the way to a stretch is told by it too: whether the walk of
 * another stretch met the same is not known here, and what is not told would look gone. Who reads them counts it once.
 */
export class TreeWalk {
  readonly #selection: Selection;
  readonly #from: string;
  readonly #before: string | undefined;
  readonly #levels: Level[] = [];
  readonly #digests: FolderDigests | undefined;
  #start: BytePath | undefined;
  /** Comes next. */
  #part: FolderPart | undefined;
  /** What the walk began with, as it is told. */
  #first: WalkedNode | undefined;

  /** `digests`: told what each folder holds, where all of it is walked. */
  constructor(selection: Selection, { start, from, before }: WalkStretch, digests?: FolderDigests) {
    this.#selection = selection;
    this.#digests = digests;
    this.#start = start;
    this.#from = from ?? "";
    this.#before = before;
  }

  /** The next entry; undefined at the end. */
  next(): WalkedEntry | undefined {
    for (;;) {
      const level = this.#levels.at(-1);
      if (level === undefined && this.#start === undefined && this.#part === undefined) return undefined;
      const found = this.#step(level);
      if (found !== undefined) return found;
    }
  }

  #step(level: Level | undefined): WalkedEntry | undefined {
    if (this.#start !== undefined) return this.#begin(this.#start);
    if (this.#part !== undefined) return this.#enter(this.#part);
    const item = level?.order[level.at];
    if (level === undefined || item === undefined) {
      this.#levels.pop();
      if (level !== undefined) this.#digests?.leave(level.folder);
      return undefined;
    }
    level.at += 1;
    if (!item.endsWith("/")) return this.#look(level, item);
    const dev = level.folders.get(item);
    level.folders.delete(item);
    if (dev === undefined || this.#isAfter(joinPath(level.folder, item))) return undefined;
    return this.#enter({ folder: joinPath(level.folder, item.slice(0, -1)), dev });
  }

  #begin(start: BytePath): WalkedEntry | undefined {
    this.#start = undefined;
    const first = lstatOrFailure(start);
    if (!("stats" in first)) return first;
    const kind = kindOf(first.stats);
    if (kind === undefined) return start < this.#from || this.#isAfter(start) ? undefined : this.#socket(start);
    if (kind === "folder" && this.#selection.mayContain(start)) this.#part = { folder: start, dev: first.stats.dev };
    if (start < this.#from || this.#isAfter(start)) return undefined;
    if (!this.#selection.includes(start, kind === "folder") || !isWanted(this.#selection, first.stats, kind))
      return undefined;
    this.#first = { path: start, ...nodeFromStat(first.stats) };
    return this.#first;
  }

  #enter({ folder, dev }: FolderPart): WalkFailure | undefined {
    this.#part = undefined;
    const names = readNames(folder);
    if (typeof names === "string") {
      this.#digests?.unreadable(folder);
      return names === "ENOENT" ? undefined : { path: folder, errno: names };
    }
    this.#digests?.enter();
    if (this.#levels.length === 0 && this.#first !== undefined) this.#digests?.add("", this.#first);
    // A folder's own entry sorts as its name, what is below it as the name with "/": so all paths come in byte order.
    names.sort(byBytes);
    this.#levels.push({ folder, dev, order: names, at: 0, folders: new Map() });
    return undefined;
  }

  #look(level: Level, name: string): WalkedEntry | undefined {
    const path = joinPath(level.folder, name);
    if (this.#isAfter(path)) {
      level.at = level.order.length; // so is all that follows
      return undefined;
    }
    const isBefore = path < this.#from;
    if (isBefore && endOfBelow(path) <= this.#from) return undefined;
    const found = lstatOrFailure(path);
    if (!("stats" in found)) return found.errno === "ENOENT" ? undefined : this.#failed(found);
    const kind = kindOf(found.stats);
    if (kind === undefined) return isBefore ? undefined : this.#socket(path);
    const isFolder = kind === "folder";
    if (isFolder && this.#selection.mayContain(path) && mayEnter(this.#selection, path, found.stats.dev, level.dev)) {
      level.folders.set(`${name}/`, found.stats.dev);
      insertSorted(level.order, `${name}/`, level.at);
    }
    if (isBefore) return undefined;
    if (!this.#selection.includes(path, isFolder) || !isWanted(this.#selection, found.stats, kind)) return undefined;
    const entry = { path, ...nodeFromStat(found.stats) };
    this.#digests?.add(name, entry);
    return entry;
  }

  #failed(failure: WalkFailure): WalkFailure {
    this.#digests?.fail();
    return failure;
  }

  #socket(path: BytePath): WalkFailure | undefined {
    return this.#selection.includes(path, false) ? { path, errno: SOCKET_ERRNO } : undefined;
  }

  #isAfter(path: string): boolean {
    return this.#before !== undefined && path >= this.#before;
  }
}

/** The first string in byte order after everything that lies below a path: "0" follows "/". */
function endOfBelow(path: BytePath): string {
  return `${path}0`;
}

/** Puts `item` into the sorted rest of `order` from `from` on; names that start with the folder's name come between. */
function insertSorted(order: string[], item: string, from: number): void {
  let at = from;
  while (at < order.length && byBytes(order[at] ?? "", item) < 0) at += 1;
  order.splice(at, 0, item);
}

function mayEnter(selection: Selection, path: BytePath, childDev: bigint, dev: bigint): boolean {
  if (childDev === dev || selection.isOnTheWay(path)) return true;
  return selection.spec.crossMounts && !isPseudo(path);
}

/** True for a file system that holds no files of people. */
export function isPseudo(folder: BytePath): boolean {
  try {
    return PSEUDO_TYPES.has(reach(folder, (place) => statfsSync(place)).type);
  } catch {
    return false; // it went away; the walk will see
  }
}

function isWanted(selection: Selection, stats: BigIntStats, kind: NodeKind): boolean {
  return kind !== "file" || selection.fitsSize(Number(stats.size));
}

function readNames(folder: BytePath): string[] | string {
  try {
    return reach(folder, namesIn);
  } catch (error) {
    return errnoOf(error) ?? "EIO";
  }
}

function lstatOrFailure(path: BytePath): { readonly stats: BigIntStats } | WalkFailure {
  try {
    return { stats: reach(path, statOf) };
  } catch (error) {
    return { path, errno: errnoOf(error) ?? "EIO" };
  }
}

function namesIn(place: Buffer): string[] {
  return readdirSync(place, "latin1");
}

function statOf(place: Buffer): BigIntStats {
  return lstatSync(place, { bigint: true });
}

function byBytes(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
