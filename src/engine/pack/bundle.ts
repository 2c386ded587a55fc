/**
 * Bundles: small chunks sealed together, with a directory in front so that a scan can find each of them again.
 * Layout: count (u32), then id (32 bytes) and length (u32) of each chunk, then the chunks back to back.
 */
import { HoldfastError } from "../../base/errors.js";
import type { ChunkId } from "../types.js";
import { BUNDLE_COUNT_BYTES, BUNDLE_ENTRY_BYTES, type BundledChunk } from "./record.js";

/** A bundle is closed when its chunks reach this size, bytes. */
export const BUNDLE_BYTES_AIM = 2 ** 20;
/** And at this many chunks: a directory of 144 KiB. */
export const BUNDLE_CHUNKS_MAX = 4096;

const ID_BYTES = 32;

export interface BundlePlain {
  readonly plain: Buffer;
  readonly inner: readonly BundledChunk[];
}

export function encodeBundle(chunks: readonly { readonly id: ChunkId; readonly plain: Uint8Array }[]): BundlePlain {
  const directory = Buffer.alloc(BUNDLE_COUNT_BYTES + chunks.length * BUNDLE_ENTRY_BYTES);
  directory.writeUInt32LE(chunks.length, 0);
  const inner: BundledChunk[] = [];
  let offsetBytes = directory.length;
  chunks.forEach(({ id, plain }, index) => {
    const at = BUNDLE_COUNT_BYTES + index * BUNDLE_ENTRY_BYTES;
    directory.write(id, at, "hex");
    directory.writeUInt32LE(plain.length, at + ID_BYTES);
    inner.push({ id, offsetBytes, lengthBytes: plain.length });
    offsetBytes += plain.length;
  });
  return { plain: Buffer.concat([directory, ...chunks.map((chunk) => chunk.plain)], offsetBytes), inner };
}

/** Room in front of the chunks for the longest directory. */
const DIRECTORY_BYTES_MAX = BUNDLE_COUNT_BYTES + BUNDLE_CHUNKS_MAX * BUNDLE_ENTRY_BYTES;
const START_BYTES = 64 * 2 ** 10;

/** Gathers one bundle after the other in the same memory: chunks behind each other, the directory put in front. */
export class BundleBuilder {
  #bytes = Buffer.alloc(0);
  #end = DIRECTORY_BYTES_MAX;
  #chunks: { readonly id: ChunkId; readonly lengthBytes: number }[] = [];

  /** Chunks in it. */
  get count(): number {
    return this.#chunks.length;
  }

  /** True when it is time to take it. */
  get isFull(): boolean {
    return this.#end - DIRECTORY_BYTES_MAX >= BUNDLE_BYTES_AIM || this.count >= BUNDLE_CHUNKS_MAX;
  }

  /** Copies a chunk in. It must not be full. */
  add(id: ChunkId, plain: Uint8Array): void {
    const end = this.#end + plain.length;
    if (end > this.#bytes.length) {
      const bigger = Buffer.allocUnsafeSlow(Math.max(end, this.#bytes.length * 2, DIRECTORY_BYTES_MAX + START_BYTES));
      bigger.set(this.#bytes.subarray(DIRECTORY_BYTES_MAX, this.#end), DIRECTORY_BYTES_MAX);
      this.#bytes = bigger;
    }
    this.#bytes.set(plain, this.#end);
    this.#end = end;
    this.#chunks.push({ id, lengthBytes: plain.length });
  }

  /** The bundle, and begins the next; the bytes are valid until something is added. */
  take(): BundlePlain {
    const chunks = this.#chunks;
    const start = DIRECTORY_BYTES_MAX - BUNDLE_COUNT_BYTES - chunks.length * BUNDLE_ENTRY_BYTES;
    this.#bytes.writeUInt32LE(chunks.length, start);
    let at = start + BUNDLE_COUNT_BYTES;
    let offsetBytes = DIRECTORY_BYTES_MAX - start;
    const inner = chunks.map(({ id, lengthBytes }): BundledChunk => {
      this.#bytes.write(id, at, "hex");
      this.#bytes.writeUInt32LE(lengthBytes, at + ID_BYTES);
      at += BUNDLE_ENTRY_BYTES;
      offsetBytes += lengthBytes;
      return { id, offsetBytes: offsetBytes - lengthBytes, lengthBytes };
    });
    const plain = this.#bytes.subarray(start, this.#end);
    this.#end = DIRECTORY_BYTES_MAX;
    this.#chunks = [];
    return { plain, inner };
  }
}

/** The chunks of an opened bundle. Throws RECORD_DAMAGED when the directory does not fit the bytes. */
export function readBundle(plain: Uint8Array): BundledChunk[] {
  const view = Buffer.from(plain.buffer, plain.byteOffset, plain.byteLength);
  const count = view.length < BUNDLE_COUNT_BYTES ? -1 : view.readUInt32LE(0);
  let offsetBytes = BUNDLE_COUNT_BYTES + count * BUNDLE_ENTRY_BYTES;
  if (count < 0 || offsetBytes > view.length) throw damaged();
  const inner: BundledChunk[] = [];
  for (let at = BUNDLE_COUNT_BYTES; inner.length < count; at += BUNDLE_ENTRY_BYTES) {
    const lengthBytes = view.readUInt32LE(at + ID_BYTES);
    inner.push({ id: view.toString("hex", at, at + ID_BYTES) as ChunkId, offsetBytes, lengthBytes });
    offsetBytes += lengthBytes;
  }
  if (offsetBytes !== view.length) throw damaged();
  return inner;
}

function damaged(): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", "a bundle's directory does not fit its content");
}
