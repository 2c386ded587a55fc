/**
 * What healing tests run on: versions in memory with real bytes, a monitor that notes what it is told and checks JSON,
 * incidents in a real LevelDB, real files in a temporary folder.
 */
import { createHash } from "node:crypto";
import { closeSync, lstatSync, openSync, readFileSync, readlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { Level } from "level";
import { type Clock, systemClock } from "../../src/base/clock.js";
import { EventBus, type EventCatalogue, type EventName } from "../../src/base/events.js";
import { silentObserver } from "../../src/base/observe.js";
import { type BytePath, nameOf, pathBytes, pathFromText } from "../../src/base/paths.js";
import { nodeFromStat } from "../../src/engine/metadata.js";
import type { FileNode, Version } from "../../src/engine/types.js";
import { recoveryStrategies } from "../../src/daemon/plugins.js";
import { Healer } from "../../src/recovery/healer.js";
import type { IncidentDatabase } from "../../src/recovery/incident.js";
import type {
  HealPolicy,
  HealerSettings,
  LiveWatch,
  OwnWrite,
  ValidityVerdict,
  VersionReader,
} from "../../src/recovery/ports.js";
import type { ChainStep, LastGood, LostFile, RecoveryStrategy } from "../../src/recovery/strategy.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import type { TempFolder } from "./temp-folder.js";

export const NEVER = new AbortController().signal;

export function sha256(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export function gitBlobId(bytes: Buffer): string {
  return createHash("sha1")
    .update(`blob ${String(bytes.length)}\0`)
    .update(bytes)
    .digest("hex");
}

/** The node of a live path, content digests included. */
export function nodeAt(path: BytePath): FileNode {
  const stat = lstatSync(pathBytes(path), { bigint: true });
  if (stat.isSymbolicLink()) return { ...nodeFromStat(stat), linkTarget: readlinkSync(pathBytes(path), "latin1") };
  if (!stat.isFile()) return nodeFromStat(stat);
  const fd = openSync(pathBytes(path), "r");
  try {
    const bytes = readFileSync(fd);
    return { ...nodeFromStat(stat, { fd }), sha256: sha256(bytes), gitBlobId: gitBlobId(bytes) };
  } finally {
    closeSync(fd);
  }
}

/** A repository in memory. */
export class MemoryVersions implements VersionReader {
  readonly #versions = new Map<BytePath, Version[]>();
  readonly #contents = new Map<string, Buffer>();
  readonly #damaged = new Set<string>();

  /** Keeps a live path as its newest version; gives the node. */
  keep(path: BytePath, timeMs = Date.now()): FileNode {
    const node = nodeAt(path);
    if (node.kind === "file") this.#contents.set(node.sha256 ?? "", readFileSync(pathBytes(path)));
    this.#versions.set(path, [{ source: "data", path, timeMs, node }, ...(this.#versions.get(path) ?? [])]);
    return node;
  }

  /** From now on the content of that digest cannot be read. */
  damage(digest: string): void {
    this.#damaged.add(digest);
  }

  /** All can be read again. */
  repair(): void {
    this.#damaged.clear();
  }

  versions(path: BytePath, options: { readonly limit?: number } = {}): readonly Version[] {
    return (this.#versions.get(path) ?? []).slice(0, options.limit ?? Infinity);
  }

  entryAt(path: BytePath, atMs: number): Version | undefined {
    return this.versions(path).find((version) => version.timeMs <= atMs);
  }

  pathsWithDigest(digest: string): { source: string; path: BytePath }[] {
    return [...this.#versions.values()].flatMap(([newest]) =>
      newest?.node?.sha256 === digest ? [{ source: newest.source, path: newest.path }] : [],
    );
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- a port of asynchronous readers
  async *readContent(node: FileNode): AsyncIterable<Buffer> {
    const bytes = this.#contents.get(node.sha256 ?? "");
    if (bytes === undefined || this.#damaged.has(node.sha256 ?? "")) throw new Error("the chunk is damaged");
    for (let start = 0; start < bytes.length; start += 65_536) yield bytes.subarray(start, start + 65_536);
  }
}

/** A monitor that knows what tests tell it. */
export class NotingWatch implements LiveWatch {
  readonly ownWrites: OwnWrite[] = [];
  readonly ownWritesStanding: BytePath[] = [];
  readonly removalsAccepted: BytePath[] = [];
  readonly contentsAccepted: BytePath[] = [];
  readonly known = new Map<BytePath, LastGood>();
  /** Why the storage is away; undefined: it is there. */
  away: string | undefined;
  /** Done before it is told whether the storage of a path is there: healing begins with that question. */
  beforeAway: (path: BytePath) => Promise<void> = () => Promise.resolve();

  expectOwnWrite(expected: OwnWrite): void {
    this.ownWrites.push(expected);
  }

  ownWriteStands(path: BytePath): void {
    this.ownWritesStanding.push(path);
    const good = this.known.get(path);
    if (good !== undefined) this.known.set(path, { ...good, healedAtMs: Date.now() });
  }

  acceptRemoval(path: BytePath): void {
    this.removalsAccepted.push(path);
  }

  acceptContent(path: BytePath): void {
    this.contentsAccepted.push(path);
  }

  lastGood(path: BytePath): LastGood | undefined {
    return this.known.get(path);
  }

  async awayReasonOf(path: BytePath): Promise<string | undefined> {
    await this.beforeAway(path);
    return this.away;
  }

  /** JSON by the name; everything else is unchecked. */
  async validate(contentPath: string, forPath: BytePath): Promise<ValidityVerdict> {
    if (!nameOf(forPath).endsWith(".json")) return { verdict: "unchecked", detail: "no validator" };
    try {
      JSON.parse(await readFile(contentPath, "utf8"));
      return { verdict: "valid", detail: "JSON" };
    } catch {
      return { verdict: "invalid", detail: "no JSON" };
    }
  }
}

export interface RigOptions {
  readonly clock?: Clock;
  readonly strategies?: readonly RecoveryStrategy[];
  readonly policy?: Partial<HealPolicy>;
  readonly settings?: Partial<HealerSettings>;
  /** Instead of the versions in memory. */
  readonly reader?: VersionReader;
}

/** Everything around a healer over one temporary folder: `data/` is protected, `state/` is the healer's. */
export class RecoveryRig implements AsyncDisposable {
  readonly folder: TempFolder;
  readonly versions = new MemoryVersions();
  readonly watch = new NotingWatch();
  readonly bus: EventBus;
  readonly told: { readonly name: EventName; readonly event: unknown }[] = [];
  policy: HealPolicy;
  readonly #options: RigOptions;
  readonly #level: Level;
  #healer: Healer | undefined;

  private constructor(folder: TempFolder, options: RigOptions) {
    this.folder = folder;
    this.#options = options;
    this.#level = new Level(folder.at("index"));
    this.bus = new EventBus((name, error) => {
      throw new Error(`a handler of ${name} threw`, { cause: error });
    });
    this.policy = {
      mode: "protect",
      priority: "high",
      accept: "newer_valid",
      chain: DEFAULT_CHAIN,
      mass: "hold",
      root: folder.bytes("data"),
      ...options.policy,
    };
    const names = ["opened", "healed", "failed", "held", "closed"] as const;
    for (const name of names)
      this.bus.on(`incident.${name}`, (event) => this.told.push({ name: `incident.${name}`, event }));
  }

  static async create(folder: TempFolder, options: RigOptions = {}): Promise<RecoveryRig> {
    await folder.folder("data");
    await folder.folder("state");
    const rig = new RecoveryRig(folder, options);
    await rig.#level.open();
    return rig;
  }

  get database(): IncidentDatabase {
    return this.#level.sublevel("incidents");
  }

  get healer(): Healer {
    if (this.#healer === undefined) throw new Error("start the healer first");
    return this.#healer;
  }

  /** Starts a healer, over a source that was looked through unless told; a second call starts the next one after the first was closed. */
  async start(isReady = true): Promise<Healer> {
    const clock = this.#options.clock ?? systemClock;
    const versions = this.#options.reader ?? this.versions;
    this.#healer = new Healer({
      clock,
      observer: silentObserver,
      bus: this.bus,
      database: this.database,
      stateDir: this.folder.at("state"),
      versions,
      watch: this.watch,
      strategies: this.#options.strategies ?? recoveryStrategies(versions, clock),
      policyFor: () => this.policy,
      ...(this.#options.settings === undefined ? {} : { settings: this.#options.settings }),
    });
    await this.#healer.start(NEVER);
    if (isReady) this.bus.emit("watch.ready", { source: "data" });
    return this.#healer;
  }

  /** Writes a protected file, stored and registered. */
  async protect(name: string, content: string | Uint8Array, mode?: number): Promise<BytePath> {
    return this.register(pathFromText(await this.folder.write(`data/${name}`, content, mode)));
  }

  /** Stores and registers a live path as it is. */
  register(path: BytePath): BytePath {
    const node = this.versions.keep(path);
    const clock = this.#options.clock ?? systemClock;
    this.watch.known.set(path, { ...lastGoodOf(node), registeredAtMs: clock.nowMs() });
    return path;
  }

  /** Reports a loss as the monitor does and waits until it is dealt with. */
  async lose(path: BytePath, kind: EventCatalogue["file.lost"]["kind"] = "deleted"): Promise<void> {
    const event = { source: "data", path, kind, noticedBy: "event", seenAtMs: Date.now(), detail: "test" } as const;
    this.bus.emit("file.lost", event);
    await this.healer.idle();
  }

  /** Names of the events told since the beginning. */
  get events(): string[] {
    return this.told.map((entry) => entry.name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#healer?.[Symbol.asyncDispose]();
    await this.#level.close();
  }
}

export const DEFAULT_CHAIN: readonly ChainStep[] = [
  "latest_backup",
  "git_history",
  "temp_files",
  "manual_recovery",
].map((strategy) => ({ strategy, parameters: strategy === "temp_files" ? { homes: ["/nonexistent"] } : {} }));

/** A lost file as strategies are told of it. */
export function lostFile(path: BytePath, lastGood?: LastGood): LostFile {
  return { source: "data", path, kind: "deleted", seenAtMs: Date.now(), lastGood, present: undefined };
}

/** All bytes of a stream. */
export async function bytesOf(content: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts);
}
