/**
 * Worker thread that reads fanotify's events and answers who did what. It only listens: nothing waits for it, and when
 * it cannot run the watcher hears as before. It sleeps in `poll` until the kernel or the daemon (by its bell) has
 * something; the limit on the sleep lets the thread end with its process.
 */
import { closeSync, openSync, readSync, readlinkSync } from "node:fs";
import { setPriority } from "node:os";
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { systemClock } from "../../base/clock.js";
import { errnoOf, messageOf } from "../../base/errors.js";
import { type FanotifyCalls, fanotifyCalls } from "../../base/native-fanotify.js";
import { type BytePath, pathBytes } from "../../base/paths.js";
import type { ActorOrder, ActorReport } from "./actor-protocol.js";
import { DeedBook } from "./deeds.js";
import { FAN, type FanPlace, parseFanEvents } from "./fan-events.js";
import { Forks } from "./forks.js";
import { PROGRAM_FOLDERS, ProcessBook } from "./processes.js";

const MASK = FAN.closeWrite | FAN.delete | FAN.rename | FAN.openExec | FAN.onFolder;
const READ_BYTES = 2 ** 18;
/** While forks are told: they are read before the kernel's room for them runs out. */
const SLEEP_BUSY_MS = 250;
/** While none are: to look and find nothing costs a sixteenth of a percent of a core at four times a second. */
const SLEEP_QUIET_MS = 1000;
/** Before ordinary work: it sleeps, and when it wakes somebody's process may be about to end. */
const PRIORITY = -15;
const PROGRAM_FOLDERS_MAX = 1000;
/** Reads before orders get a turn. */
const READS_MAX = 16;

class Listener {
  readonly #calls: FanotifyCalls;
  readonly #group: number;
  readonly #bell: number;
  readonly #processes = new ProcessBook(() => systemClock.monotonicMs());
  readonly #forks = new Forks();
  readonly #deeds: DeedBook;
  /** A watched folder on each marked file system, by its id. Never held open: that would keep it from being unmounted. */
  readonly #mounts = new Map<string, BytePath>();
  /** The same of the folders of programs: a path is told as it is seen through the mount that is asked. */
  readonly #programMounts = new Map<string, BytePath>();
  readonly #roots = new Map<number, BytePath>();
  #hearsStarts = false;
  readonly #programFolders = new Map<string, BytePath>();
  readonly #buffer = Buffer.alloc(READ_BYTES);

  constructor(calls: FanotifyCalls, bell: number) {
    this.#calls = calls;
    this.#bell = bell;
    this.#processes.warmUp();
    this.#group = calls.openGroup();
    const ports = {
      pathOf: (place: FanPlace) => this.#pathOf(place, this.#mounts),
      actorOf: (pid: number) => this.#processes.of(pid),
      monotonicMs: () => systemClock.monotonicMs(),
      nowMs: () => systemClock.nowMs(),
    };
    this.#deeds = new DeedBook(ports, process.pid);
  }

