/**
 * Cuts content where the content says so, so that an insertion moves few boundaries. The kernel runs in WebAssembly
 * and works on a window of its own memory, into which files are read without a copy. One chunker per thread.
 * `docs/repository-format.md`, section Chunking.
 */
import { hkdfSync } from "node:crypto";
import { HoldfastError } from "../../base/errors.js";
import { KERNEL_WASM_BASE64 } from "./kernel-wasm.js";
import { CHUNK_BYTES_MAX, type ChunkProfile } from "./profiles.js";

/** The part of the WebAssembly API that is used; Node has it, its type package has not. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: Readonly<Record<string, unknown>> };
  readonly Memory: new (description: object) => { readonly buffer: ArrayBuffer };
};

/** Bytes of the window that `cut` works on. */
export const WINDOW_BYTES = 4 * 2 ** 20;
const WINDOW_AT = 65_536;
const TABLE_AT = 8192;
const TABLE_ENTRIES = 256;
const TABLE_LABEL = "holdfast gear v1";
/** Normalisation level 2: two bits more before the average, two less behind it. */
const LEVEL = 2;

/** The numbers that the kernel takes beside the window. */
export interface CutMasks {
  /** A cut before the average needs these bits of the hash to be zero. */
  readonly strict: bigint;
  /** A cut behind the average needs these. */
  readonly loose: bigint;
}

/** The masks of a profile: the topmost bits, which have seen the most bytes. */
export function masksOf(profile: ChunkProfile): CutMasks {
  const bits = Math.log2(profile.averageBytes);
  return { strict: topBits(bits + LEVEL), loose: topBits(bits - LEVEL) };
}

/** The table of a repository: 256 numbers of 64 bits out of its chunker key, little-endian. */
export function gearTable(chunkerKey: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", chunkerKey, Buffer.alloc(0), TABLE_LABEL, TABLE_ENTRIES * 8));
}

type CutFunction = (
  start: number,
  length: number,
  min: number,
  normal: number,
  max: number,
  strict: bigint,
  loose: bigint,
) => number;

export class Chunker {
  /** The window: WINDOW_BYTES of the kernel's memory, to be read into. */
  readonly window: Buffer;
  readonly #cut: CutFunction;

  constructor(chunkerKey: Uint8Array) {
    const module = new WebAssembly.Module(Buffer.from(KERNEL_WASM_BASE64, "base64"));
    const { cut, memory } = new WebAssembly.Instance(module).exports;
    if (!(memory instanceof WebAssembly.Memory) || !isCut(cut)) {
      throw new HoldfastError("INTERNAL", "the chunker's kernel has not the expected exports");
    }
    this.#cut = cut;
    new Uint8Array(memory.buffer, TABLE_AT, TABLE_ENTRIES * 8).set(gearTable(chunkerKey));
    this.window = Buffer.from(memory.buffer, WINDOW_AT, WINDOW_BYTES);
  }

  /**
   * Length of the chunk at `offset` of the window, of whose file `available` bytes lie there. Unless the file ends
   * within the window, at least CHUNK_BYTES_MAX must be available. 0 only when nothing is available.
   */
  cut(offset: number, available: number, profile: ChunkProfile): number {
    const { strict, loose } = masksOf(profile);
    const { minBytes, averageBytes, maxBytes } = profile;
    return this.#cut(WINDOW_AT + offset, available, minBytes, averageBytes, maxBytes, strict, loose);
  }

  /** The chunks of bytes in memory, in order; views of `content`. */
  *chunksOf(content: Uint8Array, profile: ChunkProfile): Iterable<Uint8Array> {
    for (let from = 0; from < content.length;) {
      const part = content.subarray(from, from + CHUNK_BYTES_MAX);
      this.window.set(part);
      const length = this.cut(0, part.length, profile);
      yield content.subarray(from, from + length);
      from += length;
    }
  }
}

function isCut(value: unknown): value is CutFunction {
  return typeof value === "function";
}

function topBits(count: number): bigint {
  return ((1n << BigInt(count)) - 1n) << BigInt(64 - count);
}
