/**
 * The number of an entry state that begins with the permission bits (format: "Mode"). What few files have stands above
 * them: that it had holes, flags of its inode, and the high part of a time that 64 bits of nanoseconds do not hold.
 * Programs that do not know of it see permission bits and, in the stat, the time as they always did.
 */
import { type FileNode, INODE_FLAGS, type InodeFlag } from "../types.js";

const PERMISSION_BITS = 0o7777;
/** Bits 12 to 15 stay free: `stat` has the kind there, and earlier programs hand the number on as it is. */
const SPARSE = 2 ** 16;
/** Bits 17 to 19, in the order of INODE_FLAGS. */
const FIRST_FLAG = 2 ** 17;
/** Bits 20 to 31: how often 2^64 ns are to be added to the modification time, zigzag (0, -1, 1, -2 …). */
const ERA = 2 ** 20;
/** In either direction. */
const ERAS_MAX = 2 ** 11 - 1;
const ERA_BITS = 64n;

/** What the word tells beside the permission bits. */
export interface WordFields {
  readonly mode: number;
  readonly sparse?: boolean;
  readonly inodeFlags?: readonly InodeFlag[];
}

/** The number that is stored for a node, from 0 to 2^32 - 1. */
export function modeWordOf({ mode, sparse, inodeFlags, stat }: FileNode): number {
  const isPlain = sparse !== true && inodeFlags === undefined;
  if (isPlain && BigInt.asIntN(64, stat.mtimeNs) === stat.mtimeNs) return mode;
  let word = mode + (sparse === true ? SPARSE : 0);
  for (const [index, flag] of INODE_FLAGS.entries())
    if (inodeFlags?.includes(flag) === true) word += FIRST_FLAG << index;
  return word + zigzag(eraOf(stat.mtimeNs)) * ERA;
}

/** The fields of a stored number. */
export function fieldsOfWord(word: number): WordFields {
  if (word <= PERMISSION_BITS) return { mode: word };
  const inodeFlags = INODE_FLAGS.filter((_flag, index) => (word & (FIRST_FLAG << index)) !== 0);
  return {
    mode: word & PERMISSION_BITS,
    ...((word & SPARSE) === 0 ? {} : { sparse: true }),
    ...(inodeFlags.length === 0 ? {} : { inodeFlags }),
  };
}

/** The modification time, ns, of which 64 bits stand in the stat. */
export function timeOfWord(word: number, lowNs: bigint): bigint {
  const coded = Math.floor(word / ERA);
  if (coded === 0) return lowNs;
  const era = coded % 2 === 0 ? coded / 2 : -(coded + 1) / 2;
  return lowNs + (BigInt(era) << ERA_BITS);
}

/** Of times a million years off, which no word holds, the bits in the stat alone are kept. */
function eraOf(timeNs: bigint): number {
  const era = Number((timeNs - BigInt.asIntN(64, timeNs)) >> ERA_BITS);
  return Math.abs(era) > ERAS_MAX ? 0 : era;
}

function zigzag(era: number): number {
  return era < 0 ? -2 * era - 1 : 2 * era;
}
