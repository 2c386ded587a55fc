/** One worker thread as the pool sees it: tasks go in, answers come out, and its death fails what was under way. */
import { MessageChannel, Worker } from "node:worker_threads";
import { type Deferred, deferred } from "../../base/concurrency.js";
import { HoldfastError, messageOf } from "../../base/errors.js";
import type { FileIo } from "../../storage/file-io.js";
import {
  type AnswerMessage,
  CANCEL_SLOTS,
  fromWire,
  type OfferMessage,
  READY,
  type ReadyMessage,
  type SealRequest,
  type WorkerAnswer,
  type WorkerBirth,
  type WorkerTask,
} from "./protocol.js";
import { serveTasks } from "./serve.js";

type AnswerTo<T extends WorkerTask> = Extract<WorkerAnswer, { readonly kind: T["kind"] }>;

/** Young heap of a thread: content lies outside of it, and V8's own choice of 48 MiB would be touched in full. */
const YOUNG_HEAP_MIB = 3;

/** What its pool gives a thread. */
export type ThreadBirth = Omit<WorkerBirth, "cancelled" | "offered">;

/** What its pool hears of a thread. */
export interface ThreadListener {
  /** Called once, when it is gone for whatever reason. */
  onDeath(thread: WorkerThread, reason: string): void;
  /** A chunk of its task that another thread is to seal. */
  onOffer(thread: WorkerThread, request: SealRequest): void;
}

export class WorkerThread implements AsyncDisposable {
  /** Jobs that may have an open pack in this thread. */
  readonly jobs = new Set<number>();
  /** Tasks of the pool that are under way in it or wait for it. */
  load = 0;
  /** Chunks of others that it seals or is to seal. */
  seals = 0;
  readonly #worker: Pick<Worker, "postMessage" | "terminate">;
  readonly #cancelled: Int32Array;
  readonly #offered: Int32Array;
  readonly #tasks = new Map<number, Deferred<WorkerAnswer>>();
  readonly #listener: ThreadListener;
  #nextId = 1;
  readonly #ready = deferred<undefined>();
  #dead: string | undefined;

  private constructor(
    worker: Pick<Worker, "postMessage" | "terminate">,
    { cancelled, offered }: WorkerBirth,
    listener: ThreadListener,
  ) {
    this.#worker = worker;
    this.#cancelled = new Int32Array(cancelled);
    this.#offered = new Int32Array(offered);
    this.#listener = listener;
  }

  /**
   * Starts a thread and waits until it is ready: one that is ended while it loads its native parts would end the whole
   * process.
   */
  static async start(this: void, birth: ThreadBirth, listener: ThreadListener): Promise<WorkerThread> {
    const workerData = withNumbers(birth);
    const worker = new Worker(new URL("./worker.js", import.meta.url), {
      workerData,
      // A restored file is opened in one thread and named and closed in another: when a thread ends, a descriptor that
      // Node believes to be the thread's may long be that of something else.
      trackUnmanagedFds: false,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_HEAP_MIB },
    });
    const thread = new WorkerThread(worker, workerData, listener);
    worker.on("message", (message: ThreadMessage) => thread.#hear(message));
    worker.on("error", (error) => thread.#die(messageOf(error)));
    worker.on("exit", (code) => thread.#die(`it ended with code ${code}`));
    await thread.#ready.promise;
    if (thread.#dead !== undefined) throw died(thread.#dead);
    return thread;
  }

  /** The same without a thread, for file calls that only this one can make: its tasks are done in turn with all else. */
  static async beside(birth: ThreadBirth, io: FileIo, listener: ThreadListener): Promise<WorkerThread> {
    const whole = withNumbers(birth);
    const { port1, port2 } = new MessageChannel();
    const terminate = (): Promise<number> => {
      port1.close();
      return Promise.resolve(0);
    };
    const thread = new WorkerThread({ postMessage: port1.postMessage.bind(port1), terminate }, whole, listener);
    port1.on("message", (message: ThreadMessage) => thread.#hear(message));
    serveTasks(port2, whole, io);
    await thread.#ready.promise;
    return thread;
  }

  /** False once it is gone. */
  get alive(): boolean {
    return this.#dead === undefined;
  }

  /** Runs a task after those before it. Rejects with the task's own error, INTERRUPTED, or INTERNAL on its death. */
  async run<T extends WorkerTask>(task: T, signal: AbortSignal): Promise<AnswerTo<T>> {
    signal.throwIfAborted();
    if (this.#dead !== undefined) throw died(this.#dead);
    const id = this.#nextId;
    this.#nextId += 1;
    const done = deferred<WorkerAnswer>();
    this.#tasks.set(id, done);
    const cancel = (): void => this.#cancel(id);
    signal.addEventListener("abort", cancel, { once: true });
    try {
      this.#worker.postMessage({ id, task }, task.kind === "seal" ? [task.request.plain.buffer as ArrayBuffer] : []);
      const answer = await done.promise;
      if (!answers(answer, task)) throw new HoldfastError("INTERNAL", "a worker answered another question");
      return answer;
    } finally {
      signal.removeEventListener("abort", cancel);
      this.#tasks.delete(id);
    }
  }

  /** Ends the thread once the task under way was broken off; the staging folder's leftovers are cleared at the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    const jobs = [...this.jobs];
    this.jobs.clear(); // a second call has nothing left to do
    for (const job of jobs) void this.run({ kind: "abandon", job }, NEVER).catch(() => undefined);
    for (const id of [...this.#tasks.keys()]) {
      this.#cancel(id);
      await this.#tasks.get(id)?.promise.catch(() => undefined);
    }
    await this.#worker.terminate();
  }

  /** An offer of it was sealed, or cannot be. */
  endOffer(): void {
    Atomics.sub(this.#offered, 0, 1);
  }

  #cancel(id: number): void {
    Atomics.store(this.#cancelled, id % CANCEL_SLOTS, id);
  }

  #hear(message: ThreadMessage): void {
    if (message === READY) this.#ready.resolve(undefined);
    else if ("offer" in message) this.#listener.onOffer(this, message.offer);
    else this.#settle(message);
  }

  #settle(message: AnswerMessage): void {
    const done = this.#tasks.get(message.id);
    if ("error" in message) done?.reject(fromWire(message.error));
    else done?.resolve(message.answer);
  }

  #die(reason: string): void {
    if (this.#dead !== undefined) return;
    this.#dead = reason;
    this.#ready.resolve(undefined);
    for (const done of this.#tasks.values()) done.reject(died(reason));
    this.#listener.onDeath(this, reason);
  }
}

const NEVER = new AbortController().signal;

type ThreadMessage = AnswerMessage | OfferMessage | ReadyMessage;

/** With the numbers that this one thread shares with its pool. */
function withNumbers(birth: ThreadBirth): WorkerBirth {
  const numbers = (count: number): SharedArrayBuffer => new SharedArrayBuffer(count * Int32Array.BYTES_PER_ELEMENT);
  return { ...birth, cancelled: numbers(CANCEL_SLOTS), offered: numbers(1) };
}

function answers<T extends WorkerTask>(answer: WorkerAnswer, task: T): answer is AnswerTo<T> {
  return answer.kind === task.kind;
}

/** What fails with a thread. */
export function died(reason: string): HoldfastError {
  return new HoldfastError("INTERNAL", `a worker thread died: ${reason}`);
}
