/**
 * Zstandard frames, levels 1 to 22, by whatever this machine offers (`zstd-calls.ts`). Each frame carries its content
 * size and is looked at by `zstd-frame.ts` before it is decompressed.
 */
import { HoldfastError } from "../../base/errors.js";
import { looksIncompressible } from "./incompressible.js";
import {
  type Codec,
  checkPlainLength,
  COMPRESS_BYTES_MIN,
  damagedPayload,
  WORTHWHILE_SHARE,
  type ZstdCalls,
} from "./port.js";
import { findZstd } from "./zstd-calls.js";
import { checkZstdFrame } from "./zstd-frame.js";

/** Level when only `zstd` is said: what the peers call default. */
export const ZSTD_LEVEL_DEFAULT = 3;
/**
 * Level of packs when nothing is said. On small files of all kinds in bundles it takes a quarter less time than level 3
 * and gives 3 % more bytes (5 % on program sources), still less than what the peers make of single chunks.
 */
export const ZSTD_LEVEL_IN_PACKS = 2;

const calls = await findZstd();

export const zstdCodec: Codec = {
  name: "zstd",
  available: calls !== undefined,
  compress: (plain, level = ZSTD_LEVEL_DEFAULT) => {
    const zstd = available();
    if (plain.length < COMPRESS_BYTES_MIN || looksIncompressible(plain)) return undefined;
    const stored = zstd.compress(plain, level);
    return stored.length < plain.length * WORTHWHILE_SHARE ? bufferOf(stored) : undefined;
  },
  decompress: (stored, plainBytes, room) =>
    opened(stored, plainBytes, () => bufferOf(available().decompress(stored, plainBytes, room))),
  opensTo: (stored, plain) =>
    opened(stored, plain.length, () => bufferOf(available().decompressOnce(stored, plain.length))).equals(plain),
};

function opened(stored: Uint8Array, plainBytes: number, decompress: () => Buffer): Buffer {
  checkPlainLength(plainBytes);
  available();
  checkZstdFrame(stored, plainBytes);
  const plain = decompressed(decompress);
  if (plain.length !== plainBytes) throw damagedPayload("its zstd frame has another length");
  return plain;
}

function decompressed(decompress: () => Buffer): Buffer {
  try {
    return decompress();
  } catch (error) {
    throw damagedPayload("its zstd frame is invalid", error);
  }
}

function available(): ZstdCalls {
  if (calls === undefined) {
    throw new HoldfastError("UNSUPPORTED", "there is no zstd here: no library, not in this Node, no package", {
      hint: "Install libzstd (libzstd1, zstd-libs) and koffi, or @cloudpss/zstd, or use Node 22.15 or later.",
    });
  }
  return calls;
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
