/** Bytes with random access, wherever they lie: an object of a backend or a local file. */
import { HoldfastError } from "../../base/errors.js";
import type { Backend } from "../../storage/backend.js";
import {
  type FileIo,
  type IoReader,
  type IoReaderNow,
  readFully,
  readFullyNow,
  systemIo,
} from "../../storage/file-io.js";
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

/** What a file has and does not give is no content that was cut short. Throws STORE_IO. */
function assertAll(count: number, wanted: number): void {
  if (count < wanted) throw new HoldfastError("STORE_IO", "the file gave fewer bytes than it has");
}

/** A local file, such as a log segment; held open until disposed. */
export class FileSource implements ByteSource, AsyncDisposable {
  readonly sizeBytes: number;
  readonly #file: IoReader;
  readonly #path: string;

  private constructor(file: IoReader, path: string) {
    this.#file = file;
    this.#path = path;
    this.sizeBytes = file.sizeBytes;
  }

  /** Opens a file for reading, at its present size. Throws OBJECT_MISSING, STORE_IO, PERMISSION_DENIED. */
  static async open(path: string, io: FileIo = systemIo): Promise<FileSource> {
    try {
      return new FileSource(await io.open(path), path);
    } catch (error) {
      throw storeError(error, `reading ${path}`);
    }
  }

  async read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(lengthBytes, this.sizeBytes - offsetBytes)));
    try {
      assertAll(await readFully(this.#file, buffer, offsetBytes), buffer.length);
    } catch (error) {
      throw storeError(error, `reading ${this.#path}`);
    }
    return buffer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
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
  readonly #file: IoReaderNow;
  readonly #path: string;
  readonly #window: Scratch;

  /** Opens a file at its present size. Throws OBJECT_MISSING, STORE_IO, PERMISSION_DENIED. */
  constructor(path: string, window: Scratch, io: FileIo = systemIo) {
    this.#path = path;
    this.#window = window;
    try {
      this.#file = io.openNow(path);
      this.sizeBytes = this.#file.sizeBytes;
    } catch (error) {
      throw storeError(error, `reading ${path}`);
    }
  }

  /** Throws STORE_IO. */
  readNow(offsetBytes: number, lengthBytes: number): Buffer {
    const wanted = Math.max(0, Math.min(lengthBytes, this.sizeBytes - offsetBytes));
    const window = this.#window.ofSize(wanted).subarray(0, wanted);
    try {
      assertAll(readFullyNow(this.#file, window, offsetBytes), wanted);
    } catch (error) {
      throw storeError(error, `reading ${this.#path}`);
    }
    return window;
  }

  async read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer> {
    signal.throwIfAborted();
    return await Promise.resolve(this.readNow(offsetBytes, lengthBytes));
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
