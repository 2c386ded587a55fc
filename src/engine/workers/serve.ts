/** What a worker does: one task after the other, each answered. In a thread of its own (`worker.ts`), or beside its pool. */
import { join } from "node:path";
import type { MessagePort } from "node:worker_threads";
import { asHoldfastError, hasCode, HoldfastError } from "../../base/errors.js";
import type { Backend } from "../../storage/backend.js";
import type { FileIo } from "../../storage/file-io.js";
import { localFolderOf, openBackend } from "../../storage/open.js";
import type { FinishedPack } from "../pack/format.js";
import { provePack } from "../pack/prove.js";
import { RecordOpener } from "../pack/record.js";
import { type ByteSource, newReadWindow, objectSource, WindowSource } from "../pack/source.js";
import { nameBatch } from "../restore/name-batch.js";
import { placeBatch } from "../restore/place-batch.js";
import { ReadMemory } from "../restore/read-memory.js";
import type { ReadTools } from "../restore/stored-content.js";
import { digestBatch } from "./digest-batch.js";
import { Ingest } from "./ingest.js";
import { type RecompressRequest, recompressPack } from "./recompress.js";
import {
  type AnswerMessage,
  CANCEL_SLOTS,
  packBytes,
  READY,
  type Packed,
  type ReadRequest,
  type SealRequest,
  type TaskMessage,
  type WorkerAnswer,
  type WorkerBirth,
  type WorkerTask,
  wireError,
} from "./protocol.js";

/** The store as one worker reads it, opened when it is first needed. */
class StoreReader {
  readonly #url: string;
  readonly #localFolder: string | undefined;
  readonly #window = newReadWindow();
  readonly #io: FileIo;
  #backend: Backend | undefined;

  constructor(url: string, io: FileIo) {
    this.#url = url;
    this.#io = io;
    this.#localFolder = localFolderOf(url);
  }

  /** Runs `use` on an object or a file, of which one read is valid until the next. Throws OBJECT_MISSING. */
  async withSource<T>(object: ReadRequest["object"], use: (source: ByteSource) => Promise<T>): Promise<T> {
    const path = "file" in object ? object.file : this.#localPath(object.key);
    if (path === undefined) return await use(await this.#remoteSource(object));
    using source = new WindowSource(path, this.#window, this.#io);
    return await use(source);
  }

  #localPath(key: string): string | undefined {
    return this.#localFolder === undefined ? undefined : join(this.#localFolder, key);
  }

  async #remoteSource(object: ReadRequest["object"]): Promise<ByteSource> {
    if ("file" in object) throw new HoldfastError("INTERNAL", "a file is no object of the store");
    this.#backend ??= await openBackend(this.#url, { io: this.#io });
    const info = await this.#backend.stat(object.key, NEVER);
    if (info === undefined) throw new HoldfastError("OBJECT_MISSING", `there is no object ${object.key}`);
    return objectSource(this.#backend, object.key, info.sizeBytes);
  }
}

const NEVER = new AbortController().signal;

class WorkerTasks {
  readonly #birth: WorkerBirth;
  readonly #io: FileIo;
  readonly #ingest: Ingest;
  readonly #store: StoreReader;
  readonly #opener: RecordOpener;
  readonly #reading: ReadTools;
  readonly #cancelled: Int32Array;

  constructor(birth: WorkerBirth, io: FileIo, offer: (request: SealRequest) => boolean) {
    this.#birth = birth;
    this.#io = io;
    this.#ingest = new Ingest({ keys: birth.keys, stagingFolder: birth.stagingFolder, io, offer });
    this.#store = new StoreReader(birth.storeUrl, io);
    this.#opener = new RecordOpener(birth.keys);
    this.#reading = { opener: this.#opener, memory: new ReadMemory(), io };
    this.#cancelled = new Int32Array(birth.cancelled);
  }

