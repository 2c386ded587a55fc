/**
 * LZ4 blocks by lz4-napi: the plain length in 4 bytes (little-endian), then one block. The prefix is compared with
 * the header's plain length before decompressing, so hostile bytes cannot make it allocate more than they may. The
 * compressor's outputs lie off the heap and are freed only when the event loop turns: a long run of calls must let it
 * turn (`workers/ingest.ts` does).
 */
import { compressSync, uncompressSync } from "lz4-napi";
import { looksIncompressible } from "./incompressible.js";
import { type Codec, checkPlainLength, COMPRESS_BYTES_MIN, damagedPayload, WORTHWHILE_SHARE } from "./port.js";

const PREFIX_BYTES = 4;
/** A block of n bytes opens to at most 255 n: every further byte of a length stands for 255 bytes. */
const EXPANSION_MAX = 255;

export const lz4Codec: Codec = {
  name: "lz4",
  available: true,
  compress: (plain) => {
    if (plain.length < COMPRESS_BYTES_MIN || looksIncompressible(plain)) return undefined;
    const stored = compressSync(asBuffer(plain));
    return stored.length < plain.length * WORTHWHILE_SHARE ? stored : undefined;
  },
  decompress: (stored, plainBytes) => {
    checkPlainLength(plainBytes);
    if (stored.length < PREFIX_BYTES) throw damagedPayload("its LZ4 block is cut off");
    if (asBuffer(stored).readUInt32LE(0) !== plainBytes) throw damagedPayload("its LZ4 length is not the plain length");
    if (plainBytes > stored.length * EXPANSION_MAX) throw damagedPayload("no LZ4 block grows that much");
    const plain = uncompressed(stored);
    if (plain.length !== plainBytes) throw damagedPayload("its LZ4 block has another length");
    return plain;
  },
  opensTo: (stored, plain) => lz4Codec.decompress(stored, plain.length).equals(plain),
};

function uncompressed(stored: Uint8Array): Buffer {
  try {
    return uncompressSync(asBuffer(stored));
  } catch (error) {
    throw damagedPayload("its LZ4 block is invalid", error);
  }
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
