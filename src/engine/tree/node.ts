/**
 * One node of a source's tree: sorted keys (whole paths), each sharing a prefix with the one before it. A leaf maps a
 * path to an entry state; an inner node maps the first key of a child to the child's id (format: "Tree nodes" in
 * docs/repository-format.md). Decoding checks order and bounds: hostile bytes end in RECORD_DAMAGED.
 */
import { HoldfastError } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import type { ChunkId } from "../types.js";
import { ByteReader, type ByteWriter } from "./bytes.js";

export interface LeafEntry {
  readonly path: BytePath;
  /** An encoded `EntryState`. */
  readonly value: Buffer;
}

export interface ChildRef {
  readonly firstPath: BytePath;
  readonly id: ChunkId;
  /** Entries in all leaves below. */
  readonly entryCount: number;
}

export type TreeNode =
  | { readonly level: 0; readonly entries: readonly LeafEntry[] }
  | { readonly level: number; readonly children: readonly ChildRef[] };

const VERSION = 1;
const ID_BYTES = 32;
/** 16^12 leaves: no tree comes near; it bounds what a hostile node can make us do. */
export const TREE_LEVEL_MAX = 12;

/** Characters that two keys share at their beginning. */
export function sharedPrefixLength(a: string, b: string): number {
  const end = Math.min(a.length, b.length);
  let length = 0;
  while (length < end && a.charCodeAt(length) === b.charCodeAt(length)) length += 1;
  return length;
}

/** Writes what stands before the items of a node. */
export function writeNodeHeader(writer: ByteWriter, level: number, count: number): void {
  writer.byte(VERSION);
  writer.byte(level);
  writer.varint(count);
}

/** Writes a key as the difference to the key before it ("" for the first). */
export function writeKey(writer: ByteWriter, previous: string, key: string): void {
  const shared = sharedPrefixLength(previous, key);
  writer.varint(shared);
  writer.sizedLatin1(key.slice(shared));
}

/** A node from its bytes. Throws RECORD_DAMAGED. */
export function decodeNode(bytes: Buffer): TreeNode {
  const reader = new ByteReader(bytes);
  if (reader.byte() !== VERSION) throw new HoldfastError("RECORD_DAMAGED", "a tree node has an unknown version");
  const level = reader.byte();
  if (level > TREE_LEVEL_MAX) throw new HoldfastError("RECORD_DAMAGED", "a tree node has an impossible level");
  const node: TreeNode =
    level === 0 ? { level: 0, entries: readEntries(reader) } : { level, children: readChildren(reader) };
  reader.end();
  return node;
}

function readEntries(reader: ByteReader): LeafEntry[] {
  const entries: LeafEntry[] = [];
  let path = "";
  for (let left = reader.count(3); left > 0; left -= 1) {
    path = readKey(reader, path, entries.length > 0);
    entries.push({ path: path as BytePath, value: reader.sizedBytes() });
  }
  return entries;
}

function readChildren(reader: ByteReader): ChildRef[] {
  const children: ChildRef[] = [];
  let path = "";
  const count = reader.count(ID_BYTES + 3);
  if (count === 0) throw new HoldfastError("RECORD_DAMAGED", "an inner tree node has no children");
  for (let left = count; left > 0; left -= 1) {
    path = readKey(reader, path, children.length > 0);
    const id = reader.hex(ID_BYTES) as ChunkId;
    children.push({ firstPath: path as BytePath, id, entryCount: reader.varint() });
  }
  return children;
}

function readKey(reader: ByteReader, previous: string, ordered: boolean): string {
  const shared = reader.varint();
  if (shared > previous.length) throw new HoldfastError("RECORD_DAMAGED", "a tree node's key is damaged");
  const key = previous.slice(0, shared) + reader.sizedLatin1();
  if (ordered && key <= previous) throw new HoldfastError("RECORD_DAMAGED", "a tree node's keys are out of order");
  return key;
}
