/**
 * What bytes look like, without knowing what they are: random blocks (chi-square of the byte counts), blocks of one
 * byte, stretches that no text has, base64. Pure.
 */
import { isUtf8 } from "node:buffer";

/** Blocks are judged for randomness in this size: the unit of file systems and of partial encryption. */
export const BLOCK_BYTES = 4096;
/** A shorter block says too little about randomness. */
const BLOCK_BYTES_MIN = 1024;
/** Chi-square with 255 degrees of freedom is 255 ± 22.6 for random bytes; text has thousands, compressed data a little more. */
const CHI_SQUARE_MIN = 150;
const CHI_SQUARE_MAX = 345;
/** Text is judged in stretches of this size; a random one holds 40 control characters. */
const STRETCH_BYTES = 512;
const STRETCH_BYTES_MIN = 64;
/** A stretch with more control characters than this share is no text. Half of it encrypted still has 4 %. */
const CONTROL_SHARE_MAX = 0.025;
/** A random spot of this size holds 5 control characters. */
const SPOT_BYTES = 64;
const SPOT_CONTROLS_MIN = 3;
/** An overwritten stretch must be this long to be judged, and nearly every byte of it must differ. */
const OVERWRITE_BYTES_MIN = 256;
const OVERWRITE_DIFFERS_MIN = 0.95;
/** Beyond this share of the file it is no overwritten stretch but another content. */
const OVERWRITE_SHARE_MAX = 0.5;
/** Base64 uses 64 signs evenly; a list of words or numbers uses fewer. */
const BASE64_SIGNS_MIN = 50;
const BASE64_BYTES_MIN = 256;
const BASE64_SAMPLE_BYTES = 65_536;

/** What one look at content gives. One byte a block: 1 random, 2 all of one byte, 0 neither. */
export interface Texture {
  readonly blocks: Uint8Array;
  /** 0 to 1. */
  readonly randomShare: number;
  readonly constantShare: number;
  /** No stretch of it holds more control characters than text does; UTF-16 is known by its mark. */
  readonly isText: boolean;
  readonly isUtf8: boolean;
  /** Somewhere 64 bytes hold more control characters than any text has, though the whole may still pass as text. */
  readonly hasWildSpot: boolean;
  readonly isBase64: boolean;
}

const RANDOM = 1;
const CONSTANT = 2;

export function textureOf(content: Buffer): Texture {
  const blocks = new Uint8Array(Math.ceil(content.length / BLOCK_BYTES));
  for (let index = 0; index < blocks.length; index += 1)
    blocks[index] = blockKind(content.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES));
  const share = (kind: number): number =>
    blocks.length === 0 ? 0 : blocks.reduce((count, one) => count + Number(one === kind), 0) / blocks.length;
  const isText = isTextLike(content);
  return {
    blocks,
    randomShare: share(RANDOM),
    constantShare: share(CONSTANT),
    isText,
    isUtf8: isUtf8(content),
    hasWildSpot: hasWildSpot(content),
    isBase64: isText && isBase64(content),
  };
}

/** Blocks that are random now and were not at the same place before; a block that is new counts. */
export function newlyRandomBlocks(before: Texture, now: Texture): number {
  let count = 0;
  for (const [index, kind] of now.blocks.entries()) if (kind === RANDOM && before.blocks[index] !== RANDOM) count += 1;
  return count;
}

/**
 * Size of the one stretch in which two versions of the same size differ, when it became random and was not; 0 when they
 * do not differ like that. A program that is built anew differs in many places, a little in each.
 */
export function randomOverwriteBytes(before: Buffer, now: Buffer): number {
  if (before.length !== now.length) return 0;
  const first = firstDifference(before, now);
  const end = lastDifference(before, now, first);
  const length = end - first;
  if (length < OVERWRITE_BYTES_MIN || length > now.length * OVERWRITE_SHARE_MAX) return 0;
  let differing = 0;
  for (let place = first; place < end; place += 1) differing += Number(before[place] !== now[place]);
  if (differing < length * OVERWRITE_DIFFERS_MIN) return 0;
  return isRandom(now.subarray(first, end)) && !isRandom(before.subarray(first, end)) ? length : 0;
}

function firstDifference(before: Buffer, now: Buffer): number {
  let place = 0;
  while (place < now.length && before[place] === now[place]) place += 1;
  return place;
}

function lastDifference(before: Buffer, now: Buffer, first: number): number {
  let end = now.length;
  while (end > first && before[end - 1] === now[end - 1]) end -= 1;
  return end;
}

function isRandom(stretch: Buffer): boolean {
  const chiSquare = chiSquareOf(stretch);
  return chiSquare >= CHI_SQUARE_MIN && chiSquare <= CHI_SQUARE_MAX;
}

function blockKind(block: Buffer): number {
  if (isConstant(block)) return CONSTANT;
  return block.length >= BLOCK_BYTES_MIN && isRandom(block) ? RANDOM : 0;
}

function chiSquareOf(block: Buffer): number {
  const counts = new Uint32Array(256);
  for (const byte of block) counts[byte] = (counts[byte] ?? 0) + 1;
  const expected = block.length / 256;
  let sum = 0;
  for (const count of counts) sum += (count - expected) ** 2;
  return sum / expected;
}

function isConstant(block: Buffer): boolean {
  const [first] = block;
  return first !== undefined && block.every((byte) => byte === first);
}

function isTextLike(content: Buffer): boolean {
  const isWide = content.length >= 2 && (content.readUInt16LE(0) === 0xfeff || content.readUInt16LE(0) === 0xfffe);
  const mayHoldNul = isWide ? 1 : 0;
  for (let start = 0; start < content.length; start += STRETCH_BYTES) {
    const end = Math.min(start + STRETCH_BYTES, content.length);
    if (end - start < STRETCH_BYTES_MIN && start > 0) break; // a last short stretch says too little
    let controls = 0;
    for (let place = start; place < end; place += 1) controls += CONTROLS[content[place] ?? 0] ?? 0;
    if (mayHoldNul === 1) controls -= nulsIn(content, start, end);
    if (controls > Math.max(1, (end - start) * CONTROL_SHARE_MAX)) return false;
  }
  return true;
}

/** 1 for the control characters that text does not hold; tab, line ends, form feed, backspace, shifts and escape are text. */
const CONTROLS = Uint8Array.from({ length: 256 }, (_none, code) =>
  Number((code < 32 && ![8, 9, 10, 12, 13, 14, 15, 27].includes(code)) || code === 127),
);

function hasWildSpot(content: Buffer): boolean {
  for (let start = 0; start < content.length; start += SPOT_BYTES) {
    let controls = 0;
    const end = Math.min(start + SPOT_BYTES, content.length);
    for (let place = start; place < end; place += 1) controls += CONTROLS[content[place] ?? 0] ?? 0;
    if (controls >= SPOT_CONTROLS_MIN) return true;
  }
  return false;
}

function nulsIn(content: Buffer, start: number, end: number): number {
  let count = 0;
  for (let place = start; place < end; place += 1) count += Number(content[place] === 0);
  return count;
}

function isBase64(content: Buffer): boolean {
  if (content.length < BASE64_BYTES_MIN) return false;
  const text = content.toString("latin1", 0, BASE64_SAMPLE_BYTES);
  const lines = text.split(/\r?\n/).filter((line) => line !== "");
  if (!lines.every((line) => /^[A-Za-z0-9+/_-]+=*$/.test(line))) return false;
  const width = lines[0]?.length ?? 0;
  if (!lines.slice(0, -1).every((line) => line.length === width)) return false;
  return new Set(lines.join("")).size >= BASE64_SIGNS_MIN;
}
