/**
 * Who changed or removed a file: asks a thread that listens to fanotify. Only who holds CAP_SYS_ADMIN may listen, and only
 * some kernels and file systems can; where it does not work that is said once, answers are "unknown", and nothing else changes: what
 * happened is heard by the watcher, never through this.
 */
import { closeSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { holdsCapability } from "../../base/capabilities.js";
import type { Clock } from "../../base/clock.js";
import { deferred } from "../../base/concurrency.js";
import { messageOf } from "../../base/errors.js";
import type { Actor } from "../../base/events.js";
import { fanotifyCalls } from "../../base/native-fanotify.js";
import type { Logger } from "../../base/observe.js";
import type { BytePath } from "../../base/paths.js";
import type { ActorOrder, ActorReport } from "./actor-protocol.js";
import type { DeedKind } from "./deeds.js";

export interface ActorsOptions {
  readonly clock: Clock;
  readonly log: Logger;
}

/** An answer that takes longer is not waited for, ms. */
const ANSWER_MAX_MS = 500;
/** An ended thread is waited for so long, then it is terminated, and waited for as long once more, ms. */
const END_MAX_MS = 2000;
/** Paths of one question; of a mass loss the first tell enough. */
const PATHS_MAX = 2000;
const HEAP_MIB_MAX = 64;

interface Question {
  answer(actors: readonly (Actor | undefined)[]): void;
}

export class Actors implements AsyncDisposable {
  readonly #options: ActorsOptions;
  readonly #questions = new Map<number, Question>();
  readonly #listening = new Set<number>();
  #worker: Worker | undefined;
  #bell: number | undefined;
  #ended: Promise<void> = Promise.resolve();
  #nextId = 1;
  #isDeaf = false;
  #isSaid = false;

  constructor(options: ActorsOptions) {
    this.#options = options;
  }

  /** Listens to what happens below a folder; gives the way to stop. */
  watch(root: BytePath): () => void {
    const id = this.#nextId++;
    this.#start();
    this.#order({ type: "watch", id, root });
    return () => {
      this.#listening.delete(id);
      this.#order({ type: "unwatch", id });
    };
  }

  /** True when the thread listens to all that it was asked to. For status and tests. */
  get isListening(): boolean {
    return this.#listening.size > 0 && !this.#isDeaf;
  }

  /** Who did this to each path; undefined where nobody was seen, as for all when nothing is heard. */
  async whoDid(kind: DeedKind, paths: readonly BytePath[]): Promise<readonly (Actor | undefined)[]> {
    if (!this.isListening || paths.length === 0) return [];
    const id = this.#nextId++;
    const answered = deferred<readonly (Actor | undefined)[]>();
    this.#questions.set(id, { answer: (actors) => answered.resolve(actors) });
    const limit = this.#options.clock.after(ANSWER_MAX_MS, () => answered.resolve([]));
    this.#order({ type: "ask", id, kind, paths: paths.slice(0, PATHS_MAX) });
    const actors = await answered.promise;
    limit.cancel();
    this.#questions.delete(id);
    return actors;
  }

  /** Ends the thread and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#worker?.ref(); // its end is waited for, though nothing else keeps the process
    this.#order({ type: "end" });
    // A thread that hangs in a call of the system (a disk that does not answer) must not keep the daemon from ending.
    const { clock } = this.#options;
    const waited = deferred<undefined>();
    const timers = [
      clock.after(END_MAX_MS, () => void this.#worker?.terminate()),
      clock.after(2 * END_MAX_MS, () => waited.resolve(undefined)),
    ];
    await Promise.race([this.#ended, waited.promise]);
    for (const timer of timers) timer.cancel();
    if (this.#worker !== undefined) return; // its bell stays open: the thread may still look at it
    if (this.#bell !== undefined) closeSync(this.#bell);
    this.#bell = undefined;
  }

  #start(): void {
    if (this.#worker !== undefined || this.#isDeaf) return;
    if (!holdsCapability("CAP_SYS_ADMIN")) {
      this.#deaf("only root, or who holds CAP_SYS_ADMIN, may ask the system for it");
      return;
    }
    try {
      this.#bell = fanotifyCalls()?.openBell();
    } catch (error) {
      this.#deaf(messageOf(error));
      return;
    }
    if (this.#bell === undefined) {
      this.#deaf("the package koffi is not installed");
      return;
    }
    const worker = new Worker(new URL("./actor-worker.js", import.meta.url), {
      workerData: { bell: this.#bell },
      trackUnmanagedFds: false, // it closes what it opened, by other calls than Node's own too
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX, maxYoungGenerationSizeMb: 4 },
    });
    this.#worker = worker;
    worker.unref();
    worker.on("message", (report: ActorReport) => this.#hear(report));
    worker.on("error", (error) => this.#deaf(messageOf(error)));
    this.#ended = new Promise((resolve) => {
      worker.once("exit", () => {
        this.#worker = undefined;
        resolve();
      });
    });
  }

  #order(order: ActorOrder): void {
    if (this.#worker === undefined || this.#bell === undefined) return;
    this.#worker.postMessage(order);
    writeSync(this.#bell, ONE);
  }

  #hear(report: ActorReport): void {
    if (report.type === "listening") this.#listening.add(report.id);
    else if (report.type === "answer") this.#questions.get(report.id)?.answer(report.actors);
    else if (report.type === "unheard") this.#say(report.reason);
    else this.#deaf(report.reason);
  }

  /** Said once; whoever waits for an answer gets none. */
  #deaf(reason: string): void {
    for (const question of this.#questions.values()) question.answer([]);
    this.#isDeaf = true;
    this.#say(reason);
  }

  #say(reason: string): void {
    if (this.#isSaid) return;
    this.#isSaid = true;
    this.#options.log.info("watch.actors_unknown", { reason });
  }
}

/** What rings the bell: a count of one. */
const ONE = Buffer.from(new BigUint64Array([1n]).buffer);

/** What happened, and by whom when that is known; for people. */
export function withActor(detail: string, actor: Actor | undefined): string {
  return actor === undefined ? detail : `${detail}, ${actorText(actor)}`;
}

/** `by rm (process 12, user root, logged in as alice)`, for people; `probably by ...` of one who was not seen to do it. */
function actorText(actor: Actor): string {
  const { pid, program, user, loginUser, isGuess } = actor;
  const login = loginUser === undefined || loginUser === user ? [] : [`logged in as ${loginUser}`];
  const about = [`process ${String(pid)}`, ...(user === undefined ? [] : [`user ${user}`]), ...login];
  return `${isGuess === true ? "probably " : ""}by ${program === "" ? "a program that ended" : program} (${about.join(", ")})`;
}
