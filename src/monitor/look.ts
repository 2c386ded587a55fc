/** One look at a path: what is there, or that nothing is. Synchronous, because a promise costs more than the call. */
import { type BigIntStats, lstatSync, readdirSync } from "node:fs";
import { errnoOf } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import { reach } from "../base/reach.js";
import { kindOf, nodeFromStat } from "../engine/metadata.js";
import type { FileNode, StatTuple } from "../engine/types.js";
import type { RegistryRecord } from "./registry.js";

export type Look =
  | { readonly is: "there"; readonly node: FileNode; readonly stats: BigIntStats }
  | { readonly is: "missing" }
  /** It could not be looked at (permission, input/output), or it is nothing that can be kept (a socket). */
  | { readonly is: "unknown"; readonly errno: string };

/** The error of a look at a socket, which no backup holds. */
export const NOTHING_TO_KEEP = "ESOCKTNOSUPPORT";

function statOrNone(place: Buffer): BigIntStats | undefined {
  return lstatSync(place, { bigint: true, throwIfNoEntry: false });
}

export function lookAt(path: BytePath): Look {
  try {
    // An exception for each missing path would cost more than all else in a mass deletion.
    const stats = reach(path, statOrNone);
    if (stats === undefined) return { is: "missing" };
    if (kindOf(stats) === undefined) return { is: "unknown", errno: NOTHING_TO_KEEP };
    return { is: "there", node: nodeFromStat(stats), stats };
  } catch (error) {
    return isMissing(error) ? { is: "missing" } : { is: "unknown", errno: errnoOf(error) ?? "EIO" };
  }
}

function isMissing(error: unknown): boolean {
  const errno = errnoOf(error);
  return errno === "ENOENT" || errno === "ENOTDIR";
}

/** When a folder last changed, ns since the epoch: all that a sweep asks. Undefined: it could not be looked at. */
export function folderTimeAt(path: BytePath): bigint | "missing" | undefined {
  try {
    return reach(path, statOrNone)?.mtimeNs ?? "missing";
  } catch (error) {
    return isMissing(error) ? "missing" : undefined;
  }
}

/** True when nothing about the file moved since it was registered. */
export function isSameStat(left: StatTuple, right: StatTuple): boolean {
  return (
    left.ino === right.ino &&
    left.sizeBytes === right.sizeBytes &&
    left.mtimeNs === right.mtimeNs &&
    left.ctimeNs === right.ctimeNs &&
    left.dev === right.dev
  );
}

/** True when the entry is as registered. A folder's times move with each name in it and do not count. */
export function isAsRegistered(record: RegistryRecord, node: FileNode): boolean {
  if (record.kind !== node.kind) return false;
  if (node.kind !== "folder") return isSameStat(record.stat, node.stat);
  return record.mode === node.mode && record.uid === node.uid && record.gid === node.gid;
}

/** A short text that differs whenever the file's stat does. */
export function stampOf(stat: StatTuple): string {
  return `${String(stat.ino)}:${String(stat.sizeBytes)}:${String(stat.mtimeNs)}:${String(stat.ctimeNs)}`;
}

/** False also for what is no folder or cannot be read. */
export function isEmptyFolder(folder: BytePath): boolean {
  try {
    return reach(folder, (place) => readdirSync(place)).length === 0;
  } catch {
    return false;
  }
}

/** One turn of the event loop, so that long work does not block others. */
export async function turn(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}
