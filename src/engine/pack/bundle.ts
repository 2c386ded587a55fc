/** Bundles: small chunks sealed together, with a directory in front so that a scan can find each of them again. */
import type { ChunkId } from "../types.js";
import type { BundledChunk } from "./record.js";

/** A bundle is closed when its chunks reach this size, bytes. */
export const BUNDLE_BYTES_AIM = 2 ** 20;

export interface BundlePlain {
  readonly plain: Buffer;
  readonly inner: readonly BundledChunk[];
}

export declare function encodeBundle(
  chunks: readonly { readonly id: ChunkId; readonly plain: Uint8Array }[],
): BundlePlain;
/** The chunks of an opened bundle. Throws RECORD_DAMAGED when the directory does not fit the bytes. */
export declare function readBundle(plain: Uint8Array): BundledChunk[];
