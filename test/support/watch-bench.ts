/**
 * A monitor over real folders, with a small repository in memory behind its ports: what is told to be changed is read
 * and acknowledged as durable, as the commit queue does. Everything that was told is kept for the test to look at.
 */
import { createHash } from "node:crypto";
import { lstatSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Level } from "level";
import { type Clock, systemClock } from "../../src/base/clock.js";
import { errnoOf } from "../../src/base/errors.js";
import { EventBus, type EventCatalogue, type LossEvent } from "../../src/base/events.js";
import { type Logger, type Observer, silentObserver } from "../../src/base/observe.js";
import { type BytePath, pathBytes, pathText } from "../../src/base/paths.js";
import { kindOf, nodeFromStat } from "../../src/engine/metadata.js";
import type { ChunkId, DatedEntry, Entry, FileNode } from "../../src/engine/types.js";
import { Monitor } from "../../src/monitor/monitor.js";
import type { KnownVersions, MonitorTimes, SourceSettings, SourceWatch } from "../../src/monitor/ports.js";
import { monitorSublevel } from "../../src/monitor/registry.js";
import { FileSource, type FileSourceOptions } from "../../src/sources/files.js";
import { TempFolder } from "./temp-folder.js";

type Told = {
  [N in keyof EventCatalogue]: { readonly name: N; readonly event: EventCatalogue[N] };
}[keyof EventCatalogue];

const HEARD = [
  "file.changed",
  "file.removed",
  "file.missed",
  "file.lost",
  "file.returned",
  "mass.loss",
  "watch.degraded",
  "watch.restored",
  "root.gone",
  "root.returned",
] as const;

/** The repository of the bench: the newest content of each path. */
export class MemoryRepository implements KnownVersions {
  readonly entries = new Map<string, Entry>();
  readonly #contents = new Map<string, Buffer>();
  readonly #seqs = new Map<string, number>();
  readonly #removed = new Set<string>();
  /** Number of the last commit. */
  seq = 0;
  generation = "first";

  currentEntries(source: string): AsyncIterable<DatedEntry> {
    const entries = [...this.entries.values()]
      .filter((entry) => entry.source === source)
      .map((entry) => ({ ...entry, timeMs: 0 }));
    entries.sort((left, right) => (left.path < right.path ? -1 : 1));
    return (async function* () {
      await Promise.resolve();
      yield* entries;
    })();
  }

  lastChange(): number {
    return this.seq;
  }

