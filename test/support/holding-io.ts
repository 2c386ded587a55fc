/** The real file system, on which a caller can be made to stand still before one of its calls, as a paused process does. */
import type { Dirent, Stats } from "node:fs";
import { type Deferred, deferred } from "../../src/base/concurrency.js";
import { type FileIo, type IoFile, type IoReader, type IoReaderNow, systemIo } from "../../src/storage/file-io.js";

export class HoldingIo implements FileIo {
  // Reading leaves nothing behind.
  readonly open = (path: string): Promise<IoReader> => systemIo.open(path);
  readonly openNow = (path: string): IoReaderNow => systemIo.openNow(path);
  readonly list = (path: string): Promise<Dirent[]> => systemIo.list(path);
  readonly stat = (path: string): Promise<Stats> => systemIo.stat(path);
  #left = Number.POSITIVE_INFINITY;
  #held = deferred<undefined>();
  #released: Deferred<undefined> | undefined;

  /** Stands still before the call that comes after so many others; resolves when it does. */
  holdAfter(calls: number): Promise<undefined> {
    this.#left = calls;
    this.#held = deferred<undefined>();
    this.#released = deferred<undefined>();
    return this.#held.promise;
  }

  /** Goes on, for good. */
  release(): void {
    this.#left = Number.POSITIVE_INFINITY;
    this.#released?.resolve(undefined);
  }

  /** Every call passes here first. */
  async pass(): Promise<void> {
    this.#left -= 1;
    if (this.#left >= 0) return;
    this.#held.resolve(undefined);
    await this.#released?.promise;
  }

  async create(path: string): Promise<IoFile> {
    await this.pass();
    return new HoldingFile(this, await systemIo.create(path));
  }

  async rename(from: string, to: string): Promise<void> {
    await this.pass();
    await systemIo.rename(from, to);
  }

  async link(from: string, to: string): Promise<void> {
    await this.pass();
    await systemIo.link(from, to);
  }

  async unlink(path: string): Promise<void> {
    await this.pass();
    await systemIo.unlink(path);
  }

  async makeFolder(path: string): Promise<boolean> {
    await this.pass();
    return await systemIo.makeFolder(path);
  }

  async syncFolder(path: string): Promise<void> {
    await this.pass();
    await systemIo.syncFolder(path);
  }
}

class HoldingFile implements IoFile {
  readonly #io: HoldingIo;
  readonly #file: IoFile;

  constructor(io: HoldingIo, file: IoFile) {
    this.#io = io;
    this.#file = file;
  }

  async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    await this.#io.pass();
    await this.#file.write(parts, offsetBytes);
  }

  async datasync(): Promise<void> {
    await this.#io.pass();
    await this.#file.datasync();
  }

  async sync(): Promise<void> {
    await this.#io.pass();
    await this.#file.sync();
  }

  async truncate(sizeBytes: number): Promise<void> {
    await this.#io.pass();
    await this.#file.truncate(sizeBytes);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
