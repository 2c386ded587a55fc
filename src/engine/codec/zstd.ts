/** Zstandard frames by node:zlib, where this Node has them (22.15 and later). */
import * as zlib from "node:zlib";
import { HoldfastError } from "../../base/errors.js";
import { type Codec, checkPlainLength, COMPRESS_BYTES_MIN, damagedPayload, WORTHWHILE_SHARE } from "./port.js";

interface ZstdCalls {
  zstdCompressSync(data: Uint8Array): Buffer;
  zstdDecompressSync(data: Uint8Array, options: { readonly maxOutputLength: number }): Buffer;
}

const calls = zstdCalls(zlib);

export const zstdCodec: Codec = {
  name: "zstd",
  available: calls !== undefined,
  compress: (plain) => {
    const stored = plain.length < COMPRESS_BYTES_MIN ? undefined : available().zstdCompressSync(plain);
    return stored !== undefined && stored.length < plain.length * WORTHWHILE_SHARE ? stored : undefined;
  },
  decompress: (stored, plainBytes) => {
    checkPlainLength(plainBytes);
    const plain = decompressed(stored, plainBytes);
    if (plain.length !== plainBytes) throw damagedPayload("its zstd frame has another length");
    return plain;
  },
};

function decompressed(stored: Uint8Array, plainBytes: number): Buffer {
  const zstd = available();
  try {
    return zstd.zstdDecompressSync(stored, { maxOutputLength: Math.max(1, plainBytes) });
  } catch (error) {
    throw damagedPayload("its zstd frame is invalid", error);
  }
}

function available(): ZstdCalls {
  if (calls === undefined) {
    throw new HoldfastError("UNSUPPORTED", "this Node has no zstd", { hint: "Use Node 22.15 or later." });
  }
  return calls;
}

function zstdCalls(module: object): ZstdCalls | undefined {
  return isZstd(module) ? module : undefined;
}

function isZstd(module: object): module is ZstdCalls {
  return "zstdCompressSync" in module && "zstdDecompressSync" in module;
}
