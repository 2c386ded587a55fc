/**
 * The walk itself: synchronous, one folder's names in memory at a time for each level, in byte order of the whole
 * paths. It runs in a worker thread. Mount points are not crossed unless told, and file systems that are no storage
 * (proc, sysfs and so on) never are.
 */
import { type BigIntStats, lstatSync, readdirSync, statfsSync } from "node:fs";
import { errnoOf } from "../base/errors.js";
import { type BytePath, joinPath, pathBytes } from "../base/paths.js";
import { kindOf, nodeFromStat } from "../engine/metadata.js";
import type { NodeKind } from "../engine/types.js";
import type { OwnedNode } from "../engine/walked-batch.js";
import type { Selection } from "./selection.js";

/** A path as the walk found it. */
export type WalkedNode = OwnedNode;

/** A path that could not be looked at; it and all below it keep what is known of them. */
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

/** Walks what is at and below `start`, which must lie in a root of the selection. */
export function* walkTree(selection: Selection, start: BytePath): Generator<WalkedEntry> {
  const first = lstatOrFailure(start);
  if (!("stats" in first)) {
    yield first;
    return;
  }
  const kind = kindOf(first.stats);
  if (kind === undefined) return;
  if (selection.includes(start, kind === "folder") && isWanted(selection, first.stats, kind))
    yield { path: start, ...nodeFromStat(first.stats) };
  if (kind === "folder" && selection.mayContain(start)) yield* walkFolder(selection, start, first.stats.dev);
}

function* walkFolder(selection: Selection, folder: BytePath, dev: bigint): Generator<WalkedEntry> {
  const names = readNames(folder);
  if (typeof names === "string") {
    if (names !== "ENOENT") yield { path: folder, errno: names };
    return;
  }
  // A folder's own entry sorts as its name, what is below it as the name with "/": so all paths come in byte order.
  const folders = new Map<string, bigint>();
  const order = names;
  order.sort(byBytes);
  for (let index = 0; index < order.length; index += 1) {
    const item = order[index] ?? "";
    if (item.endsWith("/")) {
      const childDev = folders.get(item);
      folders.delete(item);
      if (childDev !== undefined) yield* walkFolder(selection, joinPath(folder, item.slice(0, -1)), childDev);
      continue;
    }
    const path = joinPath(folder, item);
    const found = lstatOrFailure(path);
    if (!("stats" in found)) {
      if (found.errno !== "ENOENT") yield found;
      continue;
    }
    const kind = kindOf(found.stats);
    if (kind === undefined) continue;
    if (selection.includes(path, kind === "folder") && isWanted(selection, found.stats, kind))
      yield { path, ...nodeFromStat(found.stats) };
    if (kind === "folder" && selection.mayContain(path) && mayEnter(selection, path, found.stats.dev, dev)) {
      folders.set(`${item}/`, found.stats.dev);
      insertSorted(order, `${item}/`, index + 1);
    }
  }
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
    return PSEUDO_TYPES.has(statfsSync(pathBytes(folder)).type);
  } catch {
    return false; // it went away; the walk will see
  }
}

function isWanted(selection: Selection, stats: BigIntStats, kind: NodeKind): boolean {
  return kind !== "file" || selection.fitsSize(Number(stats.size));
}

function readNames(folder: BytePath): string[] | string {
  try {
    return readdirSync(pathBytes(folder), "latin1");
  } catch (error) {
    return errnoOf(error) ?? "EIO";
  }
}

function lstatOrFailure(path: BytePath): { readonly stats: BigIntStats } | WalkFailure {
  try {
    return { stats: lstatSync(pathBytes(path), { bigint: true }) };
  } catch (error) {
    return { path, errno: errnoOf(error) ?? "EIO" };
  }
}

function byBytes(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
