// The content-defined cut in AssemblyScript (FastCDC with a 64-bit gear hash, two masks). Compiled by
// scripts/build-kernel.mjs to ../kernel-wasm.ts. Memory: the table of 256 u64 at 8192, the window from 65536 on.

const TABLE: usize = 8192;
/** Bytes that the hash remembers: each one is shifted out after 64 steps. */
const REACH: u32 = 64;

/**
 * Length of the chunk that begins at `start`, of which `length` bytes are there. No cut before `min`, one at `max` at
 * the latest; up to `normal` the strict mask decides, behind it the loose one. The hash is warmed up over the 64 bytes
 * before `min`, so that a cut depends on the content before it alone and not on where the chunk began.
 */
export function cut(start: usize, length: u32, min: u32, normal: u32, max: u32, strict: u64, loose: u64): u32 {
  if (length <= min) return length;
  const end: u32 = length < max ? length : max;
  const middle: u32 = normal < end ? normal : end;
  let hash: u64 = 0;
  let index: u32 = min > REACH ? min - REACH : 0;
  for (; index < min; index++) {
    hash = (hash << 1) + gear(start + index);
  }
  let mask = strict;
  let stop = middle;
  while (true) {
    // Two bytes at a time: the second step does not wait for the first, which costs one shift more.
    for (; index + 4 <= stop; index += 4) {
      let first = gear(start + index);
      let even = (hash << 1) + first;
      hash = (hash << 2) + ((first << 1) + gear(start + index + 1));
      if (!(even & mask)) return index + 1;
      if (!(hash & mask)) return index + 2;
      first = gear(start + index + 2);
      even = (hash << 1) + first;
      hash = (hash << 2) + ((first << 1) + gear(start + index + 3));
      if (!(even & mask)) return index + 3;
      if (!(hash & mask)) return index + 4;
    }
    for (; index < stop; index++) {
      hash = (hash << 1) + gear(start + index);
      if (!(hash & mask)) return index + 1;
    }
    if (stop === end) return end;
    mask = loose;
    stop = end;
  }
}

/** The table's number for the byte at `at`. */
function gear(at: usize): u64 {
  return load<u64>(TABLE + ((<usize>load<u8>(at)) << 3));
}
