/**
 * Content of files in memory, in blocks, within a fixed budget. What is read in order is fetched ahead, more each time;
 * small files of a folder that is being read come together. Blocks are kept by digest, so the same content in several
 * backups is fetched once.
 */
import { HoldfastError } from "../base/errors.js";
import type { BackupLibrary, BrowseFile, FileRun } from "./library.js";

export const BLOCK_BYTES = 2 ** 20;
/** Blocks that one fetch brings at most: 8 MiB. */
const RUN_BLOCKS_MAX = 8;
/** Files whose pace is remembered. */
const PACES_KEPT = 256;
/** Content kept by default, bytes. */
export const CACHE_BYTES = 64 * 2 ** 20;

/** How a file is being read. */
interface Pace {
  /** The block that was read last. */
  last: number;
  isInOrder: boolean;
  /** Blocks that the next fetch brings; 1 unless the file is read in order. */
  run: number;
}

/** A block on its way. */
interface Awaited {
  readonly key: string;
  readonly give: (block: Buffer) => void;
  readonly fail: (error: unknown) => void;
}

/** The run of small files that a file lies in, when its neighbours are likely to be read too. */
export type Neighbours = () => Promise<FileRun | undefined>;

export class ContentCache {
  readonly #library: BackupLibrary;
  readonly #signal: AbortSignal;
  readonly #bytesMax: number;
  readonly #blocks = new Map<string, Buffer>();
  readonly #coming = new Map<string, Promise<Buffer>>();
  readonly #runs = new Map<string, Promise<void>>();
  readonly #paces = new Map<string, Pace>();
  #bytes = 0;

  constructor(library: BackupLibrary, signal: AbortSignal, bytesMax = CACHE_BYTES) {
    this.#library = library;
    this.#signal = signal;
    this.#bytesMax = Math.max(bytesMax, 2 * RUN_BLOCKS_MAX * BLOCK_BYTES);
  }

  /** Bytes that are kept now. */
  get sizeBytes(): number {
    return this.#bytes;
  }

  /** The bytes of a file from an offset on, at most to its end, as views. Throws what the library throws. */
  async read(
    file: BrowseFile,
    range: { readonly offsetBytes: number; readonly lengthBytes: number },
    neighbours?: Neighbours,
  ): Promise<readonly Buffer[]> {
    const endBytes = Math.min(range.offsetBytes + range.lengthBytes, file.sizeBytes);
    const parts: Buffer[] = [];
    let atBytes = range.offsetBytes;
    while (atBytes < endBytes) {
      const index = Math.floor(atBytes / BLOCK_BYTES);
      const block = await this.#block(file, index, neighbours);
      const from = atBytes - index * BLOCK_BYTES;
      const part = block.subarray(from, from + endBytes - atBytes);
      if (part.length === 0) throw shorter();
      parts.push(part);
      atBytes += part.length;
    }
    return parts;
  }

  async #block(file: BrowseFile, index: number, neighbours: Neighbours | undefined): Promise<Buffer> {
    const key = keyOf(file, index);
    const pace = this.#paceOf(file, index);
    let block = this.#use(key);
    if (block === undefined && neighbours !== undefined && !this.#coming.has(key)) {
      const run = await neighbours();
      if (run !== undefined) await this.#takeRun(run);
      block = this.#use(key);
    }
    if (block === undefined && !this.#coming.has(key)) this.#fetch(file, index, pace);
    const coming = block === undefined ? this.#coming.get(key) : undefined;
    this.#readAhead(file, index, pace);
    return block ?? (await coming) ?? this.#missing();
  }

