/**
 * A quick look whether compressing is worth trying: media, archives and ciphertext are found by a few samples, for a
 * hundredth of what the attempt would cost. Content is given up only when its bytes are spread evenly and no sample
 * has repetitions.
 */
import { compressSync } from "lz4-napi";
import { WORTHWHILE_SHARE } from "./port.js";

/** Inputs from this size are tried on samples first, bytes. */
const SAMPLED_FROM_BYTES = 64 * 2 ** 10;
const SAMPLE_BYTES = 4 * 2 ** 10;
const SAMPLES = 4;
/** Bits a byte: noise of 16 KiB measures 7.99, deflated data 7.95 and more, text and programs 4 to 7. */
const NOISE_BITS = 7.9;

/** True when no evenly spread sample shrinks. Short inputs are never judged. */
export function looksIncompressible(plain: Uint8Array): boolean {
  if (plain.length < SAMPLED_FROM_BYTES) return false;
  const samples = samplesOf(plain);
  return samples.every(resistsLz4) && entropyBits(samples) > NOISE_BITS;
}

function samplesOf(plain: Uint8Array): Buffer[] {
  const step = Math.floor((plain.length - SAMPLE_BYTES) / (SAMPLES - 1));
  return Array.from({ length: SAMPLES }, (_, index) =>
    Buffer.from(plain.buffer, plain.byteOffset + index * step, SAMPLE_BYTES),
  );
}

function resistsLz4(sample: Buffer): boolean {
  return compressSync(sample).length >= SAMPLE_BYTES * WORTHWHILE_SHARE;
}

/** Shannon entropy of single bytes over all samples. */
function entropyBits(samples: readonly Buffer[]): number {
  const counts = new Uint32Array(256);
  let total = 0;
  for (const sample of samples) {
    for (const byte of sample) counts[byte] = (counts[byte] ?? 0) + 1;
    total += sample.length;
  }
  let bits = 0;
  for (const count of counts) if (count > 0) bits -= (count / total) * Math.log2(count / total);
  return bits;
}
