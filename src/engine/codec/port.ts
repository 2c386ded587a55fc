/** What a codec is: the port, its numbers and its limits. */
import { HoldfastError } from "../../base/errors.js";

/** Numbers in the record header; permanent. */
export const CODEC_NUMBERS = { none: 0, lz4: 1, zstd: 2 } as const;
export type CodecName = keyof typeof CODEC_NUMBERS;

/** How new records are compressed, written as in the configuration; plain `zstd` is its default level. */
export type Compression = CodecName | `zstd:${number}`;

/** No record opens to more than this, bytes: a length above it is damage, checked before anything is allocated. */
export const PLAIN_BYTES_MAX = 16 * 2 ** 20;
/** A result of at least this share of the input is not worth decompressing later: the bytes are stored as they are. */
export const WORTHWHILE_SHARE = 0.97;
/** Shorter inputs are never compressed, bytes. */
export const COMPRESS_BYTES_MIN = 64;

export interface Codec {
  readonly name: CodecName;
  /** False when there is no such codec here. */
  readonly available: boolean;
  /**
   * Compresses; undefined when it is not worth it (at least 0.97 of the input) and the bytes are stored as they are.
   * `level` is 1 to 22 and only means something to zstd. The result may be valid until the next call only.
   */
  compress(plain: Uint8Array, level?: number): Buffer | undefined;
  /**
   * Decompresses to exactly `plainBytes`. The result may be a view of `stored`; with `room`, memory of at least that
   * many bytes, it may lie there. Throws RECORD_DAMAGED on anything else, UNSUPPORTED when unavailable.
   */
  decompress(stored: Uint8Array, plainBytes: number, room?: Buffer): Buffer;
  /** True when it decompresses to exactly these bytes; leaves no copy behind. Throws RECORD_DAMAGED. */
  opensTo(stored: Uint8Array, plain: Uint8Array): boolean;
}

/** One way to zstd, safe in several threads at once (`zstd-calls.ts`). */
export interface ZstdCalls {
  /** One frame that carries its content size. The result may be valid until the next call only. */
  compress(data: Uint8Array, level: number): Uint8Array;
  /**
   * Throws when the frame is invalid or opens to more than `plainBytes`. The frame was looked at before. The result may
   * lie in `room`, memory of at least that many bytes.
   */
  decompress(data: Uint8Array, plainBytes: number, room?: Buffer): Uint8Array;
  /** The same, but the result may be valid until the next call only. */
  decompressOnce(data: Uint8Array, plainBytes: number): Uint8Array;
}

/** The error of a payload that does not decode. */
export function damagedPayload(why: string, cause?: unknown): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", `a record does not decode: ${why}`, { cause });
}

/** Throws RECORD_DAMAGED for a plain length that no record has. */
export function checkPlainLength(plainBytes: number): void {
  if (plainBytes > PLAIN_BYTES_MAX) throw damagedPayload(`it claims ${plainBytes} plain bytes`);
}
