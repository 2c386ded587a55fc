/**
 * What is known of every protected path: the stat, digest and owner of its last durable version, and whether it is
 * live, lost or removed. It lives in LevelDB and is only a memory: lost, it is rebuilt from the repository. Entries
 * move only after durability, so that what the registry calls known can always be brought back.
 *
 * Keys are `<source> NUL <path bytes>`, so one source is one range in byte order of its paths. Writes go through an
 * overlay that is flushed in the background; reads see them at once.
 */
import type { Clock } from "../base/clock.js";
import { readAhead } from "../base/concurrency.js";
import { HoldfastError } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import { type CommitTimes, readingBeganAfter } from "../engine/rot.js";
import type { DatedEntry, Entry, StatTuple } from "../engine/types.js";
import { isSameContentStat } from "./ledger.js";
import type { StateSublevel } from "./state-sublevel.js";
import {
  type RegistryRecord,
  decodeRecord,
  deletedRecordBytes,
  encodeRecord,
  isLostRecord,
  liveFileBytes,
} from "./registry-record.js";

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

/** Live regular files of a source. */
export interface SourceTotals {
  files: number;
  bytes: number;
}

/** Writes that wait for LevelDB at most; beyond it a writer waits for the flush. */
const OVERLAY_MAX = 20_000;
/** The same of a mass loss, so that it is told before LevelDB has taken it; 50 MB. */
const OVERLAY_MASS_MAX = 120_000;
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
  readonly #overlay = new Map<string, Buffer | undefined>();
  /** For each who reads many records beside this thread: keys written meanwhile, of which what is read may be old. */
  readonly #writtenSince = new Set<Set<string>>();
  /** Commits whose changes are in the overlay or in LevelDB, by source; written with the records, never before. */
  readonly #through = new Map<string, CommitMark>();
  #flushing: Promise<void> | undefined;
  #fault: unknown;

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

  /** What is known of many paths, in their order; read beside this thread, so it is for mass events. */
  async getMany(source: string, paths: readonly BytePath[]): Promise<readonly (RegistryRecord | undefined)[]> {
    const keys = paths.map((path) => keyOf(source, path));
    const waiting = keys.map((key) => (this.#overlay.has(key) ? { value: this.#overlay.get(key) } : undefined));
    const asked = keys.filter((_key, index) => waiting[index] === undefined);
    const values =
      asked.length === 0 ? [] : await this.#records.getMany(asked.map((key) => Buffer.from(key, "latin1")));
    let next = 0;
    return waiting.map((one) => {
      const value = one === undefined ? values[next++] : one.value;
      return value === undefined ? undefined : decodeRecord(value);
    });
  }

  /** Remembers a path; visible at once, in LevelDB soon. */
  put(source: string, path: BytePath, record: RegistryRecord): void {
    this.#replace(source, path, record);
  }

  /**
   * Marks many paths as deleted; whatever else is known of them stays. What is not known, or no longer, is passed over.
   * Their old records are read beside this thread, a page ahead; one that is not missing any more by then is left.
   */
  async markDeleted(
    source: string,
    paths: readonly BytePath[],
    {
      reason,
      isStillMissing = () => true,
    }: { readonly reason: string; readonly isStillMissing?: (path: BytePath) => boolean },
  ): Promise<void> {
    const written = new Set<string>();
    this.#writtenSince.add(written);
    try {
      const read = async (slice: readonly BytePath[]): Promise<readonly (Buffer | undefined)[]> =>
        await this.#records.getMany(slice.map((path) => Buffer.from(keyOf(source, path), "latin1")));
      for await (const { slice, values } of readAhead(paths, PAGE, read)) {
        for (const [index, path] of slice.entries()) {
          if (!isStillMissing(path)) continue;
          const key = keyOf(source, path);
          const isOld = written.has(key) || this.#overlay.has(key);
          this.#markDeleted(source, key, isOld ? this.#bytesAt(key) : values[index], reason);
        }
        if (this.#overlay.size > OVERLAY_MASS_MAX) await this.room();
      }
    } finally {
      this.#writtenSince.delete(written);
    }
  }

  /** Forgets a path. */
  forget(source: string, path: BytePath): void {
    this.#replace(source, path, undefined);
  }

  /** Everything that commits of the source changed up to this one has been put. */
  holdsThrough(source: string, mark: CommitMark): void {
    this.#through.set(source, mark);
    this.#flushing ??= this.#flushOnce();
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

  /** Resolves when there is room for more writes; call it between batches. */
  async room(): Promise<void> {
    while (this.#overlay.size > OVERLAY_MAX) await this.flush();
  }

  /** Resolves when everything put so far is in LevelDB. Throws INDEX_DAMAGED when LevelDB cannot write. */
  async flush(): Promise<void> {
    while (this.#overlay.size > 0 || this.#through.size > 0) {
      this.#flushing ??= this.#flushOnce();
      await this.#flushing;
      if (this.#fault !== undefined) {
        const cause = this.#fault;
        this.#fault = undefined;
        throw new HoldfastError("INDEX_DAMAGED", "the registry of protected files cannot be written", { cause });
      }
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
  async *children(source: string, folder: BytePath, from: BytePath = folder): AsyncIterable<KnownPath> {
    await this.flush();
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
          const record = key === prefix ? undefined : decodeRecord(value);
          if (record !== undefined) yield { path: key.slice(key.indexOf("\0") + 1) as BytePath, record };
        }
        // A small folder on the way is read over, for a seek costs as much as a page; "0" follows "/".
        if (deeper !== "" && deeperCount > NEAR_PAGE / 2) iterator.seek(Buffer.from(`${deeper}0`, "latin1"));
      }
    } finally {
      await iterator.close();
    }
  }

  /** Every known path of a source in byte order; with `below` only what lies below that folder. */
  async *entries(source: string, below?: BytePath): AsyncIterable<readonly KnownPath[]> {
    const folder = below === undefined ? "" : below === "/" ? "/" : `${below}/`;
    const from = keyOf(source, folder as BytePath);
    // "0" follows "/", and 0x01 follows the NUL after the source's name.
    const to = folder === "" ? `${source}\u0001` : `${from.slice(0, -1)}0`;
    yield* this.#range(from, to);
  }

  /** Every known path of a source that sorts after `path`. */
  async *entriesAfter(source: string, path: BytePath): AsyncIterable<readonly KnownPath[]> {
    yield* this.#range(`${keyOf(source, path)}\0`, `${source}\u0001`);
  }

  async *#range(from: string, to: string): AsyncIterable<readonly KnownPath[]> {
    await this.flush();
    const iterator = this.#records.iterator({ gte: Buffer.from(from, "latin1"), lt: Buffer.from(to, "latin1") });
    try {
      for (let page = await iterator.nextv(PAGE); page.length > 0; page = await iterator.nextv(PAGE)) {
        const known: KnownPath[] = [];
        for (const [key, value] of page) {
          const record = decodeRecord(value);
          const text = key.toString("latin1");
          if (record !== undefined) known.push({ path: text.slice(text.indexOf("\0") + 1) as BytePath, record });
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

  #bytesAt(key: string): Buffer | undefined {
    if (this.#overlay.has(key)) return this.#overlay.get(key);
    return this.#records.getSync(Buffer.from(key, "latin1"));
  }

  #replace(source: string, path: BytePath, record: RegistryRecord | undefined): void {
    const key = keyOf(source, path);
    const value = record === undefined ? undefined : encodeRecord(record);
    this.#count(source, this.#bytesAt(key), -1);
    this.#count(source, value, 1);
    this.#write(key, value);
  }

  #markDeleted(source: string, key: string, before: Buffer | undefined, reason: string): void {
    const value = before === undefined ? undefined : deletedRecordBytes(before, reason);
    if (value === undefined) return;
    this.#count(source, before, -1);
    this.#count(source, value, 1);
    this.#write(key, value);
  }

  #write(key: string, value: Buffer | undefined): void {
    for (const written of this.#writtenSince) written.add(key);
    this.#overlay.set(key, value);
    this.#flushing ??= this.#flushOnce();
  }

  #count(source: string, value: Buffer | undefined, sign: 1 | -1): void {
    if (value !== undefined && isLostRecord(value)) this.#lost.set(source, this.lostCount(source) + sign);
    const sizeBytes = value === undefined ? undefined : liveFileBytes(value);
    if (sizeBytes === undefined) return;
    const totals = this.#totals.get(source) ?? { files: 0, bytes: 0 };
    totals.files += sign;
    totals.bytes += sign * sizeBytes;
    this.#totals.set(source, totals);
  }

  async #flushOnce(): Promise<void> {
    // One turn later, so that a burst of puts becomes one batch.
    await new Promise<void>((resolve) => setImmediate(resolve));
    const batch = [...this.#overlay];
    const through = [...this.#through];
    try {
      await this.#records.batch([
        ...batch.map(([key, value]) =>
          value === undefined
            ? { type: "del" as const, key: Buffer.from(key, "latin1") }
            : { type: "put" as const, key: Buffer.from(key, "latin1"), value },
        ),
        ...through.map(([source, mark]) => this.#throughOperation(source, mark)),
      ]);
      for (const [key, value] of batch) if (this.#overlay.get(key) === value) this.#overlay.delete(key);
      for (const [source, mark] of through) if (this.#through.get(source) === mark) this.#through.delete(source);
    } catch (error) {
      this.#fault = error;
    }
    this.#flushing = undefined;
  }

  #throughOperation(source: string, { seq, generation }: CommitMark) {
    const key = Buffer.from(throughKey(source), "utf8");
    const value = Buffer.from(`${String(seq)} ${generation}`, "utf8");
    const encodings = { keyEncoding: "buffer", valueEncoding: "buffer" } as const;
    return { type: "put" as const, key, value, sublevel: this.#meta, ...encodings };
  }
}

/** What the registry keeps of a durable entry, whose reading began at `readFromMs` at the earliest. */
export function recordOf(entry: Entry, { nowMs, readFromMs }: CommitTimes): RegistryRecord {
  const { node } = entry;
  return {
    kind: node.kind,
    state: "live",
    stat: node.stat,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    linkCount: node.linkCount,
    ...(node.sha256 === undefined ? {} : { sha256: node.sha256 }),
    ...(node.gitBlobId === undefined ? {} : { gitBlobId: node.gitBlobId }),
    ...(node.linkTarget === undefined ? {} : { linkTarget: node.linkTarget }),
    valid: undefined,
    registeredAtMs: nowMs,
    lastVerifiedMs: readFromMs,
    healedAtMs: 0,
  };
}

function keyOf(source: string, path: BytePath): string {
  return `${source}\0${path}`;
}

function throughKey(source: string): string {
  return `through:${source}`;
}

function sourceOfKey(key: string): string {
  return key.slice(0, key.indexOf("\0"));
}