  async *entriesAfter(source: string, seq: number): AsyncIterable<DatedEntry> {
    for await (const entry of this.currentEntries(source))
      if ((this.#seqs.get(`${source}\0${entry.path}`) ?? 0) > seq) yield entry;
  }

  async isRemoved(source: string, path: BytePath): Promise<boolean> {
    return await Promise.resolve(this.#removed.has(`${source}\0${path}`));
  }

  remove(source: string, path: BytePath): void {
    this.seq += 1;
    this.entries.delete(`${source}\0${path}`);
    this.#removed.add(`${source}\0${path}`);
  }

  current(path: BytePath, source?: string): Entry | undefined {
    if (source !== undefined) return this.entries.get(`${source}\0${path}`);
    return [...this.entries.values()].find((entry) => entry.path === path);
  }

  /** Paths of a source whose newest version is known. */
  paths(source: string): readonly BytePath[] {
    return [...this.entries.values()].flatMap((entry) => (entry.source === source ? [entry.path] : []));
  }

  async *readContent(node: FileNode): AsyncIterable<Uint8Array> {
    await Promise.resolve();
    yield this.#contents.get(node.sha256 ?? "") ?? Buffer.alloc(0);
  }

  /** Puts the repository back to what it was, as a store is whose disk is rolled back: the index is made again. */
  keep(): () => void {
    const [entries, seqs, removed, seq] = [[...this.entries], [...this.#seqs], [...this.#removed], this.seq];
    return () => {
      this.entries.clear();
      for (const [key, entry] of entries) this.entries.set(key, entry);
      this.#seqs.clear();
      for (const [key, number] of seqs) this.#seqs.set(key, number);
      this.#removed.clear();
      for (const key of removed) this.#removed.add(key);
      this.seq = seq;
      this.generation += " again";
    };
  }

  /** Stores what is at the path now; undefined when nothing is. */
  store(source: string, path: BytePath): Entry | undefined {
    const stats = lstatSync(pathBytes(path), { bigint: true, throwIfNoEntry: false });
    if (stats === undefined || kindOf(stats) === undefined) return undefined;
    let content: Partial<FileNode>;
    try {
      content = this.#contentOf(path, stats.isFile());
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined; // gone between the look and the reading
      throw error;
    }
    const entry: Entry = { source, path, node: { ...nodeFromStat(stats), ...content } };
    this.seq += 1;
    this.entries.set(`${source}\0${path}`, entry);
    this.#seqs.set(`${source}\0${path}`, this.seq);
    this.#removed.delete(`${source}\0${path}`);
    return entry;
  }

  /** Gives the newest version of a path another number. */
  rewind(source: string, path: BytePath, seq: number): void {
    this.#seqs.set(`${source}\0${path}`, seq);
  }

  #contentOf(path: BytePath, isFile: boolean): Partial<FileNode> {
    if (!isFile) {
      const isLink = lstatSync(pathBytes(path)).isSymbolicLink();
      return isLink ? { linkTarget: readlinkSync(pathBytes(path), "latin1") } : {};
    }
    const content = readFileSync(pathBytes(path));
    const sha256 = createHash("sha256").update(content).digest("hex");
    const gitBlobId = createHash("sha1")
      .update(`blob ${String(content.length)}\0`)
      .update(content)
      .digest("hex");
    this.#contents.set(sha256, content);
    return { sha256, gitBlobId, chunks: [{ id: sha256 as ChunkId, lengthBytes: content.length }] };
  }
}

export interface BenchOptions {
  readonly clock?: Clock;
  readonly times?: Partial<MonitorTimes>;
  readonly nativeEvents?: boolean;
  /** True: who did it is asked, which only root can. */
  readonly actors?: boolean;
  /** True: who attacks is stopped. */
  readonly stopAttacker?: boolean;
  /** False: nothing is acknowledged as durable by itself. */
  readonly commits?: boolean;
  readonly logger?: Logger;
}

export class WatchBench implements AsyncDisposable {
  readonly folder: TempFolder;
  readonly state: TempFolder;
  readonly repository = new MemoryRepository();
  readonly told: Told[] = [];
  readonly bus = new EventBus((name, error) => this.faults.push(`${name}: ${String(error)}`));
  readonly faults: string[] = [];
  /** Names of what was logged as a warning. */
  readonly warnings: string[] = [];
  readonly signal = new AbortController();
  monitor!: Monitor;
  readonly #options: BenchOptions;
  #database: Level | undefined;

  private constructor(folder: TempFolder, state: TempFolder, options: BenchOptions) {
    this.folder = folder;
    this.state = state;
    this.#options = options;
    for (const name of HEARD) this.bus.on(name, (event) => void this.told.push({ name, event } as Told));
    if (options.commits !== false) {
      this.bus.on("file.changed", ({ source, path }) => void setImmediate(() => this.commit(source, path)));
      this.bus.on("file.removed", ({ source, path }) => void setImmediate(() => this.commitRemoval(source, path)));
    }
  }

  static async create(options: BenchOptions = {}): Promise<WatchBench> {
    const bench = new WatchBench(await TempFolder.create("watched"), await TempFolder.create("state"), options);
    await bench.open();
    return bench;
  }

  /** Opens the monitor over the state folder, as a daemon does at its start. */
  async open(): Promise<void> {
    this.#database = new Level(this.state.at("index"));
    const observer: Observer = {
      ...silentObserver,
      log: this.#options.logger ?? complainingLog(this.faults, this.warnings),
    };
    this.monitor = await Monitor.open({
      clock: this.#options.clock ?? systemClock,
      observer,
      bus: this.bus,
      store: monitorSublevel(this.#database),
      known: this.repository,
      stateDir: this.state.path,
      ...(this.#options.times === undefined ? {} : { times: this.#options.times }),
      actors: this.#options.actors ?? false,
      stopAttacker: this.#options.stopAttacker ?? false,
      ...(this.#options.nativeEvents === undefined ? {} : { nativeEvents: this.#options.nativeEvents }),
    });
  }

  /** Closes the monitor, as a daemon does at its end; the state stays. */
  async close(): Promise<void> {
    await this.monitor[Symbol.asyncDispose]();
    await this.#database?.close();
    this.#database = undefined;
  }

  /** Protects the folder (or other paths in it) and waits until everything that was there is durable. */
  async protect(settings: SourceSettings = {}, options: Partial<FileSourceOptions> = {}): Promise<SourceWatch> {
    const source = new FileSource({
      name: "data",
      paths: [this.folder.bytes()],
      ownFolders: [this.state.bytes()],
      ...options,
    });
    await this.monitor.addSource(source, settings, this.signal.signal);
    return source;
  }

  /** Acknowledges a path as durable, as it is now. */
  commit(source: string, path: BytePath): void {
    const readFromMs = (this.#options.clock ?? systemClock).nowMs();
    const entry = this.repository.store(source, path);
    this.monitor.recordDurable(source, {
      seq: this.repository.seq,
      timeMs: readFromMs,
      readFromMs,
      stored: entry === undefined ? [] : [entry],
      unchanged: [],
      removed: [],
      unreadable: [],
      vanished: entry === undefined ? [path] : [],
    });
  }

  commitRemoval(source: string, path: BytePath): void {
    this.repository.remove(source, path);
    this.monitor.recordDurable(source, {
      seq: this.repository.seq,
      timeMs: 0,
      readFromMs: 0,
      stored: [],
      unchanged: [],
      removed: [path],
      unreadable: [],
      vanished: [],
    });
  }

  /** Waits on the real clock until `isDone` holds; throws after `limitMs`. */
  async until(what: string, isDone: () => boolean, limitMs = 20_000): Promise<void> {
    for (let waitedMs = 0; !isDone(); waitedMs += 20) {
      if (waitedMs > limitMs) throw new Error(`${what}: not within ${String(limitMs)} ms; told: ${this.summary()}`);
      await delay(20);
    }
  }

  /** Waits until nothing is pending and this stays so for a while. */
  async quiet(forMs = 400, limitMs = 30_000): Promise<void> {
    let quietMs = 0;
    for (let waitedMs = 0; quietMs < forMs; waitedMs += 20) {
      if (waitedMs > limitMs) throw new Error(`not quiet within ${String(limitMs)} ms; told: ${this.summary()}`);
      const pending = this.monitor.status().reduce((sum, status) => sum + status.pending, 0);
      quietMs = pending === 0 ? quietMs + 20 : 0;
      await delay(20);
    }
  }

  /** Live files in the registry of the source, as paths below the folder. */
  async live(source = "data"): Promise<readonly string[]> {
    const names: string[] = [];
    for await (const page of this.monitor.registry.entries(source)) {
      for (const { path, record } of page)
        if (record.state === "live" && record.kind !== "folder")
          names.push(pathText(path).slice(this.folder.path.length + 1));
    }
    return names;
  }

  events<N extends keyof EventCatalogue>(name: N): EventCatalogue[N][] {
    return this.told.filter((one) => one.name === name).map((one) => one.event as EventCatalogue[N]);
  }

  /** Paths of an event below the folder. */
  paths(name: "file.changed" | "file.removed" | "file.missed" | "file.lost" | "file.returned"): readonly string[] {
    return this.events(name).map(({ path }) => pathText(path).slice(this.folder.path.length + 1));
  }

  get losses(): readonly LossEvent[] {
    return this.events("file.lost");
  }

  /** Forgets what was told so far. */
  clear(): void {
    this.told.length = 0;
  }

  summary(): string {
    const counts = new Map<string, number>();
    for (const { name } of this.told) counts.set(name, (counts.get(name) ?? 0) + 1);
    const pending = JSON.stringify(this.monitor.status());
    return `${JSON.stringify(Object.fromEntries(counts))} ${pending} ${this.faults.slice(0, 3).join("; ")}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.signal.abort();
    if (this.#database !== undefined) await this.close();
    await this.folder[Symbol.asyncDispose]();
    await this.state[Symbol.asyncDispose]();
  }
}

/** Errors that are logged are faults of the test's subject. */
function complainingLog(faults: string[], warnings: string[]): Logger {
  return {
    ...silentObserver.log,
    warn: (event) => void warnings.push(event),
    error: (event, fields) => void faults.push(`${event} ${JSON.stringify(fields)}`),
  };
}
