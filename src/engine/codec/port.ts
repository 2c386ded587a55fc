/** What a codec is: the port, its numbers and its limits. */
import { HoldfastError } from "../../base/errors.js";

/** Numbers in the record header; permanent. */
export const CODEC_NUMBERS = { none: 0, lz4: 1, zstd: 2 } as const;
export type CodecName = keyof typeof CODEC_NUMBERS;

/** No record opens to more than this, bytes: a length above it is damage, checked before anything is allocated. */
export const PLAIN_BYTES_MAX = 16 * 2 ** 20;
/** A result of at least this share of the input is not worth decompressing later: the bytes are stored as they are. */
export const WORTHWHILE_SHARE = 0.97;
/** Shorter inputs are never compressed, bytes. */
export const COMPRESS_BYTES_MIN = 64;

export interface Codec {
  readonly name: CodecName;
  /** False when this build of Node has no such codec. */
  readonly available: boolean;
  /** Compresses; undefined when it is not worth it (at least 0.97 of the input) and the bytes are stored as they are. */
  compress(plain: Uint8Array): Buffer | undefined;
  /** Decompresses to exactly `plainBytes`. Throws RECORD_DAMAGED on anything else, UNSUPPORTED when unavailable. */
  decompress(stored: Uint8Array, plainBytes: number): Buffer;
}

/** The error of a payload that does not decode. */
export function damagedPayload(why: string, cause?: unknown): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", `a record does not decode: ${why}`, { cause });
}

/** Throws RECORD_DAMAGED for a plain length that no record has. */
export function checkPlainLength(plainBytes: number): void {
  if (plainBytes > PLAIN_BYTES_MAX) throw damagedPayload(`it claims ${plainBytes} plain bytes`);
}
