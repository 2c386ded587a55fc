/** Restoring what is neither folder nor regular file - symbolic links, FIFOs, devices - and hard links of any kind. */
import type { BigIntStats } from "node:fs";
import type { AnchoredFolder } from "../../base/anchored.js";
import { errnoOf, HoldfastError } from "../../base/errors.js";
import { makeSpecialNode } from "../../base/special-node.js";
import { applyToName, kindOf } from "../metadata.js";
import type { FileNode } from "../types.js";
import { placeNew, unlinkQuietly } from "./place-name.js";
import type { PutOptions, PutOutcome } from "./protocol.js";

/** Errors of `link` that mean: make a file of its own. */
const NO_LINK_HERE = new Set(["EXDEV", "EMLINK", "EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOENT"]);

type Done = Extract<PutOutcome, { kind: "done" }>;

/** Where a node goes; `folder` is undefined in a dry run below a folder that is not there. */
export interface NodePlace {
  readonly folder: AnchoredFolder | undefined;
  readonly name: string;
  /** A name for staging, never used before. */
  readonly staged: string;
}

/** Makes a symbolic link, FIFO or device. Throws TARGET_EXISTS, TARGET_IO, and the system's errors. */
export async function putNode(
  place: NodePlace,
  node: FileNode,
  options: PutOptions,
  signal: AbortSignal,
): Promise<Done> {
  const { folder, name, staged } = place;
  const present = folder?.lstat(name);
  if (present?.isDirectory() === true) throw folderInTheWay();
  if (present !== undefined && options.overwrite === "never") return done("skip", false);
  if (options.overwrite === "if-changed" && folder !== undefined && isSameNode(folder, name, node, present)) {
    return done("skip", true);
  }
  if (options.dryRun || folder === undefined) return done("node", true);
  try {
    await makeNode(folder, staged, node, signal);
    const gaps = applyToName(folder, staged, node);
    if (present === undefined) placeNew(folder, staged, name);
    else folder.rename(staged, folder, name);
    return { ...done("node", true), gaps };
  } finally {
    unlinkQuietly(folder, staged);
  }
}

/** Makes a hard link to a name that was restored before; undefined when that cannot be. Throws TARGET_EXISTS. */
export function putLink(
  place: NodePlace,
  first: { readonly folder: AnchoredFolder; readonly name: string },
  options: PutOptions,
): Done | undefined {
  const { folder, name, staged } = place;
  const present = folder?.lstat(name);
  if (present?.isDirectory() === true) throw folderInTheWay();
  if (present !== undefined && options.overwrite === "never") return done("skip", false);
  const linked = first.folder.lstat(first.name);
  if (isSameInode(present, linked)) return done("skip", true);
  if (options.dryRun || folder === undefined) return done("link", true);
  try {
    first.folder.link(first.name, folder, staged);
    if (present === undefined) placeNew(folder, staged, name);
    else folder.rename(staged, folder, name);
    return done("link", true);
  } catch (error) {
    if (NO_LINK_HERE.has(errnoOf(error) ?? "")) return undefined;
    throw error;
  } finally {
    unlinkQuietly(folder, staged);
  }
}

function done(action: "skip" | "node" | "link", holdsContent: boolean): Done {
  return { kind: "done", action, bytes: 0, gaps: [], holdsContent };
}

function isSameInode(a: BigIntStats | undefined, b: BigIntStats | undefined): boolean {
  return a !== undefined && a.ino === b?.ino && a.dev === b.dev;
}

function folderInTheWay(): HoldfastError {
  return new HoldfastError("TARGET_EXISTS", "a folder stands where the file belongs");
}

/** The same thing with the same owner, mode and time; attributes of such nodes are rare and not compared. */
function isSameNode(folder: AnchoredFolder, name: string, node: FileNode, present: BigIntStats | undefined): boolean {
  if (present === undefined || kindOf(present) !== node.kind || present.mtimeNs !== node.stat.mtimeNs) return false;
  if (Number(present.uid) !== node.uid || Number(present.gid) !== node.gid || node.xattrs !== undefined) return false;
  if (present.nlink !== 1n && node.linkCount === 1) return false;
  if (node.kind === "symlink") return folder.readlink(name) === node.linkTarget;
  // A device's numbers cannot be wrong and unnoticed: it is made again.
  return node.kind === "fifo" && (Number(present.mode) & 0o7777) === node.mode;
}

async function makeNode(folder: AnchoredFolder, name: string, node: FileNode, signal: AbortSignal): Promise<void> {
  if (node.kind === "symlink") {
    folder.symlink(node.linkTarget ?? "", name);
    return;
  }
  const { kind, device } = node;
  if (kind === "file" || kind === "folder") throw new HoldfastError("INTERNAL", `a ${kind} is not made as a node`);
  await makeSpecialNode(folder, name, { kind, ...(device === undefined ? {} : { device }) }, signal);
}
