/** The real file system with faults as data: a test says which call fails how, and sees the order of calls. */
import { type FileIo, type IoFile, systemIo } from "../../src/storage/file-io.js";

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

export class FaultIo implements FileIo {
  /** Every call in order, failed ones included. */
  readonly calls: { readonly call: IoCall; readonly path: string }[] = [];
  /** What fails; nothing until set. */
  plan: FaultPlan = () => undefined;
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

  /** Notes a call and throws if the plan says so. */
  check(call: IoCall, path: string): void {
    const index = this.calls.length;
    this.calls.push({ call, path });
    const errno = this.plan(call, path, index);
    if (errno !== undefined) throw Object.assign(new Error(`${errno}: made to fail`), { code: errno });
  }
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
