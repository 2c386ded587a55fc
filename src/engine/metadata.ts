/**
 * Everything of a file beside its content: reading it into a node, and giving it back to a restored file in the order
 * that works (owner before mode, because a change of owner clears setuid; times last).
 */
import type { BigIntStats } from "node:fs";
import type { AnchoredFolder } from "../base/anchored.js";
import type { NodeTarget } from "../base/native.js";
import type { FileNode, NodeKind } from "./types.js";

/** The kind of a stat, or undefined for sockets and unknown things. */
export declare function kindOf(stat: BigIntStats): NodeKind | undefined;

/** The node of a stat without content: kind, tuple, mode, owner, links, device numbers, attributes when `target` is given. */
export declare function nodeFromStat(stat: BigIntStats, target?: NodeTarget): FileNode;

/** One thing that could not be given back; never an error of the restore. */
export interface MetadataGap {
  readonly what: "owner" | "mode" | "times" | "xattr" | "xattr_removal";
  /** Attribute name, where there is one. */
  readonly name?: string;
  /** The system's error name, or UNSUPPORTED without koffi. */
  readonly errno: string;
}

/** Applies owner, attributes, mode and times to an open file or folder. */
export declare function applyToDescriptor(fd: number, node: FileNode): MetadataGap[];
/** Applies what a name of an anchored folder can take without following it: symlinks, FIFOs, devices. */
export declare function applyToName(folder: AnchoredFolder, name: string, node: FileNode): MetadataGap[];
