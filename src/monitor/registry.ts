/**
 * What is known of every protected path: the stat, digest and owner of its last durable version, and whether it is
 * live, lost or removed. It lives in LevelDB and is only a memory: lost, it is rebuilt from the repository. Entries
 * move only after durability, so that what the registry calls known can always be brought back.
 *
 * Keys are `<source> NUL <path bytes>`, so one source is one range in byte order of its paths. Writes go through an
 * overlay that is flushed in the background; reads see them at once.
 */
import type { Clock } from "../base/clock.js";
import { HoldfastError, hasCode, messageOf } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import { readingBeganAfter } from "../engine/rot.js";
import type { DatedEntry, StatTuple } from "../engine/types.js";
import { isSameContentStat } from "./ledger.js";
import { RecentWrites } from "./recent-writes.js";
import { keyOf, sourceOfKey, throughKey } from "./registry-keys.js";
import { type Deletion, type Waiting, deletedBytes, firstOf, isDeletion } from "./registry-overlay.js";
import {
  type RegistryRecord,
  decodeRecord,
  deletedRecordBytes,
  encodeRecord,
  isComparedAlike,
  isLostRecord,
  liveFileBytes,
  recordOf,
} from "./registry-record.js";
import type { StateSublevel } from "./state-sublevel.js";

export type { RegistryRecord, RegistryState } from "./registry-record.js";

export { type StateSublevel, monitorSublevel } from "./state-sublevel.js";

function levelsOf(store: StateSublevel) {
  return {
    records: store.sublevel<Buffer, Buffer>("registry", { keyEncoding: "buffer", valueEncoding: "buffer" }),
    meta: store.sublevel("meta"),
  };
}

export interface KnownPath {
  readonly path: BytePath;
  readonly record: RegistryRecord;
}

/** A record with the moment in which it was read: `isCurrent` tells whether it still is what is known. */
export interface DatedRecord {
  readonly record: RegistryRecord;
  /** A number of the registry's own. */
  readonly asOf: number;
}

/** A path as it was read from the registry. */
export interface ReadPath extends KnownPath, DatedRecord {}

/** Live regular files of a source. */
export interface SourceTotals {
  files: number;
  bytes: number;
}

/** Writes that wait for LevelDB at most; beyond it a writer waits for the flush. */
const OVERLAY_MAX = 20_000;
/** Writes given to LevelDB in one go: making them ready keeps others waiting. */
const FLUSH_MAX = 4096;
/** Deletions at once from which on all that was read before counts as old. */
const MANY_DELETIONS = 4096;
/** Entries read from LevelDB in one go. */
const PAGE = 512;
/** The same where only what lies directly in a folder is wanted. */
const NEAR_PAGE = 64;

/** A commit, by its number, and the generation of the repository in which it has that number. */
export interface CommitMark {
  readonly seq: number;
  readonly generation: string;
}

export class Registry implements AsyncDisposable {
  readonly #records: ReturnType<typeof levelsOf>["records"];
  readonly #meta: ReturnType<typeof levelsOf>["meta"];
  readonly #totals = new Map<string, SourceTotals>();
  readonly #lost = new Map<string, number>();
  readonly #overlay = new Map<string, Waiting>();
  readonly #writes = new RecentWrites();
  /** Commits whose changes are in the overlay or in LevelDB, by source; written with the records, never before. */
  readonly #through = new Map<string, CommitMark>();
  /** Told of each path that is written, by source. */
  readonly #listeners = new Map<string, (path: BytePath) => void>();
  #flushing: Promise<void> | undefined;
  #fault: unknown;
  #notWritable: string | undefined;

  private constructor(store: StateSublevel) {
    const levels = levelsOf(store);
    this.#records = levels.records;
    this.#meta = levels.meta;
  }

  /** Opens the registry in a sublevel and counts what it holds. */
  static async open(store: StateSublevel): Promise<Registry> {
    const registry = new Registry(store);
    await registry.#records.open();
    await registry.#meta.open();
    for await (const [key, value] of registry.#records.iterator()) {
      registry.#count(sourceOfKey(key.toString("latin1")), value, 1);
    }
    return registry;
  }

