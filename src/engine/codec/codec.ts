/** Compression behind one port. A codec's number is part of the format; decoding is bounded by the plain length. */
import { HoldfastError } from "../../base/errors.js";
import { lz4Codec } from "./lz4.js";
import { type Codec, type CodecName, CODEC_NUMBERS, type Compression, damagedPayload } from "./port.js";
import { ZSTD_LEVEL_DEFAULT, ZSTD_LEVEL_IN_PACKS, zstdCodec } from "./zstd.js";

export { type Codec, type CodecName, CODEC_NUMBERS, type Compression, PLAIN_BYTES_MAX } from "./port.js";

/** Bytes as they are. */
const noneCodec: Codec = {
  name: "none",
  available: true,
  compress: () => undefined,
  decompress: asItIs,
  opensTo: (stored, plain) => Buffer.compare(stored, plain) === 0,
};

function asItIs(stored: Uint8Array, plainBytes: number): Buffer {
  if (stored.length !== plainBytes) throw damagedPayload("its length is not the plain length");
  return Buffer.from(stored.buffer, stored.byteOffset, stored.length);
}

const CODECS: Readonly<Record<CodecName, Codec>> = { none: noneCodec, lz4: lz4Codec, zstd: zstdCodec };

export function codecNamed(name: CodecName): Codec {
  return CODECS[name];
}

/**
 * The codec of a header's number. Throws RECORD_DAMAGED for an unknown one: a repository with newer codecs says so in its
 * configuration, which keeps this program from opening it.
 */
export function codecNumbered(number: number): Codec {
  const found = Object.values(CODECS).find((codec) => CODEC_NUMBERS[codec.name] === number);
  if (found === undefined) throw new HoldfastError("RECORD_DAMAGED", `a record uses the unknown codec ${number}`);
  return found;
}

/** What a compression stands for. */
export function codecOf(compression: Compression): { readonly codec: Codec; readonly level: number | undefined } {
  if (!compression.startsWith("zstd")) return { codec: CODECS[compression as CodecName], level: undefined };
  const level = compression.slice("zstd:".length);
  return { codec: zstdCodec, level: level === "" ? ZSTD_LEVEL_DEFAULT : Number(level) };
}

/** What packs are sealed with unless told otherwise: zstd where it can be had, else lz4. */
export function packCompression(): Compression {
  return zstdCodec.available ? `zstd:${ZSTD_LEVEL_IN_PACKS}` : "lz4";
}
