/**
 * Writing and reading of small binary structures: little-endian, unsigned varints (LEB128, at most 2^53 - 1), byte
 * strings with their length before them. The reader never looks past its end: hostile bytes end in RECORD_DAMAGED.
 */
import { HoldfastError } from "../../base/errors.js";

/** Small, since most structures are: such buffers come out of a common one. */
const START_BYTES = 512;

function damaged(what: string): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", `a stored structure is damaged: ${what}`);
}

/** From here on shifts do not reach. */
const VARINT_WORD = 2 ** 31;

/** Collects bytes; grows as needed; `take` hands them out and begins anew. */
export class ByteWriter {
  #buffer = Buffer.allocUnsafe(START_BYTES);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#length] = value;
    this.#length += 1;
  }

  uint32(value: number): void {
    this.#reserve(4);
    this.#length = this.#buffer.writeUInt32LE(value, this.#length);
  }

  /** Signed 64 bits. */
  int64(value: bigint): void {
    this.#reserve(8);
    this.#length = this.#buffer.writeBigInt64LE(BigInt.asIntN(64, value), this.#length);
  }

  /** A whole number from 0 to 2^53 - 1. */
  varint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${String(value)} is no varint`);
    this.#reserve(8);
    let rest = value;
    while (rest >= VARINT_WORD) {
      this.#buffer[this.#length] = (rest % 0x80) | 0x80;
      this.#length += 1;
      rest = Math.floor(rest / 0x80);
    }
    while (rest >= 0x80) {
      this.#buffer[this.#length] = (rest & 0x7f) | 0x80;
      this.#length += 1;
      rest >>>= 7;
    }
    this.#buffer[this.#length] = rest;
    this.#length += 1;
  }

  bytes(value: Uint8Array): void {
    this.#reserve(value.length);
    this.#buffer.set(value, this.#length);
    this.#length += value.length;
  }

  /** Characters 0-255, one byte each, without a length. */
  latin1(value: string): void {
    this.#reserve(value.length);
    this.#length += this.#buffer.write(value, this.#length, "latin1");
  }

  hex(value: string): void {
    this.#reserve(value.length / 2);
    this.#length += this.#buffer.write(value, this.#length, "hex");
  }

  /** Length, then characters as bytes. */
  sizedLatin1(value: string): void {
    this.varint(value.length);
    this.latin1(value);
  }

  sizedBytes(value: Uint8Array): void {
    this.varint(value.length);
    this.bytes(value);
  }

  /** A copy of what was written; the writer is empty afterwards. */
  take(): Buffer {
    const result = Buffer.from(this.#buffer.subarray(0, this.#length));
    this.#length = 0;
    return result;
  }

  #reserve(more: number): void {
    const needed = this.#length + more;
    if (needed <= this.#buffer.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(bigger, 0, 0, this.#length);
    this.#buffer = bigger;
  }
}

/** Reads what `ByteWriter` wrote. Every method throws RECORD_DAMAGED when the bytes do not suffice. */
export class ByteReader {
  readonly #buffer: Buffer;
  #offset: number;

  constructor(buffer: Buffer, offset = 0) {
    this.#buffer = buffer;
    this.#offset = offset;
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#buffer.length - this.#offset;
  }

  byte(): number {
    const value = this.#buffer[this.#offset];
    if (value === undefined) throw damaged("it ends early");
    this.#offset += 1;
    return value;
  }

  uint32(): number {
    const start = this.#advance(4);
    return this.#buffer.readUInt32LE(start);
  }

  int64(): bigint {
    const start = this.#advance(8);
    return this.#buffer.readBigInt64LE(start);
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const next = this.byte();
      value += (next & 0x7f) * scale;
      if (value > Number.MAX_SAFE_INTEGER) throw damaged("a number is too large");
      if (next < 0x80) return value;
      scale *= 0x80;
      if (scale > 2 ** 53) throw damaged("a number is too long");
    }
  }

  /** A count of things that take at least `bytesEach` each, so that a lie cannot make us allocate. */
  count(bytesEach: number): number {
    const value = this.varint();
    if (value * bytesEach > this.remaining) throw damaged("a count exceeds the data");
    return value;
  }

  /** A view, not a copy. */
  bytes(length: number): Buffer {
    const start = this.#advance(length);
    return this.#buffer.subarray(start, start + length);
  }

  sizedBytes(): Buffer {
    return this.bytes(this.varint());
  }

  /** Passes over bytes; gives where they began. */
  skip(length: number): number {
    return this.#advance(length);
  }

  latin1(length: number): string {
    const start = this.#advance(length);
    return this.#buffer.toString("latin1", start, start + length);
  }

  sizedLatin1(): string {
    return this.latin1(this.varint());
  }

  hex(length: number): string {
    const start = this.#advance(length);
    return this.#buffer.toString("hex", start, start + length);
  }

  /** Throws unless everything was read. */
  end(): void {
    if (this.remaining !== 0) throw damaged("bytes follow its end");
  }

  #advance(length: number): number {
    const start = this.#offset;
    if (length > this.#buffer.length - start) throw damaged("it ends early");
    this.#offset = start + length;
    return start;
  }
}
