/** Bytes with random access, wherever they lie: an object of a backend or a local file. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import type { Backend } from "../../storage/backend.js";
import { storeError } from "../../storage/store-error.js";
import { Scratch } from "../codec/scratch.js";

/** Bytes with a size and random access. */
export interface ByteSource {
  readonly sizeBytes: number;
  /** Exactly these bytes, or fewer at the end. With some sources they are valid until the next read only. */
  read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer>;
}

/** An object of a backend; nothing is read before the first `read`. */
export function objectSource(backend: Backend, key: string, sizeBytes: number): ByteSource {
  return { sizeBytes, read: async (offset, length, signal) => await backend.getRange(key, offset, length, signal) };
}

/** Bytes in memory. */
export function memorySource(bytes: Buffer): ByteSource {
  return {
    sizeBytes: bytes.length,
    read: (offset, length) => Promise.resolve(bytes.subarray(offset, offset + length)),
  };
}

/** A local file, such as a log segment; held open until disposed. */
export class FileSource implements ByteSource, AsyncDisposable {
  readonly sizeBytes: number;
  readonly #handle: FileHandle;
  readonly #path: string;

  private constructor(handle: FileHandle, path: string, sizeBytes: number) {
    this.#handle = handle;
    this.#path = path;
    this.sizeBytes = sizeBytes;
  }

  /** Opens a file for reading, at its present size. Throws OBJECT_MISSING, STORE_IO, PERMISSION_DENIED. */
  static async open(path: string): Promise<FileSource> {
    try {
      const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      return new FileSource(handle, path, (await handle.stat()).size);
    } catch (error) {
      throw storeError(error, `reading ${path}`);
    }
  }

  async read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(lengthBytes, this.sizeBytes - offsetBytes)));
    let filled = 0;
    try {
      while (filled < buffer.length) {
        const { bytesRead } = await this.#handle.read(buffer, filled, buffer.length - filled, offsetBytes + filled);
        if (bytesRead === 0) break;
        filled += bytesRead;
      }
    } catch (error) {
      throw storeError(error, `reading ${this.#path}`);
    }
    return buffer.subarray(0, filled);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** The memory of a `WindowSource` begins with room for a sealed bundle, bytes. */
const WINDOW_BYTES = 1.25 * 2 ** 20;

/** Memory for the reads of one thread, one source after the other. */
export function newReadWindow(): Scratch {
  return new Scratch(WINDOW_BYTES);
}

/**
 * A local file for a thread that has nothing else to do while it reads: read at once, and all into the same memory. What
 * a read gave is valid until the next.
 */
export class WindowSource implements ByteSource, Disposable {
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #path: string;
  readonly #window: Scratch;

  /** Opens a file at its present size. Throws OBJECT_MISSING, STORE_IO, PERMISSION_DENIED. */
  constructor(path: string, window: Scratch) {
    this.#path = path;
    this.#window = window;
    try {
      this.#fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      this.sizeBytes = fstatSync(this.#fd).size;
    } catch (error) {
      throw storeError(error, `reading ${path}`);
    }
  }

  /** Throws STORE_IO. */
  readNow(offsetBytes: number, lengthBytes: number): Buffer {
    const wanted = Math.max(0, Math.min(lengthBytes, this.sizeBytes - offsetBytes));
    const window = this.#window.ofSize(wanted);
    let filled = 0;
    try {
      for (let count = 1; count > 0 && filled < wanted; filled += count) {
        count = readSync(this.#fd, window, filled, wanted - filled, offsetBytes + filled);
      }
    } catch (error) {
      throw storeError(error, `reading ${this.#path}`);
    }
    return window.subarray(0, filled);
  }

  async read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    return await Promise.resolve(this.readNow(offsetBytes, lengthBytes));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
