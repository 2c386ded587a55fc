/**
 * Reed-Solomon erasure coding: from `dataCount` shards `parityCount` more are made, and any `dataCount` of all of them
 * give the others back. The matrix is the Vandermonde matrix times the inverse of its top square, so that data shards
 * stay as they are: the code of Backblaze and klauspost, byte for byte (`test/engine-low/parity.test.ts` has their
 * vectors). Columns of bytes do not depend on each other, so any range of all shards can be worked on alone.
 */
import { HoldfastError } from "../../base/errors.js";
import { addProducts, inverse, multiply, power, productsOf } from "./galois.js";

/** Elements of the field: more shards cannot be told apart. */
export const SHARDS_MAX = 255;

type Matrix = readonly Uint8Array[];

export class ReedSolomon {
  readonly dataCount: number;
  readonly parityCount: number;
  /** One row for each shard, data first. */
  readonly #rows: Matrix;
  readonly #products = new Map<number, Uint8Array>();

  /** Both at least 1, together at most `SHARDS_MAX`. Throws USAGE. */
  constructor(dataCount: number, parityCount: number) {
    if (dataCount < 1 || parityCount < 1 || dataCount + parityCount > SHARDS_MAX)
      throw new HoldfastError("USAGE", `parity of ${String(dataCount)}+${String(parityCount)} shards cannot be made`);
    this.dataCount = dataCount;
    this.parityCount = parityCount;
    const all = Array.from({ length: dataCount + parityCount }, (_, row) =>
      Uint8Array.from({ length: dataCount }, (__, column) => power(row, column)),
    );
    this.#rows = product(all, inverted(all.slice(0, dataCount)));
  }

  /** The parity shards of data shards that are all of one length. */
  encode(data: readonly Uint8Array[]): Uint8Array[] {
    return this.#combine(this.#rows.slice(this.dataCount), data);
  }

  /**
   * The missing data shards by number, out of any `dataCount` shards of one length that are there (`undefined` where one
   * is missing, data first). Undefined when too few are there.
   */
  reconstruct(shards: readonly (Uint8Array | undefined)[]): Map<number, Uint8Array> | undefined {
    const present = shards
      .flatMap((shard, index) => (shard === undefined ? [] : [{ shard, index }]))
      .slice(0, this.dataCount);
    if (present.length < this.dataCount) return undefined;
    const decode = inverted(present.map(({ index }) => this.#rows[index] ?? new Uint8Array()));
    const missing = shards.flatMap((shard, index) => (shard === undefined && index < this.dataCount ? [index] : []));
    const rows = missing.map((index) => decode[index] ?? new Uint8Array());
    const made = this.#combine(
      rows,
      present.map(({ shard }) => shard),
    );
    return new Map(missing.map((index, at) => [index, made[at] ?? new Uint8Array()]));
  }

  #combine(rows: Matrix, inputs: readonly Uint8Array[]): Uint8Array[] {
    const { length } = inputs[0] ?? new Uint8Array();
    return rows.map((row) => {
      const output = new Uint8Array(length);
      for (const [column, input] of inputs.entries()) {
        const factor = row[column] ?? 0;
        if (factor !== 0) addProducts(output, input, this.#productsOf(factor));
      }
      return output;
    });
  }

  #productsOf(factor: number): Uint8Array {
    const known = this.#products.get(factor);
    if (known !== undefined) return known;
    const made = productsOf(factor);
    this.#products.set(factor, made);
    return made;
  }
}

function product(a: Matrix, b: Matrix): Matrix {
  return a.map((row) =>
    Uint8Array.from({ length: b.length }, (_, column) =>
      row.reduce((sum, factor, index) => sum ^ multiply(factor, b[index]?.[column] ?? 0), 0),
    ),
  );
}

/** The inverse of a square matrix, by Gauss and Jordan. Any rows of a Vandermonde matrix have one. */
function inverted(square: Matrix): Matrix {
  const size = square.length;
  const rows = square.map((row, index) => {
    const wide = new Uint8Array(2 * size);
    wide.set(row);
    wide[size + index] = 1;
    return wide;
  });
  for (let column = 0; column < size; column += 1) {
    const pivot = rows.findIndex((row, index) => index >= column && row[column] !== 0);
    const pivotRow = rows[pivot];
    const columnRow = rows[column];
    if (pivotRow === undefined || columnRow === undefined) throw new HoldfastError("INTERNAL", "a matrix is singular");
    [rows[pivot], rows[column]] = [columnRow, pivotRow];
    scale(pivotRow, inverse(pivotRow[column] ?? 1));
    for (const [index, row] of rows.entries()) {
      if (index !== column) addProducts(row, pivotRow, productsOf(row[column] ?? 0));
    }
  }
  return rows.map((row) => row.subarray(size));
}

function scale(row: Uint8Array, factor: number): void {
  for (let index = 0; index < row.length; index += 1) row[index] = multiply(row[index] ?? 0, factor);
}
