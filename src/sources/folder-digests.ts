/**
 * What a walk met in each folder, as one number: names, kinds and stats of all that lies directly in it and belongs to the
 * source. While the number of a folder stays the same nothing came, went or changed there, and nothing need be compared.
 */
import { type Hash, createHash } from "node:crypto";
import type { BytePath } from "../base/paths.js";
import { NODE_KINDS } from "../engine/types.js";
import type { OwnedNode } from "../engine/walked-batch.js";

export interface FolderDigest {
  readonly folder: BytePath;
  /** A whole number below 2 ** 48; undefined: something there could not be looked at, so that nobody knows. */
  readonly digest: number | undefined;
  /** What lies directly in it and belongs to the source. */
  readonly entryCount: number;
}

/** A change goes unseen once in 2 ** 48 times. */
const DIGEST_BYTES = 6;
/** What lies in a folder is hashed in blocks; most folders are one. */
const BLOCK_BYTES = 16 * 1024;
/** What follows a name: its end, the kind and the stat. The longest names, of 4,095 bytes, have room in a block too. */
const BESIDE_NAME_BYTES = 2 + 40;

const EMPTY = { usedBytes: 0, hash: undefined, entryCount: 0, isWhole: true } as const;

/** A folder on the way. */
interface Level {
  readonly block: Buffer;
  usedBytes: number;
  /** Of full blocks. */
  hash: Hash | undefined;
  entryCount: number;
  isWhole: boolean;
}

/** Follows a walk down and up. */
export class FolderDigests {
  /** One for each depth; used again. */
  readonly #levels: Level[] = [];
  #depth = 0;
  #ended: FolderDigest[] = [];

  /** The walk goes into a folder. */
  enter(): void {
    this.#depth += 1;
    const level = this.#levels[this.#depth - 1];
    if (level === undefined) this.#levels.push({ ...EMPTY, block: Buffer.allocUnsafeSlow(BLOCK_BYTES) });
    else Object.assign(level, EMPTY);
  }

  /** The walk met this in the folder in which it is. */
  add(name: string, node: Omit<OwnedNode, "path">): void {
    const level = this.#current;
    level.entryCount += 1;
    if (level.usedBytes + name.length + BESIDE_NAME_BYTES > level.block.length) flush(level);
    level.usedBytes = writeEntry(level.block, level.usedBytes, name, node);
  }

  /** Something in the folder in which the walk is could not be looked at. */
  fail(): void {
    if (this.#depth > 0) this.#current.isWhole = false;
  }

  /** The walk has been through a folder. */
  leave(folder: BytePath): void {
    const level = this.#current;
    this.#depth -= 1;
    const { entryCount } = level;
    this.#ended.push({ folder, digest: level.isWhole ? digestOf(level) : undefined, entryCount });
  }

  /** The names of a folder could not be read. */
  unreadable(folder: BytePath): void {
    this.#ended.push({ folder, digest: undefined, entryCount: 0 });
  }

  /** Folders that wait to be taken. */
  get endedCount(): number {
    return this.#ended.length;
  }

  /** What ended since the last call. */
  take(): readonly FolderDigest[] {
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  get #current(): Level {
    const level = this.#levels[this.#depth - 1];
    if (level === undefined) throw new RangeError("a walk is in no folder");
    return level;
  }
}

function flush(level: Level): void {
  level.hash ??= createHash("sha256");
  level.hash.update(level.block.subarray(0, level.usedBytes));
  level.usedBytes = 0;
}

function digestOf(level: Level): number | undefined {
  flush(level);
  return level.hash?.digest().readUIntBE(0, DIGEST_BYTES);
}

/** Gives where the next entry begins. A folder's times and size move with each name in it and do not count. */
function writeEntry(block: Buffer, start: number, name: string, node: Omit<OwnedNode, "path">): number {
  let at = start + block.write(name, start, "latin1");
  block[at++] = 0;
  block[at++] = NODE_KINDS.indexOf(node.kind);
  if (node.kind === "folder") {
    at = block.writeUInt32LE(node.mode, at);
    at = block.writeUInt32LE(node.uid, at);
    return block.writeUInt32LE(node.gid, at);
  }
  const { dev, ino, mtimeNs, ctimeNs, sizeBytes } = node.stat;
  at = block.writeBigUInt64LE(BigInt.asUintN(64, dev), at);
  at = block.writeBigUInt64LE(BigInt.asUintN(64, ino), at);
  at = block.writeBigUInt64LE(BigInt.asUintN(64, mtimeNs), at);
  at = block.writeBigUInt64LE(BigInt.asUintN(64, ctimeNs), at);
  return block.writeDoubleLE(sizeBytes, at);
}
