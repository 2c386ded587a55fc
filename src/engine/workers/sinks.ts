/** Where a worker's sealed records go: into packs in the staging folder, or inline up to a limit and then into packs. */
import { systemIo } from "../../storage/file-io.js";
import { discardPacks, PackWriter, type PackWriterOptions } from "../pack/writer.js";
import type { FinishedPack } from "../pack/format.js";
import type { SealedRecord } from "../pack/record.js";
import { INLINE_BYTES_MAX } from "./protocol.js";

export interface RecordSink extends AsyncDisposable {
  put(record: SealedRecord): Promise<void>;
  /** Packs that were closed since the last call. */
  takeFinished(): FinishedPack[];
  /** Closes the open pack. */
  finish(): Promise<void>;
}

/** Fills one pack after the other; the one before is brought to the disk meanwhile. */
export class PackSink implements RecordSink {
  readonly #options: PackWriterOptions;
  #writer: PackWriter | undefined;
  #finishing: Promise<void> = Promise.resolve();
  #finished: FinishedPack[] = [];

  constructor(options: PackWriterOptions) {
    this.#options = options;
  }

  async put(record: SealedRecord): Promise<void> {
    this.#writer ??= new PackWriter(this.#options);
    await this.#writer.add(record);
    if (this.#writer.full) await this.#beginFinish();
  }

  takeFinished(): FinishedPack[] {
    const finished = this.#finished;
    this.#finished = [];
    return finished;
  }

  async finish(): Promise<void> {
    await this.#beginFinish();
    await this.#finishing;
  }

  /** Throws away the open pack, and those that were closed and not taken. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#finishing.catch(() => undefined); // told already, or thrown away
    await this.#writer?.[Symbol.asyncDispose]();
    this.#writer = undefined;
    await discardPacks(this.takeFinished(), this.#options.io ?? systemIo);
  }

  /** Has the open pack closed once the one before is. */
  async #beginFinish(): Promise<void> {
    await this.#finishing;
    const writer = this.#writer;
    if (writer === undefined) return;
    this.#writer = undefined;
    this.#finishing = this.#close(writer);
    this.#finishing.catch(() => undefined); // heard by whoever comes next
  }

  async #close(writer: PackWriter): Promise<void> {
    await using closing = writer; // removes what could not be finished
    const pack = await closing.finish();
    if (pack !== undefined) this.#finished.push(pack);
  }
}

/** Keeps records in memory until the limit, then goes on in packs. */
export class InlineSink implements RecordSink {
  readonly records: SealedRecord[] = [];
  readonly #packs: PackSink;
  #bytes = 0;

  constructor(options: PackWriterOptions) {
    this.#packs = new PackSink(options);
  }

  async put(record: SealedRecord): Promise<void> {
    if (this.#bytes + record.bytes.length > INLINE_BYTES_MAX) {
      await this.#packs.put(record);
      return;
    }
    this.#bytes += record.bytes.length;
    this.records.push(record);
  }

  takeFinished(): FinishedPack[] {
    return this.#packs.takeFinished();
  }

  async finish(): Promise<void> {
    await this.#packs.finish();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#packs[Symbol.asyncDispose]();
  }
}