  /** What is known of a path; fast enough for hot paths. A damaged record counts as unknown. */
  get(source: string, path: BytePath): RegistryRecord | undefined {
    const value = this.#bytesAt(keyOf(source, path));
    return value === undefined ? undefined : decodeRecord(value);
  }

  /** The same with its moment. */
  read(source: string, path: BytePath): DatedRecord | undefined {
    const record = this.get(source, path);
    return record === undefined ? undefined : { record, asOf: this.moment };
  }

  /** What is known of many paths, in their order; read beside this thread, so it is for mass events. */
  async getMany(source: string, paths: readonly BytePath[]): Promise<readonly (RegistryRecord | undefined)[]> {
    const values = await this.#readMany(paths.map((path) => keyOf(source, path)));
    return values.map((value) => (value === undefined ? undefined : decodeRecord(value)));
  }

  /** A number for `DatedRecord.asOf`: what is read after it was asked for holds all that was written before. */
  get moment(): number {
    return this.#writes.now;
  }

  /** False when the path was written, or may have been, after its record was read. */
  isCurrent(source: string, path: BytePath, asOf: number): boolean {
    return this.#writes.isUnwritten(keyOf(source, path), asOf);
  }

  /**
   * `listener` hears at once of every path of a source of which something is written that looks are compared with;
   * undefined: nobody does any more.
   */
  listen(source: string, listener: ((path: BytePath) => void) | undefined): void {
    if (listener === undefined) this.#listeners.delete(source);
    else this.#listeners.set(source, listener);
  }

  /** Remembers a path; visible at once, in LevelDB soon. */
  put(source: string, path: BytePath, record: RegistryRecord): void {
    this.#replace(source, path, record);
  }

  /**
   * Marks many paths as deleted, at once; whatever else is known of them stays. Of what was written since its record was
   * read, the present one counts. What is not known, or no longer, is passed over.
   */
  markDeleted(source: string, gone: readonly (DatedRecord & { readonly path: BytePath })[], reason: string): void {
    const deletion: Deletion = { deleted: reason };
    const isMany = gone.length >= MANY_DELETIONS;
    const listener = this.#listeners.get(source);
    for (const { path, record, asOf } of gone) {
      const key = keyOf(source, path);
      if (!this.#overlay.has(key) && this.#writes.isUnwritten(key, asOf)) {
        this.#countRecord(source, record, -1);
        this.#lost.set(source, this.lostCount(source) + 1);
        this.#overlay.set(key, deletion);
        listener?.(path);
        if (!isMany) this.#writes.note(key);
      } else this.#markWritten(source, key, reason);
    }
    if (isMany) this.#writes.noteAll();
    this.#flushSoon();
  }

  /** Forgets a path. */
  forget(source: string, path: BytePath): void {
    this.#replace(source, path, undefined);
  }

  /** Everything that commits of the source changed up to this one has been put. */
  holdsThrough(source: string, mark: CommitMark): void {
    this.#through.set(source, mark);
    this.#flushSoon();
  }

  /** The last commit whose changes were in LevelDB at the end of the last run; undefined: not known. */
  async heldThrough(source: string): Promise<CommitMark | undefined> {
    const waiting = this.#through.get(source);
    if (waiting !== undefined) return waiting;
    const text = await this.#meta.get(throughKey(source));
    if (text === undefined) return undefined;
    const [seq, generation = ""] = text.split(" ");
    return { seq: Number(seq), generation };
  }

  /** Resolves when there is room for more writes; call it between batches. Throws INDEX_DAMAGED when LevelDB cannot write. */
  async room(): Promise<void> {
    while (this.#overlay.size > OVERLAY_MAX) await this.flush();
  }

  /** Why what is known cannot be written, as of the last try; undefined: it can. */
  get notWritable(): string | undefined {
    return this.#notWritable;
  }

  /** Resolves when everything put so far is in LevelDB. Throws INDEX_DAMAGED when LevelDB cannot write. */
  async flush(): Promise<void> {
    while (this.#overlay.size > 0 || this.#through.size > 0) {
      this.#flushSoon();
      await this.#flushing;
      if (this.#fault !== undefined) {
        const cause = this.#fault;
        this.#fault = undefined;
        throw new HoldfastError("INDEX_DAMAGED", "the registry of protected files cannot be written", { cause });
      }
    }
  }

  /**
   * What waits is written before a range is read, where that can be. On a full disk what is there is read with what waits;
   * what came since and waits is left out of ranges until there is room: nothing is missed or judged for that.
   */
  async #flushIfWritable(): Promise<void> {
    try {
      await this.flush();
    } catch (error) {
      if (!hasCode(error, "INDEX_DAMAGED")) throw error;
    }
  }

