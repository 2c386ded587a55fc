/**
 * Ears on the file system: one forked child (inotify) for all roots. Events are hints only; what
 * matters here is to know when they cannot be trusted. A pulse (a file of ours, touched again and again and watched by the
 * same child) proves that the child and its queue are alive; a late pulse, a dropped batch, an error or an exit is
 * told to the listeners, who then look for themselves.
 */
import { type ChildProcess, fork } from "node:child_process";
import { closeSync, mkdirSync, openSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Clock, Timer } from "../../base/clock.js";
import { messageOf } from "../../base/errors.js";
import { keepDescriptorsFromChildren } from "../../base/inheritance.js";
import type { Logger } from "../../base/observe.js";
import { type BytePath, isPlain, isTextPath, parentPath, pathFromText, pathText } from "../../base/paths.js";
import { type EventCounts, MESSAGE_PATHS_MAX, PULSE_ID, type WatchOrder, type WatchReport } from "./protocol.js";

/** What was heard; each path is to be looked at. */
export interface HeardChanges {
  readonly paths: readonly BytePath[];
  /** Folders in which something with a name that is not UTF-8 changed; the names arrive mangled. */
  readonly unnamed: readonly BytePath[];
  readonly counts: EventCounts;
  /** When, wall ms. */
  readonly heardAtMs: number;
}

export interface WatchListener {
  changed(heard: HeardChanges): void;
  /** From now on everything is heard; what happened before may not have been. */
  armed(): void;
  /** Events may be lost from now on, or have been. `isOver` tells that it is a loss in the past and ears are fine. */
  deaf(reason: string, isOver: boolean): void;
  /** The watched folder itself was moved or removed: nothing directly in it is heard until it is watched anew. */
  uprooted(): void;
}

export interface WatchHandle {
  /** Subscribes anew beside the old subscription, for new folders (undefined: wherever they are); `armed` follows. */
  rewatch(folders?: readonly BytePath[]): void;
  close(): void;
}

export interface NativeWatcherOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** A folder of holdfast's own on a file system with events; made when missing. */
  readonly pulseFolder: string;
}

interface Watched {
  readonly root: BytePath;
  readonly shallow: boolean;
  readonly listener: WatchListener;
}

