/**
 * The real file system with faults as data: a test says which call fails how, and sees the order of calls. Calls that
 * write and calls that read are counted apart.
 */
import type { Dirent, Stats } from "node:fs";
import { type FileIo, type IoFile, type IoReader, type IoReaderNow, systemIo } from "../../src/storage/file-io.js";

/** Name of a call of the file port. */
export type IoCall =
  | "create"
  | "write"
  | "datasync"
  | "sync"
  | "truncate"
  | "close"
  | "rename"
  | "link"
  | "unlink"
  | "makeFolder"
  | "syncFolder";

/** Decides before each call: an errno name to fail with, or undefined to let it happen. */
export type FaultPlan = (call: IoCall, path: string, index: number) => string | undefined;

/** A call that reads. */
export type ReadCall = "open" | "read" | "list" | "stat";

/** What a disk does instead of reading: fail with an errno name, end too early, or give a changed bit. */
export type ReadFault = "EIO" | "ESTALE" | "short" | "rotten";

/** Decides before each call that reads; `offsetBytes` is 0 where there is none. */
export type ReadPlan = (
  call: ReadCall,
  path: string,
  index: number,
  range: { readonly offsetBytes: number; readonly lengthBytes: number },
) => ReadFault | undefined;

const NO_RANGE = { offsetBytes: 0, lengthBytes: 0 };

export class FaultIo implements FileIo {
  /** Every call in order, failed ones included. */
  readonly calls: { readonly call: IoCall; readonly path: string }[] = [];
  /** What fails; nothing until set. */
  plan: FaultPlan = () => undefined;
  /** Every call that reads, in order, failed ones included. */
  readonly reads: { readonly call: ReadCall; readonly path: string }[] = [];
  /** What does not read; everything does until set. */
  readPlan: ReadPlan = () => undefined;
  /** A failing write leaves this share of its bytes behind, as real ones do. */
  partialShare = 0;
  /** Held before each datasync; lets a test look while it is under way. */
  beforeDatasync: () => Promise<void> = () => Promise.resolve();

  async create(path: string): Promise<IoFile> {
    this.check("create", path);
    return new FaultFile(this, await systemIo.create(path), path);
  }

  async rename(from: string, to: string): Promise<void> {
    this.check("rename", from);
    await systemIo.rename(from, to);
  }

  async link(from: string, to: string): Promise<void> {
    this.check("link", from);
    await systemIo.link(from, to);
  }

  async unlink(path: string): Promise<void> {
    this.check("unlink", path);
    await systemIo.unlink(path);
  }

  async makeFolder(path: string): Promise<boolean> {
    this.check("makeFolder", path);
    return await systemIo.makeFolder(path);
  }

  async syncFolder(path: string): Promise<void> {
    this.check("syncFolder", path);
    await systemIo.syncFolder(path);
  }

  async open(path: string): Promise<IoReader> {
    this.checkRead("open", path);
    return new FaultReader(this, await systemIo.open(path), path);
  }

  openNow(path: string): IoReaderNow {
    this.checkRead("open", path);
    return new FaultReaderNow(this, systemIo.openNow(path), path);
  }

  async list(path: string): Promise<Dirent[]> {
    this.checkRead("list", path);
    return await systemIo.list(path);
  }

  async stat(path: string): Promise<Stats> {
    this.checkRead("stat", path);
    return await systemIo.stat(path);
  }

  /** Notes a call that reads, and throws if the plan says so; gives a fault that shows in what is read. */
  checkRead(call: ReadCall, path: string, range = NO_RANGE): "short" | "rotten" | undefined {
    const index = this.reads.length;
    this.reads.push({ call, path });
    const fault = this.readPlan(call, path, index, range);
    if (fault === "short" || fault === "rotten") return call === "read" ? fault : undefined;
    if (fault !== undefined) throw Object.assign(new Error(`${fault}: made to fail`), { code: fault });
    return undefined;
  }

  /** Notes a call and throws if the plan says so. */
  check(call: IoCall, path: string): void {
    const index = this.calls.length;
    this.calls.push({ call, path });
    const errno = this.plan(call, path, index);
    if (errno !== undefined) throw Object.assign(new Error(`${errno}: made to fail`), { code: errno });
  }
}

class FaultReader implements IoReader {
  readonly sizeBytes: number;
  readonly #io: FaultIo;
  readonly #file: IoReader;
  readonly #path: string;

  constructor(io: FaultIo, file: IoReader, path: string) {
    this.#io = io;
    this.#file = file;
    this.#path = path;
    this.sizeBytes = file.sizeBytes;
  }

  async read(target: Uint8Array, offsetBytes: number): Promise<number> {
    const fault = this.#io.checkRead("read", this.#path, { offsetBytes, lengthBytes: target.length });
    if (fault === "short") return 0;
    const count = await this.#file.read(target, offsetBytes);
    if (fault === "rotten") spoil(target);
    return count;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

class FaultReaderNow implements IoReaderNow {
  readonly sizeBytes: number;
  readonly #io: FaultIo;
  readonly #file: IoReaderNow;
  readonly #path: string;

  constructor(io: FaultIo, file: IoReaderNow, path: string) {
    this.#io = io;
    this.#file = file;
    this.#path = path;
    this.sizeBytes = file.sizeBytes;
  }

  read(target: Uint8Array, offsetBytes: number): number {
    const fault = this.#io.checkRead("read", this.#path, { offsetBytes, lengthBytes: target.length });
    if (fault === "short") return 0;
    const count = this.#file.read(target, offsetBytes);
    if (fault === "rotten") spoil(target);
    return count;
  }

  close(): void {
    this.#file.close();
  }
}

function spoil(bytes: Uint8Array): void {
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
}

class FaultFile implements IoFile {
  readonly #io: FaultIo;
  readonly #file: IoFile;
  readonly #path: string;

  constructor(io: FaultIo, file: IoFile, path: string) {
    this.#io = io;
    this.#file = file;
    this.#path = path;
  }

  async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    try {
      this.#io.check("write", this.#path);
    } catch (error) {
      const all = Buffer.concat(parts);
      await this.#file.write([all.subarray(0, Math.floor(all.length * this.#io.partialShare))], offsetBytes);
      throw error;
    }
    await this.#file.write(parts, offsetBytes);
  }

  async datasync(): Promise<void> {
    await this.#io.beforeDatasync();
    this.#io.check("datasync", this.#path);
    await this.#file.datasync();
  }

  async sync(): Promise<void> {
    this.#io.check("sync", this.#path);
    await this.#file.sync();
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#io.check("truncate", this.#path);
    await this.#file.truncate(sizeBytes);
  }

  async close(): Promise<void> {
    await this.#file.close();
    this.#io.check("close", this.#path);
  }
}
