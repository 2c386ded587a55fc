/** How finely content is cut: the sizes of each profile. They are part of the repository format. */

export interface ChunkProfile {
  /** No cut before this many bytes; a shorter rest is the last chunk. */
  readonly minBytes: number;
  /** Aimed average; a power of two. */
  readonly averageBytes: number;
  /** A cut at the latest here. */
  readonly maxBytes: number;
}

const KIB = 2 ** 10;

export const CHUNK_PROFILES = {
  /** Whole files up to 64 KiB. */
  small: { minBytes: 64 * KIB, averageBytes: 64 * KIB, maxBytes: 64 * KIB },
  general: { minBytes: 64 * KIB, averageBytes: 256 * KIB, maxBytes: 1024 * KIB },
  /** Databases, mail boxes, images of virtual machines: small writes in large files. */
  fine: { minBytes: 16 * KIB, averageBytes: 64 * KIB, maxBytes: 256 * KIB },
} as const satisfies Record<string, ChunkProfile>;

export type ChunkProfileName = keyof typeof CHUNK_PROFILES;

/** No chunk of any profile is longer. */
export const CHUNK_BYTES_MAX = 1024 * KIB;
/** Files up to this size are one chunk (`small`), bytes. */
export const SMALL_FILE_BYTES_MAX = 64 * KIB;
/** Chunks of files up to this size share bundles, bytes. */
export const BUNDLED_FILE_BYTES_MAX = 256 * KIB;