  /** Works until it is told to end. */
  run(): void {
    try {
      let hadForks = false;
      for (let isWanted = true; isWanted; isWanted = this.#obeyAll()) {
        const sleepMs = hadForks ? SLEEP_BUSY_MS : SLEEP_QUIET_MS;
        const [hasEvents, hasOrders] = this.#calls.waitReadable([this.#group, this.#bell], sleepMs);
        hadForks = this.#readForks() > 0; // now and then, so that none are dropped
        if (hasEvents === true) this.#read();
        if (hasOrders === true) readSync(this.#bell, Buffer.alloc(8));
      }
    } finally {
      closeSync(this.#group);
      this.#forks[Symbol.dispose]();
    }
  }

  #readForks(): number {
    return this.#forks.read((fork) => this.#processes.forked(fork));
  }

  /** False: the end was ordered. */
  #obeyAll(): boolean {
    if (parentPort === null) return false;
    for (let next = receiveMessageOnPort(parentPort); next !== undefined; next = receiveMessageOnPort(parentPort)) {
      const order = next.message as ActorOrder;
      if (order.type === "end") return false;
      if (order.type === "watch") this.#watch(order.id, order.root);
      else if (order.type === "unwatch") this.#unwatch(order.id);
      else {
        this.#read(); // what the kernel still holds may be the answer
        tell({ type: "answer", id: order.id, actors: order.paths.map((path) => this.#deeds.whoDid(order.kind, path)) });
      }
    }
    return true;
  }

  #watch(id: number, root: BytePath): void {
    try {
      this.#listenTo(root, MASK, this.#mounts);
      this.#roots.set(id, root);
      this.#deeds.watchOnly([...this.#roots.values()]);
      this.#hearStarts();
      tell({ type: "listening", id });
    } catch (error) {
      tell({ type: "unheard", reason: messageOf(error) });
    }
  }

  #listenTo(folder: BytePath, mask: bigint, mounts: Map<string, BytePath>): void {
    const fd = openSync(pathBytes(folder), "r");
    try {
      this.#calls.markFileSystem(this.#group, mask, pathBytes(folder));
      mounts.set(this.#calls.fileSystemId(fd), folder);
    } finally {
      closeSync(fd);
    }
  }

  /** Files are often on another file system than the programs that work on them, which are known from their start only. */
  #hearStarts(): void {
    if (this.#hearsStarts) return;
    this.#hearsStarts = true;
    for (const folder of PROGRAM_FOLDERS) {
      try {
        this.#listenTo(folder as BytePath, FAN.openExec, this.#programMounts);
      } catch {
        // Not there, or a file system that cannot tell: what runs for longer than its deed takes is known all the same.
      }
    }
  }

  #unwatch(id: number): void {
    this.#roots.delete(id);
    this.#deeds.watchOnly([...this.#roots.values()]);
  }

  #read(): void {
    for (let count = 0; count < READS_MAX; count += 1) {
      const length = this.#readOnce();
      if (length === 0) return;
      const events = parseFanEvents(this.#buffer.subarray(0, length));
      this.#readForks(); // who does anything was begun before
      for (const { mask, pid } of events) if ((mask & FAN.openExec) !== 0n) this.#processes.glimpse(pid);
      for (const event of events) {
        if ((event.mask & FAN.openExec) !== 0n && event.place !== undefined)
          this.#processes.started(event.pid, event.place.name, this.#programFolder(event.place));
        if ((event.mask & ~(FAN.openExec | FAN.onFolder | FAN.overflow)) !== 0n) this.#deeds.take(event);
      }
      this.#processes.closeEyes();
    }
  }

  #readOnce(): number {
    try {
      return readSync(this.#group, this.#buffer, 0, READ_BYTES, null);
    } catch (error) {
      if (errnoOf(error) === "EAGAIN") return 0;
      throw error;
    }
  }

  /** There are few folders with programs: their paths are remembered. */
  #programFolder(place: FanPlace): BytePath | undefined {
    const key = place.fileSystem + place.folder.toString("latin1");
    let folder = this.#programFolders.get(key);
    if (folder === undefined) {
      folder = this.#pathOf(place, this.#programMounts) ?? this.#pathOf(place, this.#mounts);
      if (this.#programFolders.size >= PROGRAM_FOLDERS_MAX) this.#programFolders.clear();
      if (folder !== undefined) this.#programFolders.set(key, folder);
    }
    return folder;
  }

  #pathOf(place: FanPlace, mounts: ReadonlyMap<string, BytePath>): BytePath | undefined {
    const mount = mounts.get(place.fileSystem);
    if (mount === undefined) return undefined;
    let root: number | undefined;
    let fd: number | undefined;
    try {
      root = openSync(pathBytes(mount), "r");
      fd = this.#calls.openByHandle(root, place.folder);
      const path = readlinkSync(`/proc/self/fd/${String(fd)}`, "latin1");
      return path.endsWith(" (deleted)") ? undefined : (path as BytePath);
    } catch {
      return undefined; // gone meanwhile
    } finally {
      for (const open of [fd, root]) if (open !== undefined) closeSync(open);
    }
  }
}

function tell(report: ActorReport): void {
  parentPort?.postMessage(report);
}

/** Of this thread alone. A program that ends before its start is read is known by its name only. */
function hurry(): void {
  try {
    setPriority(PRIORITY);
  } catch {
    // not allowed: then it is later now and then
  }
}

function main(): void {
  const calls = fanotifyCalls();
  if (calls === undefined) {
    tell({ type: "deaf", reason: "the package koffi is not installed" });
    return;
  }
  hurry();
  try {
    new Listener(calls, (workerData as { readonly bell: number }).bell).run();
  } catch (error) {
    tell({ type: "deaf", reason: messageOf(error) });
  }
}

main();