  /** The digest of a live file that still has this stat, in whatever source it is registered. */
  digestOf(path: BytePath, stat: Pick<StatTuple, "dev" | "ino" | "sizeBytes" | "mtimeNs">): string | undefined {
    for (const source of this.#totals.keys()) {
      const record = this.get(source, path);
      if (record?.state === "live" && isSameContentStat(record.stat, stat)) return record.sha256;
    }
    return undefined;
  }

  /** What is known directly in a folder, without what lies deeper; in byte order, from the name of `from` on. */
  async *children(source: string, folder: BytePath, from: BytePath = folder): AsyncIterable<ReadPath> {
    const asOf = this.moment;
    await this.#flushIfWritable();
    const prefix = keyOf(source, (folder === "/" ? "/" : `${folder}/`) as BytePath);
    const start = from === folder ? prefix : keyOf(source, from);
    const end = Buffer.from(`${prefix.slice(0, -1)}0`, "latin1");
    const iterator = this.#records.iterator({ gte: Buffer.from(start, "latin1"), lt: end });
    try {
      for (let page = await iterator.nextv(NEAR_PAGE); page.length > 0; page = await iterator.nextv(NEAR_PAGE)) {
        let deeper = "";
        let deeperCount = 0;
        for (const [bytes, value] of page) {
          const key = bytes.toString("latin1");
          const cut = key.indexOf("/", prefix.length);
          if (cut !== -1) {
            const isSame = deeper !== "" && key.startsWith(deeper) && key[deeper.length] === "/";
            deeper = isSame ? deeper : key.slice(0, cut);
            deeperCount = isSame ? deeperCount + 1 : 1;
            continue;
          }
          deeper = "";
          const record = key === prefix ? undefined : this.#decoded(key, value);
          if (record !== undefined) yield { path: key.slice(key.indexOf("\0") + 1) as BytePath, record, asOf };
        }
        // A small folder on the way is read over, for a seek costs as much as a page; "0" follows "/".
        if (deeper !== "" && deeperCount > NEAR_PAGE / 2) iterator.seek(Buffer.from(`${deeper}0`, "latin1"));
      }
    } finally {
      await iterator.close();
    }
  }

  /** Every known path of a source in byte order; with `below` only what lies below that folder. */
  async *entries(source: string, below?: BytePath): AsyncIterable<readonly ReadPath[]> {
    const folder = below === undefined ? "" : below === "/" ? "/" : `${below}/`;
    const from = keyOf(source, folder as BytePath);
    // "0" follows "/", and 0x01 follows the NUL after the source's name.
    const to = folder === "" ? `${source}\u0001` : `${from.slice(0, -1)}0`;
    yield* this.#range(from, to);
  }

  /** Every known path of a source that sorts after `path`. */
  async *entriesAfter(source: string, path: BytePath): AsyncIterable<readonly ReadPath[]> {
    yield* this.#range(`${keyOf(source, path)}\0`, `${source}\u0001`);
  }