/** For glibc in the child: one arena, and what is freed goes back. It holds one large tree and is never in a hurry. */
const SMALL_MEMORY = { MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072", MALLOC_MMAP_THRESHOLD_: "131072" };
/** A watcher that went deaf is shown to be within 3 s: the next pulse, and that it is late. */
const PULSE_EVERY_MS = 1400;
/** A pulse not heard for this long means that other events are late or lost too. */
const PULSE_LATE_MS = 1500;
/** A child that has not been heard for this long is replaced. */
const PULSE_DEAD_MS = 30_000;
const RESTART_MIN_MS = 100;
const RESTART_MAX_MS = 30_000;
/** A fence that was not reached by then stands behind too much, ms. */
const FENCE_MAX_MS = 1000;
/** What stands in text for bytes that are no UTF-8. */
const MANGLED = "\uFFFD";

export class NativeWatcher implements AsyncDisposable {
  readonly #options: NativeWatcherOptions;
  readonly #watched = new Map<number, Watched>();
  readonly #timers: Timer[] = [];
  #restartTimer: Timer | undefined;
  #child: ChildProcess | undefined;
  #nextId = PULSE_ID + 1;
  #restartMs = RESTART_MIN_MS;
  #closed = false;
  /** Set from a pulse until it is heard: what happens when it is not. */
  #unheard: Timer | undefined;
  #isPulseArmed = false;
  #isLate = false;
  #nextFence = 1;
  /** Floods are counted on from one child to the next, whose beginning counts as one: no number comes twice. */
  #floodsBefore = 0;
  #floodsTold = 0;
  readonly #fences = new Map<number, (floods: number | undefined) => void>();

  constructor(options: NativeWatcherOptions) {
    this.#options = options;
    mkdirSync(options.pulseFolder, { recursive: true, mode: 0o700 });
    this.#start();
    this.#timers.push(options.clock.every(PULSE_EVERY_MS, () => this.#pulse()));
  }

  /** Watches a folder; the listener hears `armed` when it stands. */
  watch(root: BytePath, shallow: boolean, listener: WatchListener): WatchHandle {
    const id = this.#nextId++;
    this.#watched.set(id, { root, shallow, listener });
    this.#order({ type: "watch", id, root: pathText(root), shallow });
    return {
      rewatch: (folders) => {
        const names = folders?.map((folder) => pathText(folder));
        const isTold = names !== undefined && names.length <= MESSAGE_PATHS_MAX && !names.some(isMangled);
        this.#order(isTold ? { type: "rewatch", id, folders: names } : { type: "rewatch", id });
      },
      close: () => {
        if (this.#watched.delete(id)) this.#order({ type: "unwatch", id });
      },
    };
  }

  /**
   * Resolves when the listeners were told everything that happened before the call, but for what the kernel may have
   * dropped in floods of events: gives how many of those there were. Undefined: that cannot be said.
   */
  async fence(): Promise<number | undefined> {
    if (this.#child === undefined || !this.#isPulseArmed || this.#isLate || this.#closed) return undefined;
    const fence = this.#nextFence++;
    return await new Promise<number | undefined>((resolve) => {
      const limit = this.#options.clock.after(FENCE_MAX_MS, () => this.#reach(fence, undefined));
      this.#fences.set(fence, (floods) => {
        limit.cancel();
        resolve(this.#isLate ? undefined : floods);
      });
      this.#order({ type: "fence", fence, folder: this.#options.pulseFolder });
    });
  }

  #reach(fence: number, floods: number | undefined): void {
    const reached = this.#fences.get(fence);
    this.#fences.delete(fence);
    reached?.(floods);
  }

  /** Process id of the child, for status and tests; undefined while it restarts. */
  get childPid(): number | undefined {
    return this.#child?.pid;
  }

  /** Ends the child and waits for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const timer of this.#timers) timer.cancel();
    this.#forgetPulse();
    this.#restartTimer?.cancel();
    this.#watched.clear();
    for (const fence of [...this.#fences.keys()]) this.#reach(fence, undefined);
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.kill("SIGKILL");
    });
  }

  #start(): void {
    keepDescriptorsFromChildren();
    const child = fork(fileURLToPath(new URL("./child.js", import.meta.url)), [], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      execArgv: ["--max-semi-space-size=2"],
      env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", ...nativeChoice(), ...SMALL_MEMORY },
    });
    this.#child = child;
    this.#isPulseArmed = false;
    this.#forgetPulse();
    this.#isLate = false;
    this.#floodsBefore = this.#floodsTold + 1;
    child.on("message", (report) => this.#hear(report as WatchReport));
    child.on("error", (error) => this.#options.log.warn("watch.child_error", { message: error.message }));
    child.once("exit", (code, signal) => this.#ended(child, code, signal));
    this.#order({ type: "watch", id: PULSE_ID, root: this.#options.pulseFolder, shallow: true });
    for (const [id, { root, shallow }] of this.#watched)
      this.#order({ type: "watch", id, root: pathText(root), shallow });
  }

  #ended(child: ChildProcess, code: number | null, signal: string | null): void {
    if (this.#child === child) this.#child = undefined;
    for (const fence of [...this.#fences.keys()]) this.#reach(fence, undefined);
    if (this.#closed) return;
    const waitMs = this.#restartMs;
    this.#restartMs = Math.min(RESTART_MAX_MS, waitMs * 2);
    this.#options.log.warn("watch.child_ended", { code, signal, restart_ms: waitMs });
    this.#tellAll(`the watcher process ended (${signal ?? String(code)})`, false);
    this.#restartTimer = this.#options.clock.after(waitMs, () => {
      if (!this.#closed && this.#child === undefined) this.#start();
    });
  }

  #order(order: WatchOrder): void {
    this.#child?.send(order, (error) => {
      if (error !== null) this.#options.log.debug("watch.order_failed", { message: messageOf(error) });
    });
  }

  #hear(report: WatchReport): void {
    if (this.#closed) return;
    if (report.type === "fenced") {
      this.#reach(report.fence, this.#floodsOf(report.floods));
      return;
    }
    if (report.id === PULSE_ID) {
      this.#hearPulse(report);
      return;
    }
    const watched = this.#watched.get(report.id);
    if (watched === undefined) return;
    switch (report.type) {
      case "armed":
        watched.listener.armed();
        return;
      case "failed":
        watched.listener.deaf(report.message, false);
        return;
      case "overflow":
        watched.listener.deaf(report.reason, true);
        return;
      case "uprooted":
        watched.listener.uprooted();
        return;
      case "events":
        watched.listener.changed({ ...heardPaths(report.paths), counts: report.counts, heardAtMs: report.heardAtMs });
        return;
    }
  }

  #floodsOf(ofChild: number | undefined): number | undefined {
    if (ofChild === undefined) return undefined;
    this.#floodsTold = this.#floodsBefore + ofChild;
    return this.#floodsTold;
  }

  #hearPulse(report: WatchReport): void {
    if (report.type === "armed") {
      this.#isPulseArmed = true;
      return;
    }
    // Dropped with others in a flood, it says as much: whoever tells of that is alive.
    if (report.type !== "events" && report.type !== "overflow") return;
    this.#forgetPulse();
    this.#restartMs = RESTART_MIN_MS;
    if (!this.#isLate) return;
    this.#isLate = false;
    this.#tellAll("the watcher was late", true);
  }

  #pulse(): void {
    if (!this.#isPulseArmed || this.#unheard !== undefined) return;
    try {
      touch(join(this.#options.pulseFolder, "pulse"), this.#options.clock.nowMs());
      this.#unheard = this.#options.clock.after(PULSE_LATE_MS, () => this.#missPulse());
    } catch (error) {
      this.#options.log.warn("watch.pulse_failed", { message: messageOf(error) });
    }
  }

  #missPulse(): void {
    this.#isLate = true;
    this.#tellAll("the watcher is late", false);
    this.#unheard = this.#options.clock.after(PULSE_DEAD_MS - PULSE_LATE_MS, () => {
      this.#forgetPulse();
      this.#child?.kill("SIGKILL");
    });
  }

  #forgetPulse(): void {
    this.#unheard?.cancel();
    this.#unheard = undefined;
  }

  #tellAll(reason: string, isOver: boolean): void {
    for (const { listener } of [...this.#watched.values()]) listener.deaf(reason, isOver);
  }
}

/** What was chosen for this process holds for the child too. */
function nativeChoice(): NodeJS.ProcessEnv {
  const value = process.env["HOLDFAST_NO_NATIVE"];
  return value === undefined ? {} : { HOLDFAST_NO_NATIVE: value };
}

/** Byte paths of a report; for a name that is no UTF-8 its nearest sound folder stands. */
function heardPaths(texts: readonly string[]): Pick<HeardChanges, "paths" | "unnamed"> {
  const paths: BytePath[] = [];
  const unnamed = new Set<BytePath>();
  for (const text of texts) {
    if (text.startsWith("/") && isPlain(text)) {
      paths.push(text as BytePath); // as the ears give it: absolute, and nothing in it to be resolved
      continue;
    }
    const path = pathFromText(text);
    if (isMangled(text)) unnamed.add(soundFolder(path));
    else paths.push(path);
  }
  return { paths, unnamed: [...unnamed] };
}

function soundFolder(path: BytePath): BytePath {
  let folder = path;
  while (folder !== "/" && isMangled(pathText(folder))) folder = parentPath(folder);
  return folder;
}

/** True when the native watcher can be given this root at all: its name must be text. */
export function canHear(root: BytePath): boolean {
  return isTextPath(root);
}

/** Makes an event without writing data. */
function touch(path: string, nowMs: number): void {
  closeSync(openSync(path, "a", 0o600));
  utimesSync(path, nowMs / 1000, nowMs / 1000);
}

function isMangled(text: string): boolean {
  return text.includes(MANGLED);
}
