/**
 * Arithmetic in the field of 256 elements with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d) and the generator 2, as
 * in the Reed-Solomon codes of Backblaze, klauspost and par2's relatives. Sums are XOR.
 */

const POLYNOMIAL = 0x11d;
const ORDER = 255;

const EXP = new Uint8Array(2 * ORDER);
const LOG = new Uint8Array(256);
fillTables();

function fillTables(): void {
  let value = 1;
  for (let power = 0; power < ORDER; power += 1) {
    EXP[power] = value;
    EXP[power + ORDER] = value;
    LOG[value] = power;
    value <<= 1;
    if (value > 255) value ^= POLYNOMIAL;
  }
}

export function multiply(a: number, b: number): number {
  if (a === 0 || b === 0) return 0;
  return EXP[(LOG[a] ?? 0) + (LOG[b] ?? 0)] ?? 0;
}

/** 1 / a. `a` must not be 0. */
export function inverse(a: number): number {
  return EXP[ORDER - (LOG[a] ?? 0)] ?? 0;
}

/** a to the power n; anything to the power 0 is 1. */
export function power(a: number, n: number): number {
  if (n === 0) return 1;
  return a === 0 ? 0 : (EXP[((LOG[a] ?? 0) * n) % ORDER] ?? 0);
}

/** The products of a factor with every element. */
export function productsOf(factor: number): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, value) => multiply(factor, value));
}

/** Adds `input` times the factor of `products` to `output`, byte by byte; both are of one length. */
export function addProducts(output: Uint8Array, input: Uint8Array, products: Uint8Array): void {
  const { length } = input;
  for (let index = 0; index < length; index += 1) {
    output[index] = (output[index] ?? 0) ^ (products[input[index] ?? 0] ?? 0);
  }
}
