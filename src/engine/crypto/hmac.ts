/**
 * HMAC-SHA-256 (RFC 2104) of a digest, as two hashes of 96 bytes each: half of what `createHmac` costs, of which most
 * is making its object. There is one for every chunk that is stored or read.
 */
import { hash } from "node:crypto";

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const INNER_PAD = 0x36;
const OUTER_PAD = 0x5c;

/** The key's blocks with room for a digest behind each; nothing waits while they are used. */
interface KeyBlocks {
  readonly inner: Buffer;
  readonly outer: Buffer;
}

const blocksOfKey = new WeakMap<Uint8Array, KeyBlocks>();

/** The HMAC, hex. `key` has at most 64 bytes and does not change; `sha256` is 64 hex characters. */
export function hmacOfDigest(key: Uint8Array, sha256: string): string {
  const { inner, outer } = blocksOfKey.get(key) ?? blocksOf(key);
  inner.write(sha256, BLOCK_BYTES, "hex");
  outer.write(hash("sha256", inner, "hex"), BLOCK_BYTES, "hex");
  return hash("sha256", outer, "hex");
}

function blocksOf(key: Uint8Array): KeyBlocks {
  if (key.length > BLOCK_BYTES) throw new RangeError("a key is longer than a block");
  const padded = (pad: number): Buffer => {
    const block = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES).fill(pad, 0, BLOCK_BYTES);
    for (const [index, byte] of key.entries()) block[index] = byte ^ pad;
    return block;
  };
  const blocks = { inner: padded(INNER_PAD), outer: padded(OUTER_PAD) };
  blocksOfKey.set(key, blocks);
  return blocks;
}
