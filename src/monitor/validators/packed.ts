/**
 * Check of structure: what bzip2, xz, zstd and lz4 write, whole from its beginning to its end. Nothing is unpacked: each
 * format says where it ends, so that an archive that was cut off is told from a whole one. Concatenated streams are one.
 */
import { crc32 } from "node:zlib";
import type { Complaint, Validator } from "../validator.js";
import { invalid } from "./invalid.js";

/** The end of a stream that begins at `start`; undefined: it is cut off or no such stream. */
type EndOf = (content: Buffer, start: number) => number | undefined;

const XZ_HEADER = Buffer.from("fd377a585a00", "hex");
const XZ_FOOTER_BYTES = 12;
const BZIP2_MAGIC = Buffer.from("BZh", "latin1");
/** Ends a bzip2 stream, at any bit; a checksum of four bytes follows, and bits up to the next byte. */
const BZIP2_END = 0x177245385090n;
const BZIP2_TAIL_BYTES = 11;
const ZSTD_MAGIC = 0xfd2fb528;
const LZ4_MAGIC = 0x184d2204;
/** Frames of zstd and lz4 that hold no content: sixteen magics in a row. */
const SKIPPED_MAGIC = 0x184d2a50;
const FRAME_HEAD_BYTES = 8;

export const packedValidator: Validator = {
  name: "packed",
  check: (content) => {
    if (content.subarray(0, XZ_HEADER.length).equals(XZ_HEADER)) return checkXz(content);
    if (content.subarray(0, BZIP2_MAGIC.length).equals(BZIP2_MAGIC)) return checkBzip2(content);
    const magic = content.length < 4 ? 0 : content.readUInt32LE(0);
    if (magic === ZSTD_MAGIC) return checkFrames(content, "zstd", zstdEnd);
    if (magic === LZ4_MAGIC) return checkFrames(content, "lz4", lz4End);
    // pzstd puts one before each frame, which says how long that is.
    if (isSkipped(magic)) return checkFrames(content, "zstd", zstdEnd);
    return invalid("it does not begin as bzip2, xz, zstd or lz4");
  },
};

/** The footer has a checksum of its own; zeros may follow it. */
function checkXz(content: Buffer): Complaint | undefined {
  let end = content.length;
  while (end >= 4 && content.readUInt32LE(end - 4) === 0) end -= 4;
  const footer = content.subarray(Math.max(0, end - XZ_FOOTER_BYTES), end);
  const isFooter = footer.length === XZ_FOOTER_BYTES && footer.toString("latin1", 10) === "YZ";
  const isEnded = isFooter && crc32(footer.subarray(4, 10)) === footer.readUInt32LE(0);
  return isEnded ? undefined : invalid("the xz stream ends too early");
}

function checkBzip2(content: Buffer): Complaint | undefined {
  const tail = content.subarray(Math.max(BZIP2_MAGIC.length, content.length - BZIP2_TAIL_BYTES));
  const bits = BigInt(`0x0${tail.toString("hex")}`);
  // The mark, its checksum of 32 bits, and up to 7 bits that fill the last byte.
  const isEnded = [0n, 1n, 2n, 3n, 4n, 5n, 6n, 7n].some(
    (rest) => ((bits >> (32n + rest)) & (2n ** 48n - 1n)) === BZIP2_END,
  );
  return isEnded ? undefined : invalid("the bzip2 stream ends too early");
}

function checkFrames(content: Buffer, name: string, endOf: EndOf): Complaint | undefined {
  let hasContent = false;
  for (let at = 0; at < content.length;) {
    const skipped = skippedEnd(content, at);
    const end = skipped ?? endOf(content, at);
    if (end === undefined || end > content.length) return invalid(`the ${name} stream ends too early`);
    hasContent ||= skipped === undefined;
    at = end;
  }
  return hasContent ? undefined : invalid(`the ${name} stream ends too early`);
}

function skippedEnd(content: Buffer, start: number): number | undefined {
  if (start + FRAME_HEAD_BYTES > content.length) return undefined;
  return isSkipped(content.readUInt32LE(start))
    ? start + FRAME_HEAD_BYTES + content.readUInt32LE(start + 4)
    : undefined;
}

function isSkipped(magic: number): boolean {
  return (magic & ~0xf) >>> 0 === SKIPPED_MAGIC;
}

/** As in RFC 8878: a header, blocks of which the last says so, a checksum if the header says so. */
function zstdEnd(content: Buffer, start: number): number | undefined {
  const descriptor = content[start + 4];
  if (descriptor === undefined || content.readUInt32LE(start) !== ZSTD_MAGIC) return undefined;
  const isSingle = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  let at = start + 5 + (isSingle ? 0 : 1) + dictionaryBytes + sizeBytes;
  for (let isLast = false; !isLast;) {
    if (at + 3 > content.length) return undefined;
    const header = content.readUIntLE(at, 3);
    const kind = (header >> 1) & 3;
    isLast = (header & 1) === 1;
    if (kind === 3) return undefined;
    at += 3 + (kind === 1 ? 1 : header >> 3); // a run of one byte holds that byte only
  }
  return at + ((descriptor & 4) === 0 ? 0 : 4);
}

/** As in lz4_Frame_format.md: a descriptor, blocks, a block of no bytes, a checksum if the descriptor says so. */
function lz4End(content: Buffer, start: number): number | undefined {
  const flags = content[start + 4];
  if (flags === undefined || content.readUInt32LE(start) !== LZ4_MAGIC) return undefined;
  let at = start + 7 + ((flags & 8) === 0 ? 0 : 8) + ((flags & 1) === 0 ? 0 : 4);
  const sumBytes = (flags & 0x10) === 0 ? 0 : 4;
  for (;;) {
    if (at + 4 > content.length) return undefined;
    const sizeBytes = content.readUInt32LE(at) & 0x7fffffff;
    at += 4;
    if (sizeBytes === 0) return at + ((flags & 4) === 0 ? 0 : 4);
    at += sizeBytes + sumBytes;
  }
}
