/** What a writer that shares its chunks and nodes with others must do alike, from docs/repository-format.md alone. */
import { Cursor } from "./bytes.js";
import { hkdf } from "./records.js";

const NO_SALT = Buffer.alloc(0);

export interface Profile {
  readonly least: number;
  readonly average: number;
  readonly most: number;
}

const KIB = 1024;
export const GENERAL: Profile = { least: 64 * KIB, average: 256 * KIB, most: 1024 * KIB };

/** Lengths of the chunks of content that is longer than 64 KiB and not cut in pages. */
export function chunkLengths(chunkerKey: Buffer, content: Buffer, profile: Profile): number[] {
  const bytes = hkdf(chunkerKey, NO_SALT, "holdfast gear v1", 2048);
  const table = Array.from({ length: 256 }, (_none, index) => bytes.readBigUInt64LE(8 * index));
  const lengths: number[] = [];
  for (let at = 0; at < content.length;) {
    const length = firstChunk(table, content.subarray(at), profile);
    lengths.push(length);
    at += length;
  }
  return lengths;
}

function firstChunk(table: readonly bigint[], left: Buffer, { least, average, most }: Profile): number {
  if (left.length <= least) return left.length;
  const end = Math.min(most, left.length);
  const strict = topMask(Math.log2(average) + 2);
  const loose = topMask(Math.log2(average) - 2);
  let hash = 0n;
  for (let at = least - 64; at < end; at += 1) {
    hash = BigInt.asUintN(64, (hash << 1n) + (table[left[at] ?? 0] ?? 0n));
    if (at >= least && (hash & (at < average ? strict : loose)) === 0n) return at + 1;
  }
  return end;
}

/** So many ones at the top of 64 bits. */
function topMask(ones: number): bigint {
  return ((1n << BigInt(ones)) - 1n) << BigInt(64 - ones);
}

/** An item of a tree node. */
export interface NodeItem {
  readonly key: Buffer;
  /** What lies behind the key, as stored. */
  readonly storedBytes: number;
  /** The same, as it is counted before it is added. */
  readonly countedBytes: number;
}

/** The nodes of a tree, by level. */
export function treeLevels(nodeAt: (id: string) => Buffer, root: string): ReadonlyMap<number, NodeItem[][]> {
  const levels = new Map<number, NodeItem[][]>();
  const visit = (id: string): void => {
    const cursor = new Cursor(nodeAt(id));
    cursor.u8();
    const level = cursor.u8();
    const items: NodeItem[] = [];
    levels.set(level, [...(levels.get(level) ?? []), items]);
    let key = Buffer.alloc(0);
    for (let left = cursor.varint(); left > 0; left -= 1) {
      key = Buffer.concat([key.subarray(0, cursor.varint()), cursor.counted()]);
      const from = cursor.at;
      const child = level === 0 ? undefined : cursor.hex(32);
      const value = level === 0 ? cursor.counted().length : 64;
      if (child !== undefined) cursor.varint();
      items.push({ key, storedBytes: cursor.at - from, countedBytes: value });
      if (child !== undefined) visit(child);
    }
  };
  visit(root);
  return levels;
}

/** How many items each node of a level takes, of all items of that level. */
export function nodeCounts(items: readonly NodeItem[], level: number): number[] {
  const counts: number[] = [];
  let [count, bytes] = [0, 0];
  let before: Buffer = Buffer.alloc(0);
  for (const { key, storedBytes, countedBytes } of items) {
    const isFull = bytes + key.length + countedBytes > 64 * KIB;
    if (count > 0 && (isFull || (bytes >= 16 * KIB && (keyHash(key, level) & 63) === 0))) {
      counts.push(count);
      [count, bytes, before] = [0, 0, Buffer.alloc(0)];
    }
    const shared = sharedBytes(before, key);
    const rest = key.length - shared;
    count += 1;
    bytes += varintBytes(shared) + varintBytes(rest) + rest + storedBytes;
    before = key;
  }
  return count === 0 ? counts : [...counts, count];
}

function sharedBytes(a: Buffer, b: Buffer): number {
  let shared = 0;
  while (shared < Math.min(a.length, b.length) && a[shared] === b[shared]) shared += 1;
  return shared;
}

function varintBytes(value: number): number {
  return value < 128 ? 1 : 1 + varintBytes(Math.floor(value / 128));
}

function keyHash(key: Buffer, level: number): number {
  let hash = 0x811c9dc5 ^ level;
  for (const byte of key) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
