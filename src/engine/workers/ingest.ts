/** A worker's batches: reads each path, stores what is new, and keeps one open pack for each job. */
import { HoldfastError } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import type { FileIo } from "../../storage/file-io.js";
import { Chunker } from "../chunk/chunker.js";
import type { RepositoryKeys } from "../keys.js";
import type { FinishedPack } from "../pack/format.js";
import { RecordSealer } from "../pack/record.js";
import type { PackWriterOptions } from "../pack/writer.js";
import { isImmutable } from "../metadata.js";
import type { FileNode } from "../types.js";
import { ByteWriter } from "../tree/bytes.js";
import { writeUnstamped } from "../tree/unstamped.js";
import { ChunkSetReader } from "./chunk-set.js";
import { ChunkStore, type ChunkStoreOptions } from "./chunk-store.js";
import { GitTrees } from "./git-trees.js";
import {
  type FailedOutcome,
  type IngestAnswer,
  type IngestBatch,
  packBytes,
  type Packed,
  type RecordHead,
  type SealRequest,
} from "./protocol.js";
import { readPath } from "./read-file.js";
import { InlineSink, PackSink } from "./sinks.js";

/** Jobs with an open pack in one worker; each holds a bundle of up to 1 MiB and a write buffer of 1 MiB. */
const JOBS_MAX = 8;

export interface IngestOptions {
  readonly keys: RepositoryKeys;
  readonly stagingFolder: string;
  readonly io: FileIo;
  /** Gives a chunk to a thread that has nothing to do; false when there is none. */
  readonly offer: (request: SealRequest) => boolean;
}

export class Ingest implements AsyncDisposable {
  readonly #options: IngestOptions;
  readonly #chunker: Chunker;
  readonly #sealer: RecordSealer;
  readonly #gitTrees = new GitTrees();
  readonly #jobs = new Map<number, ChunkStore>();

  constructor(options: IngestOptions) {
    this.#options = options;
    this.#chunker = new Chunker(options.keys.chunkerKey);
    this.#sealer = new RecordSealer(options.keys);
  }

  /** Reads a batch. After an error in pack mode the job's open pack is gone. */
  async run(batch: IngestBatch, known: SharedArrayBuffer, checkCancelled: () => void): Promise<IngestAnswer> {
    const reader = new ChunkSetReader(known, batch.job);
    return batch.mode === "inline"
      ? await this.#runInline(batch, reader, checkCancelled)
      : await this.#runPacked(batch, reader, checkCancelled);
  }

  /** Seals a chunk into the job's open pack. After an error that pack is gone. */
  async seal({ job, compression, id, plain }: SealRequest): Promise<void> {
    try {
      await (this.#jobs.get(job) ?? this.#openJob({ job, compression })).seal(id, plain);
    } catch (error) {
      await this.abandon(job);
      throw error;
    }
  }

  /** Closes the job's open pack. */
  async finish(job: number): Promise<FinishedPack[]> {
    const store = this.#jobs.get(job);
    if (store === undefined) return [];
    try {
      await store.flush();
      await store.sink.finish();
      return store.sink.takeFinished();
    } finally {
      await this.abandon(job);
    }
  }

  /** Throws the job's open pack away. */
  async abandon(job: number): Promise<void> {
    const store = this.#jobs.get(job);
    this.#jobs.delete(job);
    await store?.sink[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const job of [...this.#jobs.keys()]) await this.abandon(job);
  }

  async #runInline(batch: IngestBatch, known: ChunkSetReader, checkCancelled: () => void): Promise<IngestAnswer> {
    await using sink = new InlineSink(this.#packOptions());
    const store = this.#newStore({ sink, compression: batch.compression });
    store.beginBatch(known);
    const read = await this.#readAll(batch, store, checkCancelled);
    await store.flush();
    await sink.finish();
    const packed = packBytes(sink.records.map((record) => record.bytes));
    return { ...read, packs: sink.takeFinished(), heads: sink.records.map(headOf), packed };
  }

  async #runPacked(batch: IngestBatch, known: ChunkSetReader, checkCancelled: () => void): Promise<IngestAnswer> {
    const store = this.#jobs.get(batch.job) ?? this.#openJob(batch);
    store.beginBatch(known);
    try {
      const read = await this.#readAll(batch, store, checkCancelled);
      return { ...read, packs: store.sink.takeFinished(), heads: [], packed: packBytes([]) };
    } catch (error) {
      await this.abandon(batch.job);
      throw error;
    }
  }

  async #readAll(
    batch: IngestBatch,
    store: ChunkStore,
    checkCancelled: () => void,
  ): Promise<Pick<IngestAnswer, "states" | "failures" | "immutable" | "newIds" | "readBytes">> {
    const states = new StateList();
    const failures = new Map<number, FailedOutcome>();
    const immutable: BytePath[] = [];
    let readBytes = 0;
    this.#gitTrees.forget();
    const context = {
      chunker: this.#chunker,
      gitTrees: this.#gitTrees,
      store,
      profile: batch.profile ?? "general",
      checkCancelled,
      onRead: (count: number) => {
        readBytes += count;
      },
    } as const;
    for (const [index, path] of batch.paths.entries()) {
      checkCancelled();
      const reached = readPath(path, context);
      const reading = reached instanceof Promise ? await reached : reached;
      states.add(reading.kind === "read" ? reading.node : undefined);
      if (reading.kind !== "read") failures.set(index, reading);
      else if (isImmutable(reading.node)) immutable.push(path);
    }
    return { states: states.take(), failures, immutable, newIds: store.newIds(), readBytes };
  }

  #openJob({ job, compression }: Pick<IngestBatch, "job" | "compression">): ChunkStore {
    if (this.#jobs.size >= JOBS_MAX) throw new HoldfastError("LIMIT_REACHED", "too many jobs write packs at once");
    const { offer } = this.#options;
    const store = this.#newStore({
      sink: new PackSink(this.#packOptions()),
      compression,
      offer: (id, plain) => offer({ job, compression, id, plain }),
    });
    this.#jobs.set(job, store);
    return store;
  }

  #newStore(options: Pick<ChunkStoreOptions, "sink" | "compression" | "offer">): ChunkStore {
    return new ChunkStore({ keys: this.#options.keys, sealer: this.#sealer, ...options });
  }

  #packOptions(): PackWriterOptions {
    return { ...this.#options, kind: "d" };
  }
}

/** The states of a batch, back to back. */
class StateList {
  readonly #writer = new ByteWriter();
  readonly #lengths: number[] = [];

  add(node: FileNode | undefined): void {
    const from = this.#writer.length;
    if (node !== undefined) writeUnstamped(this.#writer, node);
    this.#lengths.push(node === undefined ? -1 : this.#writer.length - from);
  }

  take(): Packed {
    // A copy with memory of its own, so that it can be handed over.
    return { bytes: new Uint8Array(this.#writer.take()), lengths: this.#lengths };
  }
}

function headOf(record: RecordHead): RecordHead {
  const { type, id, plainBytes, inner } = record;
  return { type, id, plainBytes, ...(inner === undefined ? {} : { inner }) };
}
