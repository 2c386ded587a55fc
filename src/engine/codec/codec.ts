/** Compression behind one port. A codec's number is part of the format; decoding is bounded by the plain length. */

/** Numbers in the record header. */
export const CODEC_NUMBERS = { none: 0, lz4: 1, zstd: 2 } as const;
export type CodecName = keyof typeof CODEC_NUMBERS;

/** No record opens to more than this, bytes: a length above it is damage, checked before anything is allocated. */
export const PLAIN_BYTES_MAX = 16 * 2 ** 20;

export interface Codec {
  readonly name: CodecName;
  /** False when this build of Node has no such codec. */
  readonly available: boolean;
  /** Compresses; undefined when it is not worth it (at least 0.97 of the input) and the bytes are stored as they are. */
  compress(plain: Uint8Array): Buffer | undefined;
  /** Decompresses to exactly `plainBytes`. Throws RECORD_DAMAGED on anything else, UNSUPPORTED when unavailable. */
  decompress(stored: Uint8Array, plainBytes: number): Buffer;
}

export declare function codecNamed(name: CodecName): Codec;
/** The codec of a header's number. Throws REPO_FORMAT_UNSUPPORTED for an unknown one. */
export declare function codecNumbered(number: number): Codec;