  #missing(): never {
    throw new HoldfastError("INTERNAL", "a block was asked for and does not come");
  }

  #paceOf(file: BrowseFile, index: number): Pace {
    const pace = this.#paces.get(file.sha256) ?? { last: -1, isInOrder: true, run: 1 };
    if (index !== pace.last) pace.isInOrder = index === pace.last + 1;
    if (!pace.isInOrder) pace.run = 1;
    pace.last = index;
    this.#paces.delete(file.sha256);
    this.#paces.set(file.sha256, pace);
    if (this.#paces.size > PACES_KEPT) deleteFirst(this.#paces);
    return pace;
  }

  /** While half of a run is still to be read, the next one is asked for. */
  #readAhead(file: BrowseFile, index: number, pace: Pace): void {
    if (pace.run < 2) return;
    for (let ahead = index + 1; ahead <= index + pace.run / 2; ahead += 1) {
      if (ahead * BLOCK_BYTES >= file.sizeBytes) return;
      const key = keyOf(file, ahead);
      if (this.#blocks.has(key) || this.#coming.has(key)) continue;
      this.#fetch(file, ahead, pace);
      return;
    }
  }

  /** Asks for a run of blocks; each can then be waited for in `#coming`. */
  #fetch(file: BrowseFile, first: number, pace: Pace): void {
    const awaited: Awaited[] = [];
    for (let index = first; index < first + pace.run && index * BLOCK_BYTES < file.sizeBytes; index += 1) {
      const key = keyOf(file, index);
      if (this.#blocks.has(key) || this.#coming.has(key)) break;
      const block = new Promise<Buffer>((give, fail) => awaited.push({ key, give, fail }));
      block.catch(() => undefined); // who waits is told; for what is read ahead nobody may wait
      this.#coming.set(key, block);
    }
    if (pace.isInOrder) pace.run = Math.min(RUN_BLOCKS_MAX, pace.run * 2);
    void this.#fill(file, first, awaited);
  }

  async #fill(file: BrowseFile, first: number, awaited: readonly Awaited[]): Promise<void> {
    const startBytes = first * BLOCK_BYTES;
    const lengthBytes = Math.min(awaited.length * BLOCK_BYTES, file.sizeBytes - startBytes);
    let done = 0;
    try {
      const parts = this.#library.read(file, startBytes, lengthBytes, this.#signal);
      for await (const block of blocksOf(parts, lengthBytes)) {
        const slot = awaited[done];
        if (slot === undefined) break;
        done += 1;
        this.#keep(slot.key, block);
        this.#coming.delete(slot.key);
        slot.give(block);
      }
      if (done < awaited.length) throw shorter();
    } catch (error) {
      for (const { key, fail } of awaited.slice(done)) {
        this.#coming.delete(key);
        fail(error);
      }
    }
  }

  async #takeRun(run: FileRun): Promise<void> {
    const key = [run.backupId, run.folder, run.source, run.firstName].join("\0");
    const asked = this.#runs.get(key) ?? this.#fetchRun(run).finally(() => this.#runs.delete(key));
    this.#runs.set(key, asked);
    await asked;
  }

  async #fetchRun(run: FileRun): Promise<void> {
    for await (const { sha256, bytes } of this.#library.readMany(run, this.#signal)) {
      if (bytes.length > 0 && sha256 !== "") this.#keep(`${sha256}:0`, bytes);
    }
  }

  #use(key: string): Buffer | undefined {
    const block = this.#blocks.get(key);
    if (block === undefined) return undefined;
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    return block;
  }

  #keep(key: string, block: Buffer): void {
    if (this.#blocks.has(key)) return;
    this.#blocks.set(key, block);
    this.#bytes += block.length;
    for (const [oldest, bytes] of this.#blocks) {
      if (this.#bytes <= this.#bytesMax) return;
      this.#blocks.delete(oldest);
      this.#bytes -= bytes.length;
    }
  }
}

/** Cuts a stream of `lengthBytes` into blocks; the last one may be shorter. */
async function* blocksOf(parts: AsyncIterable<Buffer>, lengthBytes: number): AsyncGenerator<Buffer> {
  let left = lengthBytes;
  let block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES, left));
  let filled = 0;
  for await (const part of parts) {
    let taken = 0;
    while (taken < part.length && left > 0) {
      const count = part.copy(block, filled, taken);
      taken += count;
      filled += count;
      if (filled < block.length) continue;
      yield block;
      left -= filled;
      filled = 0;
      block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES, left));
    }
  }
}

function keyOf(file: BrowseFile, index: number): string {
  return `${file.sha256}:${index}`;
}

function shorter(): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", "a file ends before its size");
}

function deleteFirst(map: Map<string, unknown>): void {
  for (const key of map.keys()) {
    map.delete(key);
    return;
  }
}
