/** Compression behind one port. A codec's number is part of the format; decoding is bounded by the plain length. */
import { HoldfastError } from "../../base/errors.js";
import { lz4Codec } from "./lz4.js";
import { type Codec, type CodecName, CODEC_NUMBERS, damagedPayload } from "./port.js";
import { zstdCodec } from "./zstd.js";

export { type Codec, type CodecName, CODEC_NUMBERS, PLAIN_BYTES_MAX } from "./port.js";

/** Bytes as they are. */
const noneCodec: Codec = {
  name: "none",
  available: true,
  compress: () => undefined,
  decompress: (stored, plainBytes) => {
    if (stored.length !== plainBytes) throw damagedPayload("its length is not the plain length");
    return Buffer.from(stored.buffer, stored.byteOffset, stored.length);
  },
};

const CODECS: Readonly<Record<CodecName, Codec>> = { none: noneCodec, lz4: lz4Codec, zstd: zstdCodec };

export function codecNamed(name: CodecName): Codec {
  return CODECS[name];
}

/** The codec of a header's number. Throws REPO_FORMAT_UNSUPPORTED for an unknown one. */
export function codecNumbered(number: number): Codec {
  const found = Object.values(CODECS).find((codec) => CODEC_NUMBERS[codec.name] === number);
  if (found === undefined)
    throw new HoldfastError("REPO_FORMAT_UNSUPPORTED", `a record uses the unknown codec ${number}`);
  return found;
}
