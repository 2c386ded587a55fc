/**
 * A reader of repositories by somebody who has docs/repository-format.md and nothing of holdfast: reading integers and
 * small structures, and the two compressions. No file of this folder imports anything of `src/`.
 */
import { decompress } from "@cloudpss/zstd/wasm";

/** Reads a structure from its beginning to its end, which `end` demands. */
export class Cursor {
  readonly bytes: Buffer;
  at: number;

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = at;
  }

  get isAtEnd(): boolean {
    return this.at === this.bytes.length;
  }

  take(length: number): Buffer {
    if (this.at + length > this.bytes.length) throw new Error(`${String(length)} bytes are not there`);
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  u8(): number {
    return this.take(1).readUInt8(0);
  }

  u16(): number {
    return this.take(2).readUInt16LE(0);
  }

  u32(): number {
    return this.take(4).readUInt32LE(0);
  }

  u64(): number {
    return Number(this.bigU64());
  }

  bigU64(): bigint {
    return this.take(8).readBigUInt64LE(0);
  }

  bigI64(): bigint {
    return this.take(8).readBigInt64LE(0);
  }

  hex(length: number): string {
    return this.take(length).toString("hex");
  }

  varint(): number {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.u8();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(value);
    }
  }

  counted(): Buffer {
    return this.take(this.varint());
  }

  end(): void {
    if (!this.isAtEnd) throw new Error("something follows the end of a structure");
  }
}

/** Demands what the page says of a place. */
export function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Error(`not as the page says: ${what}`);
}

/** The plain bytes of a payload whose codec is 0 none, 1 LZ4, 2 zstd. */
export function decompressed(codec: number, payload: Buffer, plainBytes: number): Buffer {
  if (codec === 0) return payload;
  if (codec === 2) return Buffer.from(decompress(payload));
  demand(codec === 1, "codec 0, 1 or 2");
  demand(payload.readUInt32LE(0) === plainBytes, "an LZ4 payload begins with the length of the plain bytes");
  return lz4Block(payload.subarray(4), plainBytes);
}

/** One LZ4 block, by the format's own description. */
function lz4Block(block: Buffer, plainBytes: number): Buffer {
  const plain = Buffer.alloc(plainBytes);
  const cursor = new Cursor(block);
  let at = 0;
  // The last sequence has literals only.
  for (;;) {
    const token = cursor.u8();
    const literals = cursor.take(lz4Length(token >> 4, cursor));
    literals.copy(plain, at);
    at += literals.length;
    if (cursor.isAtEnd) break;
    const distance = cursor.u16();
    const end = at + lz4Length(token & 15, cursor) + 4;
    for (; at < end; at += 1) plain[at] = plain[at - distance] ?? 0;
  }
  demand(at === plainBytes, "an LZ4 block opens to the length that it tells");
  return plain;
}

function lz4Length(nibble: number, cursor: Cursor): number {
  let length = nibble;
  if (nibble < 15) return length;
  for (let more = 255; more === 255;) {
    more = cursor.u8();
    length += more;
  }
  return length;
}