  async run(id: number, task: WorkerTask): Promise<WorkerAnswer> {
    const checkCancelled = (): void => {
      if (Atomics.load(this.#cancelled, id % CANCEL_SLOTS) === id) throw interrupted();
    };
    switch (task.kind) {
      case "ingest":
        return { kind: "ingest", result: await this.#ingest.run(task.batch, task.chunkSet, checkCancelled) };
      case "seal":
        await this.#ingest.seal(task.request);
        return { kind: "seal" };
      case "finish":
        return { kind: "finish", packs: await this.#ingest.finish(task.job) };
      case "abandon":
        await this.#ingest.abandon(task.job);
        return { kind: "abandon" };
      case "prove": {
        const { pack } = task;
        const prove = async (source: ByteSource) =>
          await provePack(cancellable(source, checkCancelled), pack.sha256, this.#opener, NEVER);
        const proof = await this.#store.withSource({ key: pack.key }, prove);
        // Thousands of objects that nobody asks for when the pack's own directory is whole.
        return { kind: "prove", proof: proof.directoryFault === undefined ? { ...proof, entries: [] } : proof };
      }
      case "read":
        return { kind: "read", packed: await this.#read(task.request, checkCancelled) };
      case "digest":
        return { kind: "digest", failed: await digestBatch(task.request, this.#reading, checkCancelled) };
      case "recompress":
        return { kind: "recompress", pack: await this.#recompress(task.request, checkCancelled) };
      case "place":
        return { kind: "place", result: await placeBatch(task.request, this.#reading, checkCancelled) };
      case "name":
        return { kind: "name", result: nameBatch(task.request) };
    }
  }

  async #recompress(request: RecompressRequest, checkCancelled: () => void): Promise<FinishedPack | undefined> {
    const { keys, stagingFolder } = this.#birth;
    const tools = { keys, stagingFolder, io: this.#io, opener: this.#opener, checkCancelled };
    return await this.#store.withSource({ key: request.key }, (source) => recompressPack(source, request, tools));
  }

  async #read(request: ReadRequest, checkCancelled: () => void): Promise<Packed> {
    return await this.#store.withSource(request.object, async (source) => {
      const plains: (Buffer | undefined)[] = [];
      for (const { offsetBytes, recordBytes } of request.records) {
        checkCancelled();
        const bytes = await source.read(offsetBytes, recordBytes, NEVER);
        const plain = this.#openOrNone(bytes);
        // An unencrypted, uncompressed record is a view of what was read, which the next reading overwrites.
        plains.push(plain?.buffer === bytes.buffer ? Buffer.from(plain) : plain);
      }
      return packBytes(plains);
    });
  }

  #openOrNone(bytes: Buffer): Buffer | undefined {
    try {
      return this.#opener.open(bytes).plain;
    } catch (error) {
      if (hasCode(error, "RECORD_DAMAGED")) return undefined;
      throw error;
    }
  }
}

function interrupted(): HoldfastError {
  return new HoldfastError("INTERRUPTED", "the work was interrupted");
}

function cancellable(source: ByteSource, checkCancelled: () => void): ByteSource {
  return {
    sizeBytes: source.sizeBytes,
    read: async (offset, length, signal) => {
      checkCancelled();
      return await source.read(offset, length, signal);
    },
  };
}

/** Buffers that are handed over instead of copied. */
function transferables(answer: WorkerAnswer): ArrayBuffer[] {
  if (answer.kind === "read") return [answer.packed.bytes.buffer].filter(isOwnMemory);
  if (answer.kind !== "ingest") return [];
  const { packed, states, newIds } = answer.result;
  return [packed.bytes.buffer, states.bytes.buffer, newIds.buffer].filter(isOwnMemory);
}

function isOwnMemory(buffer: ArrayBufferLike): buffer is ArrayBuffer {
  return buffer instanceof ArrayBuffer;
}

/** Chunks that a thread has offered and that are not sealed: 8 MiB at most, 2 MiB on average. */
const OFFERS_MAX = 8;

/** Offers chunks by the port as long as there is somebody to take them. */
function offerBy(port: MessagePort, birth: WorkerBirth): (request: SealRequest) => boolean {
  const [spare, offered] = [new Int32Array(birth.spare), new Int32Array(birth.offered)];
  return (request) => {
    if (Atomics.load(spare, 0) <= 0 || Atomics.load(offered, 0) >= OFFERS_MAX) return false;
    Atomics.add(offered, 0, 1);
    const plain = new Uint8Array(request.plain);
    port.postMessage({ offer: { ...request, plain } }, [plain.buffer]);
    return true;
  };
}

/** Answers every task that comes in by the port. `io`: the file calls for the store; restored files are the system's. */
export function serveTasks(port: MessagePort, birth: WorkerBirth, io: FileIo): void {
  const tasks = new WorkerTasks(birth, io, offerBy(port, birth));
  let last = Promise.resolve();
  const answer = async ({ id, task }: TaskMessage): Promise<void> => {
    let message: AnswerMessage;
    try {
      message = { id, answer: await tasks.run(id, task) };
    } catch (error) {
      message = { id, error: wireError(asHoldfastError(error)) };
    }
    port.postMessage(message, "answer" in message ? transferables(message.answer) : []);
  };
  port.on("message", (message: TaskMessage) => {
    last = last.then(() => answer(message));
  });
  port.postMessage(READY);
}
