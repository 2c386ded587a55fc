/**
 * What a zstd frame (RFC 8878) says of itself, read before anything is decompressed: hostile bytes must neither make a
 * library allocate for a length that they only claim, nor hide a second frame behind the first.
 */
import { damagedPayload, PLAIN_BYTES_MAX } from "./port.js";

const MAGIC = 0xfd2fb528;
const DESCRIPTOR_AT = 4;
/** Bytes of the content size for each value of its flag; 0 means one byte in a frame of a single segment. */
const SIZE_BYTES = [0, 2, 4, 8] as const;
/** A content size of two bytes counts from here. */
const SIZE_16_BASE = 256;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
const BLOCK_TYPE = { raw: 0, rle: 1, compressed: 2 } as const;
const WINDOW_LOG_MIN = 10;

/** Throws RECORD_DAMAGED unless `stored` is exactly one frame that says it opens to `plainBytes` in a small window. */
export function checkZstdFrame(stored: Uint8Array, plainBytes: number): void {
  const view = Buffer.from(stored.buffer, stored.byteOffset, stored.byteLength);
  if (view.length < DESCRIPTOR_AT + 2 || view.readUInt32LE(0) !== MAGIC) throw damagedPayload("it is no zstd frame");
  const descriptor = view.readUInt8(DESCRIPTOR_AT);
  if ((descriptor & 0b1011) !== 0) throw damagedPayload("its zstd frame wants a dictionary or is of a newer kind");
  const single = (descriptor & 0b10_0000) !== 0;
  if (!single && windowBytes(view.readUInt8(DESCRIPTOR_AT + 1)) > PLAIN_BYTES_MAX) {
    throw damagedPayload("its zstd frame wants too large a window");
  }
  const sizeAt = DESCRIPTOR_AT + (single ? 1 : 2);
  const sizeBytes = descriptor >>> 6 === 0 && single ? 1 : (SIZE_BYTES[descriptor >>> 6] ?? 0);
  if (contentSize(view, sizeAt, sizeBytes) !== plainBytes) {
    throw damagedPayload("its zstd length is not the plain length");
  }
  const end = endOfBlocks(view, sizeAt + sizeBytes) + ((descriptor & 0b100) === 0 ? 0 : CHECKSUM_BYTES);
  if (end !== view.length) throw damagedPayload("its zstd frame does not end where it should");
}

function windowBytes(descriptor: number): number {
  const base = 2 ** (WINDOW_LOG_MIN + (descriptor >>> 3));
  return base + (base / 8) * (descriptor & 7);
}

/** -1 when the frame does not say it. */
function contentSize(view: Buffer, at: number, sizeBytes: number): number {
  if (sizeBytes === 0 || at + sizeBytes > view.length) return -1;
  if (sizeBytes === 8) return Number(view.readBigUInt64LE(at));
  return view.readUIntLE(at, sizeBytes) + (sizeBytes === 2 ? SIZE_16_BASE : 0);
}

/** Where the last block ends; beyond the view when it is cut off. */
function endOfBlocks(view: Buffer, from: number): number {
  for (let at = from; at + BLOCK_HEADER_BYTES <= view.length;) {
    const header = view.readUIntLE(at, BLOCK_HEADER_BYTES);
    const type = (header >>> 1) & 3;
    if (type > BLOCK_TYPE.compressed) break;
    at += BLOCK_HEADER_BYTES + (type === BLOCK_TYPE.rle ? 1 : header >>> 3);
    if ((header & 1) === 1) return at;
  }
  throw damagedPayload("its zstd frame is cut off");
}
