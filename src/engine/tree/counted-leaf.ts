/**
 * A leaf of a source's tree with what a manifest says of it, and a list of them as bytes: what the next backup needs to
 * take over the leaves in which nothing changed.
 */
import type { BytePath } from "../../base/paths.js";
import type { ChunkId } from "../types.js";
import type { Leaf } from "./builder.js";
import { ByteReader, ByteWriter } from "./bytes.js";

/** About 400 bytes in memory for 150 entries. */
export interface CountedLeaf extends Leaf {
  readonly files: number;
  /** Of the files' content. */
  readonly bytes: number;
  /** Every version in it has at most this number. */
  readonly lastSeq: number;
  /** Digest of the list of its entries. */
  readonly digest: Buffer;
}

const DIGEST_BYTES = 32;
/** An empty path, two digests, and a byte for each number. */
const LEAF_BYTES_MIN = 1 + 2 * DIGEST_BYTES + 4;

/** The leaves of a tree, in order. */
export function encodeLeaves(leaves: readonly CountedLeaf[]): Buffer {
  const writer = new ByteWriter();
  writer.varint(leaves.length);
  for (const { firstPath, id, entryCount, files, bytes, lastSeq, digest } of leaves) {
    writer.sizedLatin1(firstPath);
    writer.hex(id);
    for (const count of [entryCount, files, bytes, lastSeq]) writer.varint(count);
    writer.bytes(digest);
  }
  return writer.take();
}

/** Throws RECORD_DAMAGED. */
export function decodeLeaves(encoded: Buffer): readonly CountedLeaf[] {
  const reader = new ByteReader(encoded);
  const leaves: CountedLeaf[] = [];
  for (let left = reader.count(LEAF_BYTES_MIN); left > 0; left -= 1) {
    leaves.push({
      firstPath: reader.sizedLatin1() as BytePath,
      id: reader.hex(DIGEST_BYTES) as ChunkId,
      entryCount: reader.varint(),
      files: reader.varint(),
      bytes: reader.varint(),
      lastSeq: reader.varint(),
      digest: Buffer.from(reader.bytes(DIGEST_BYTES)),
    });
  }
  reader.end();
  return leaves;
}