  async *#range(from: string, to: string): AsyncIterable<readonly ReadPath[]> {
    const asOf = this.moment;
    await this.#flushIfWritable();
    const iterator = this.#records.iterator({ gte: Buffer.from(from, "latin1"), lt: Buffer.from(to, "latin1") });
    try {
      for (let page = await iterator.nextv(PAGE); page.length > 0; page = await iterator.nextv(PAGE)) {
        const known: ReadPath[] = [];
        for (const [key, stored] of page) {
          const text = key.toString("latin1");
          const record = this.#decoded(text, stored);
          if (record !== undefined) known.push({ path: text.slice(text.indexOf("\0") + 1) as BytePath, record, asOf });
        }
        yield known;
      }
    } finally {
      await iterator.close();
    }
  }

  /** Live files and bytes of a source. */
  totals(source: string): SourceTotals {
    return this.#totals.get(source) ?? { files: 0, bytes: 0 };
  }

  /** Paths of a source that are lost or damaged and not decided. */
  lostCount(source: string): number {
    return this.#lost.get(source) ?? 0;
  }

  /** True when the registry of this source was once complete; false asks for `rebuild`. */
  async isBuilt(source: string): Promise<boolean> {
    return (await this.#meta.get(`built:${source}`)) !== undefined;
  }

  /** Fills the registry of a source from the repository's current entries; what is known better already stays. */
  async rebuild(
    source: string,
    entries: AsyncIterable<DatedEntry>,
    clock: Clock,
    signal: AbortSignal,
  ): Promise<number> {
    let count = 0;
    for await (const entry of entries) {
      signal.throwIfAborted();
      if (this.get(source, entry.path) === undefined) {
        const nowMs = clock.nowMs();
        this.put(source, entry.path, recordOf(entry, { nowMs, readFromMs: readingBeganAfter(entry.timeMs) }));
        count += 1;
      }
      if (count % PAGE === 0) await this.room();
    }
    await this.flush();
    await this.#meta.put(`built:${source}`, String(clock.nowMs()));
    return count;
  }

  /** Forgets a whole source, for one that is protected no longer. */
  async forgetSource(source: string): Promise<void> {
    await this.flush();
    await this.#records.clear({
      gte: Buffer.from(keyOf(source, "" as BytePath), "latin1"),
      lt: Buffer.from(`${source}\u0001`, "latin1"),
    });
    await this.#meta.del(`built:${source}`);
    await this.#meta.del(throughKey(source));
    await this.#meta.del(`note:settled:${source}`);
    this.#totals.delete(source);
    this.#lost.delete(source);
  }

  /** A small value that must survive a restart; undefined when there is none. */
  async readNote(name: string): Promise<string | undefined> {
    return await this.#meta.get(`note:${name}`);
  }

  async writeNote(name: string, value: string): Promise<void> {
    await this.#meta.put(`note:${name}`, value);
  }

  /** Writes what waits. The sublevel belongs to its giver and stays open. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
  }

  /** What was read of a key, or what waits to be written in its place. */
  #decoded(key: string, stored: Buffer): RegistryRecord | undefined {
    const value = this.#overlay.has(key) ? this.#bytesAt(key) : stored;
    return value === undefined ? undefined : decodeRecord(value);
  }

  #bytesAt(key: string): Buffer | undefined {
    const waiting = this.#overlay.get(key);
    if (!isDeletion(waiting) && this.#overlay.has(key)) return waiting;
    const stored = this.#records.getSync(Buffer.from(key, "latin1"));
    return isDeletion(waiting) ? deletedBytes(stored, waiting) : stored;
  }

  /** The values of many keys, those in LevelDB read beside this thread. */
  async #readMany(keys: readonly string[]): Promise<readonly (Buffer | undefined)[]> {
    const waiting = keys.map((key) => (this.#overlay.has(key) ? { value: this.#overlay.get(key) } : undefined));
    const isStored = (one: { readonly value: Waiting } | undefined): boolean =>
      one === undefined || isDeletion(one.value);
    const asked = keys.filter((_key, index) => isStored(waiting[index]));
    const values =
      asked.length === 0 ? [] : await this.#records.getMany(asked.map((key) => Buffer.from(key, "latin1")));
    let next = 0;
    return waiting.map((one) => {
      const value = one?.value;
      if (one !== undefined && !isDeletion(value)) return value;
      const stored = values[next++];
      return isDeletion(value) ? deletedBytes(stored, value) : stored;
    });
  }

  #replace(source: string, path: BytePath, record: RegistryRecord | undefined): void {
    const key = keyOf(source, path);
    const before = this.#bytesAt(key);
    const value = record === undefined ? undefined : encodeRecord(record);
    this.#count(source, before, -1);
    this.#count(source, value, 1);
    if (!isComparedAlike(before, value)) this.#listeners.get(source)?.(path);
    this.#write(key, value);
  }

  /** Marks a path as deleted whose record waits to be written, or may be another than was read. */
  #markWritten(source: string, key: string, reason: string): void {
    const before = this.#bytesAt(key);
    const value = before === undefined ? undefined : deletedRecordBytes(before, reason);
    if (value === undefined) return;
    this.#listeners.get(source)?.(key.slice(source.length + 1) as BytePath);
    this.#count(source, before, -1);
    this.#count(source, value, 1);
    this.#write(key, value);
  }

  #write(key: string, value: Buffer | undefined): void {
    this.#writes.note(key);
    this.#overlay.set(key, value);
    this.#flushSoon();
  }

  #flushSoon(): void {
    this.#flushing ??= this.#flushOnce();
  }

  #count(source: string, value: Buffer | undefined, sign: 1 | -1): void {
    if (value !== undefined && isLostRecord(value)) this.#lost.set(source, this.lostCount(source) + sign);
    const sizeBytes = value === undefined ? undefined : liveFileBytes(value);
    if (sizeBytes !== undefined) this.#countLive(source, sizeBytes, sign);
  }

  #countRecord(source: string, { state, kind, stat }: RegistryRecord, sign: 1 | -1): void {
    if (state === "lost") this.#lost.set(source, this.lostCount(source) + sign);
    if (state === "live" && kind === "file") this.#countLive(source, stat.sizeBytes, sign);
  }

  #countLive(source: string, sizeBytes: number, sign: 1 | -1): void {
    const totals = this.#totals.get(source) ?? { files: 0, bytes: 0 };
    totals.files += sign;
    totals.bytes += sign * sizeBytes;
    this.#totals.set(source, totals);
  }

  async #flushOnce(): Promise<void> {
    // One turn later, so that a burst of puts becomes one batch.
    await new Promise<void>((resolve) => setImmediate(resolve));
    const batch = firstOf(this.#overlay, FLUSH_MAX);
    // Never before the records: not while some of them wait.
    const through = batch.length === this.#overlay.size ? [...this.#through] : [];
    try {
      const values = await this.#readyValues(batch);
      await this.#records.batch([
        ...batch.map(([key], index) => {
          const value = values[index];
          return value === undefined
            ? { type: "del" as const, key: Buffer.from(key, "latin1") }
            : { type: "put" as const, key: Buffer.from(key, "latin1"), value };
        }),
        ...through.map(([source, mark]) => this.#throughOperation(source, mark)),
      ]);
      for (const [key, value] of batch) if (this.#overlay.get(key) === value) this.#overlay.delete(key);
      for (const [source, mark] of through) if (this.#through.get(source) === mark) this.#through.delete(source);
      this.#fault = this.#notWritable = undefined; // what failed to be written was kept, and is written
    } catch (error) {
      this.#fault = error;
      this.#notWritable = messageOf(error);
    }
    this.#flushing = undefined;
    if (this.#fault === undefined && this.#overlay.size + this.#through.size > 0) this.#flushSoon();
  }

  /** What is to be written; the records of what was deleted are read first. */
  async #readyValues(batch: readonly (readonly [string, Waiting])[]): Promise<readonly (Buffer | undefined)[]> {
    const deleted = batch.flatMap(([key, value]) => (isDeletion(value) ? [Buffer.from(key, "latin1")] : []));
    const stored = deleted.length === 0 ? [] : await this.#records.getMany(deleted);
    let next = 0;
    return batch.map(([, value]) => (isDeletion(value) ? deletedBytes(stored[next++], value) : value));
  }

  #throughOperation(source: string, { seq, generation }: CommitMark) {
    const key = Buffer.from(throughKey(source), "utf8");
    const value = Buffer.from(`${String(seq)} ${generation}`, "utf8");
    const encodings = { keyEncoding: "buffer", valueEncoding: "buffer" } as const;
    return { type: "put" as const, key, value, sublevel: this.#meta, ...encodings };
  }
}
