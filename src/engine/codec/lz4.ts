/**
 * LZ4 blocks by lz4-napi: the plain length in 4 bytes (little-endian), then one block. The prefix is compared with
 * the header's plain length before decompressing, so hostile bytes cannot make it allocate more than they may. The
 * compressor's outputs lie off the heap and are freed only when the event loop turns: a long run of calls must let it
 * turn (`workers/ingest.ts` does).
 */
import { compressSync, uncompressSync } from "lz4-napi";
import { type Codec, checkPlainLength, COMPRESS_BYTES_MIN, damagedPayload, WORTHWHILE_SHARE } from "./port.js";

/** Inputs from this size are tried on samples first, bytes. */
const SAMPLED_FROM_BYTES = 64 * 2 ** 10;
const SAMPLE_BYTES = 4 * 2 ** 10;
const SAMPLES = 4;
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
};

function uncompressed(stored: Uint8Array): Buffer {
  try {
    return uncompressSync(asBuffer(stored));
  } catch (error) {
    throw damagedPayload("its LZ4 block is invalid", error);
  }
}

/** True when no evenly spread sample shrinks: media, archives, ciphertext. */
function looksIncompressible(plain: Uint8Array): boolean {
  if (plain.length < SAMPLED_FROM_BYTES) return false;
  const step = Math.floor((plain.length - SAMPLE_BYTES) / (SAMPLES - 1));
  for (let index = 0; index < SAMPLES; index += 1) {
    const sample = plain.subarray(index * step, index * step + SAMPLE_BYTES);
    if (compressSync(asBuffer(sample)).length < SAMPLE_BYTES * WORTHWHILE_SHARE) return false;
  }
  return true;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
