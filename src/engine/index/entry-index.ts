/**
 * The catalog's part that knows paths: the current entry of each, its older versions, and which paths have a given
 * content. Applying a change is idempotent and needs no order: versions are told apart by their commit's number, the
 * newest is the current one. So a log can be replayed over a catalog of any age.
 */
import { type BytePath, isWithin } from "../../base/paths.js";
import { ByteReader, ByteWriter } from "../tree/bytes.js";
import { type EntryState, encodeState, readState, summaryOf } from "../tree/codec.js";
import type { Delta, DeltaChange } from "../tree/delta.js";
import { CurrentCursor } from "./current-cursor.js";
import { RecentChanges } from "./recent-changes.js";
import { BUCKET, type LevelOperation, type LevelStore, afterPrefix, bucketKey } from "./level-store.js";

/** The current entry of a path. `slot` is a small number of its own, for bitmaps over all entries of a repository. */
export interface CurrentRecord {
  readonly source: string;
  readonly path: BytePath;
  readonly slot: number;
  /** The encoded state begins at `STATE_OFFSET`. */
  readonly value: Buffer;
}

/** A new state of a path, as bytes, and what is current before it. */
export interface KnownUpsert {
  readonly path: BytePath;
  readonly state: Buffer;
  readonly known: CurrentRecord | undefined;
}

/** A version of a path; no state: it was removed. */
export interface VersionRecord {
  readonly seq: number;
  readonly timeMs: number;
  readonly state: EntryState | undefined;
}

/** Where the encoded state begins in a current value; before it stands the slot (u32, little-endian). */
export const STATE_OFFSET = 4;
/** Slots are reserved in blocks, so that one write covers many new entries and none is given twice after a crash. */
const SLOT_BLOCK = 65_536;
const SLOT_LIMIT_KEY = bucketKey("meta", Buffer.from("slot-limit"));
const REMOVED = 0;
const STORED = 1;

export class EntryIndex {
  readonly #level: LevelStore;
  #nextSlot = 0;
  #slotLimit = 0;
  /** False as long as nothing was ever removed: then no new path needs to be looked for among the removed ones. */
  #hasRemovals = true;
  readonly #lastChanges = new Map<string, number>();
  #changedBefore = 0;
  /** Grows with every change of a source's entries, so that an unchanged tree need not be built again. */
  readonly revisions = new Map<string, number>();
  /** What the next tree of a source must look at. */
  readonly recent = new RecentChanges();
  /** Sources that have entries or had them since the index was opened. */
  readonly sourceNames = new Set<string>();

  constructor(level: LevelStore) {
    this.#level = level;
    const limit = level.get(SLOT_LIMIT_KEY);
    this.#nextSlot = this.#slotLimit = limit === undefined ? 0 : limit.readUInt32LE(0);
  }

  /** Reads what is held in memory: the names of sources. */
  async load(): Promise<void> {
    // A source without any current file still has its versions, and their chunks are needed.
    for (const bucket of ["current", "history"] as const) {
      for (const name of await this.#sourcesIn(bucket)) this.sourceNames.add(name);
    }
    const removed = bucketKey("removed");
    this.#hasRemovals = (await this.#level.first(removed, afterPrefix(removed), 1)).length > 0;
  }

  /** One above every slot in use. */
  get slotEnd(): number {
    return this.#nextSlot;
  }

  /** Any source may have been changed by commits up to this number, before this index was opened. */
  changedThrough(seq: number): void {
    this.#changedBefore = Math.max(this.#changedBefore, seq);
  }

  /** No commit above this number changed an entry of the source; 0 when there was none. */
  lastChange(source: string): number {
    return Math.max(this.#changedBefore, this.#lastChanges.get(source) ?? 0);
  }

  current(source: string, path: BytePath): CurrentRecord | undefined {
    const value = this.#level.get(pathKey("current", source, path));
    return value === undefined ? undefined : { source, path, slot: slotOf(value), value };
  }

  /** The current entries of a source beside a walk of it. */
  cursor(source: string): CurrentCursor {
    const prefix = sourcePrefix("current", source);
    return new CurrentCursor(this.#level, prefix, afterSource(prefix));
  }

  /** The current entries of a source from one path on and before another, in path order; undefined: no bound. */
  async *currentBetween(
    source: string,
    from: BytePath | undefined,
    before: BytePath | undefined,
  ): AsyncGenerator<readonly CurrentRecord[]> {
    const prefix = sourcePrefix("current", source);
    const first = from === undefined ? prefix : pathKey("current", source, from);
    const end = before === undefined ? afterSource(prefix) : pathKey("current", source, before);
    for await (const page of this.#level.pages(first, end)) {
      yield page.map(([key, value]) => ({
        source,
        path: key.toString("latin1", prefix.length) as BytePath,
        slot: slotOf(value),
        value,
      }));
    }
  }

  /** The current entries of a source in path order, page by page, of one moment. */
  async *currentPages(source: string, under?: BytePath): AsyncGenerator<readonly CurrentRecord[]> {
    const prefix = sourcePrefix("current", source);
    const from = under === undefined ? prefix : pathKey("current", source, under);
    for await (const page of this.#level.pages(from, afterSource(prefix))) {
      const records = page.map(([key, value]) => ({
        source,
        path: key.toString("latin1", prefix.length) as BytePath,
        slot: slotOf(value),
        value,
      }));
      const within = partWithin(records, under);
      if (within.length > 0) yield within;
      if (isBehind(records.at(-1)?.path, under)) return;
    }
  }

  /** Versions before the current one, newest first. */
  async olderVersions(source: string, path: BytePath, limit: number): Promise<VersionRecord[]> {
    const prefix = historyPrefix(source, path);
    const pairs = await this.#level.first(prefix, afterPrefix(prefix), limit);
    return pairs.map(([, value]) => decodeVersion(value));
  }

  /** All older versions of a source (or of what is at and below `under`) in path order, newest first within a path. */
  async *historyPages(
    source: string,
    under?: BytePath,
  ): AsyncGenerator<readonly { readonly path: BytePath; readonly version: VersionRecord }[]> {
    const prefix = sourcePrefix("history", source);
    const from = under === undefined ? prefix : pathKey("history", source, under);
    for await (const page of this.#level.pages(from, afterSource(prefix))) {
      const versions = page.map(([key, value]) => ({
        path: key.toString("latin1", prefix.length, key.length - SEQ_BYTES - 1) as BytePath,
        version: decodeVersion(value),
      }));
      const within = partWithin(versions, under);
      if (within.length > 0) yield within;
      if (isBehind(versions.at(-1)?.path, under)) return;
    }
  }

  /** The states of all older versions of a source, undecoded: `stateAt` is where the state begins in `value`. */
  async *historyStates(
    source: string,
  ): AsyncGenerator<{ readonly path: BytePath; readonly value: Buffer; readonly stateAt: number }[]> {
    const prefix = sourcePrefix("history", source);
    for await (const page of this.#level.pages(prefix, afterSource(prefix))) {
      yield page.flatMap(([key, value]) => {
        if (value[0] !== STORED) return [];
        const path = key.toString("latin1", prefix.length, key.length - SEQ_BYTES - 1) as BytePath;
        return [{ path, value, stateAt: 1 }];
      });
    }
  }

  async pathsWithDigest(sha256: string): Promise<{ source: string; path: BytePath }[]> {
    const prefix = bucketKey("digest", Buffer.from(sha256, "hex"));
    const found: { source: string; path: BytePath }[] = [];
    for await (const page of this.#level.pages(prefix, afterPrefix(prefix))) {
      for (const [key] of page) found.push(splitSourcePath(key, prefix.length));
    }
    return found;
  }

  /**
   * Brings the upserts of one commit in, as a delta of them would, from the bytes of their states. `known` is the
   * current record of each path, if any: whoever asks knows it and lets nobody else change it meanwhile.
   */
  applyUpserts(
    operations: LevelOperation[],
    commit: Omit<Delta, "changes">,
    upserts: readonly KnownUpsert[],
    noteSlot: (slot: number) => void,
  ): void {
    const { source } = commit;
    for (const { path, state, known } of upserts) {
      if (known === undefined && !this.#hasRemovals) {
        noteSlot(this.#putNewCurrent(operations, source, path, state));
        continue;
      }
      const change: DeltaChange = { kind: "upsert", path, state: readState(new ByteReader(state)) };
      const slot = this.#applyChange(operations, { ...commit, changes: [] }, change);
      if (slot !== undefined) noteSlot(slot);
    }
    this.#noteChanged(commit, upserts);
  }

  #putNewCurrent(operations: LevelOperation[], source: string, path: BytePath, state: Buffer): number {
    const slot = this.#newSlot(operations);
    const value = Buffer.allocUnsafe(STATE_OFFSET + state.length);
    value.writeUInt32LE(slot);
    value.set(state, STATE_OFFSET);
    operations.push({ type: "put", key: pathKey("current", source, path), value });
    const { sha256 } = summaryOf(state, 0);
    if (sha256 !== undefined) operations.push({ type: "put", key: digestKey(sha256, source, path), value: EMPTY });
    return slot;
  }

  #noteChanged({ source, seq }: Omit<Delta, "changes">, changes: Iterable<{ readonly path: BytePath }>): void {
    this.recent.note(source, seq, changes);
    this.#lastChanges.set(source, Math.max(seq, this.#lastChanges.get(source) ?? 0));
    this.sourceNames.add(source);
    this.revisions.set(source, (this.revisions.get(source) ?? 0) + 1);
  }

  /** Names of the sources that have entries, by jumping from one to the next. */
  async sources(): Promise<string[]> {
    return await this.#sourcesIn("current");
  }

  async #sourcesIn(bucket: "current" | "history"): Promise<string[]> {
    const names: string[] = [];
    const end = afterPrefix(bucketKey(bucket));
    let from = bucketKey(bucket);
    for (;;) {
      const [pair] = await this.#level.first(from, end, 1);
      if (pair === undefined) return names;
      const { source } = splitSourcePath(pair[0], 1);
      names.push(source);
      from = afterSource(sourcePrefix(bucket, source));
    }
  }

  /** Appends the operations that bring a delta into the catalog; a second time changes nothing. */
  apply(operations: LevelOperation[], delta: Delta): void {
    // A path that occurs twice in one delta would not see its first change; deltas are made without such.
    for (const change of delta.changes) this.#applyChange(operations, delta, change);
    this.#noteChanged(delta, delta.changes);
  }

  /** Gives the slot of the path when it has a current entry afterwards and that is this change. */
  #applyChange(operations: LevelOperation[], delta: Delta, change: DeltaChange): number | undefined {
    const { source } = delta;
    const known = this.current(source, change.path);
    // An absence mark repeats an older version, so the version's own number decides.
    const seq = change.kind === "upsert" ? change.state.seq : delta.seq;
    if (known !== undefined) {
      this.#applyOverKnown(operations, delta, change, { known, state: stateOf(known), seq });
      return change.kind === "upsert" ? known.slot : undefined;
    }
    if (change.kind === "remove" || this.#removedSeq(source, change.path) > seq) {
      this.#putHistory(operations, source, change, delta);
      return undefined;
    }
    return this.putCurrent(operations, { source, path: change.path }, change.state);
  }

  #applyOverKnown(
    operations: LevelOperation[],
    { source, ...delta }: Delta,
    change: DeltaChange,
    { known, state, seq }: { readonly known: CurrentRecord; readonly state: EntryState; readonly seq: number },
  ): void {
    if (state.seq > seq) {
      const isMark = change.kind === "upsert" && change.state.absentSinceMs !== undefined;
      if (!isMark) this.#putHistory(operations, source, change, { source, ...delta });
      return;
    }
    if (change.kind === "remove") {
      this.#retire(operations, known, state, seq);
      operations.push({ type: "del", key: pathKey("current", source, change.path) });
      this.#putHistory(operations, source, change, { source, ...delta });
      return;
    }
    if (state.seq === seq && state.absentSinceMs !== undefined && change.state.absentSinceMs === undefined) return;
    this.#retire(operations, known, state, seq);
    this.putCurrent(operations, { source, path: change.path, slot: known.slot }, change.state);
  }

  /** Moves the current state into the history, unless the same commit made it. */
  #retire(operations: LevelOperation[], known: CurrentRecord, state: EntryState, newSeq: number): void {
    const { source, path } = known;
    if (state.node.sha256 !== undefined)
      operations.push({ type: "del", key: digestKey(state.node.sha256, source, path) });
    if (state.seq === newSeq) return;
    operations.push({ type: "put", key: historyKey(source, path, state.seq), value: encodeVersion(state) });
    if (state.absentSinceMs !== undefined) {
      // The path was gone for a while: between the two versions stands a removal, right after the older one.
      const gone = { seq: state.seq + 0.5, timeMs: state.absentSinceMs };
      operations.push({ type: "put", key: historyKey(source, path, gone.seq), value: encodeRemoval(gone) });
    }
  }

  #putHistory(operations: LevelOperation[], source: string, change: DeltaChange, delta: Delta): void {
    const value = change.kind === "remove" ? encodeRemoval(delta) : encodeVersion(change.state);
    operations.push({ type: "put", key: historyKey(source, change.path, delta.seq), value });
    if (change.kind === "upsert" || this.#removedSeq(source, change.path) > delta.seq) return;
    const writer = new ByteWriter();
    writer.varint(delta.seq);
    this.#hasRemovals = true;
    operations.push({ type: "put", key: pathKey("removed", source, change.path), value: writer.take() });
  }

  /** Number of the newest removal of a path that has no current entry; 0 when there was none. */
  #removedSeq(source: string, path: BytePath): number {
    if (!this.#hasRemovals) return 0;
    const value = this.#level.get(pathKey("removed", source, path));
    return value === undefined ? 0 : new ByteReader(value).varint();
  }

  /**
   * Sets the current state of a path as it is, without history (stat refresh, absence mark, rebuild from a tree);
   * gives its slot.
   */
  putCurrent(
    operations: LevelOperation[],
    { source, path, slot }: { readonly source: string; readonly path: BytePath; readonly slot?: number | undefined },
    state: EntryState,
  ): number {
    const prefix = Buffer.allocUnsafe(STATE_OFFSET);
    const kept = slot ?? this.#newSlot(operations);
    prefix.writeUInt32LE(kept);
    const value = Buffer.concat([prefix, encodeState(state)]);
    operations.push({ type: "put", key: pathKey("current", source, path), value });
    if (state.node.sha256 !== undefined) {
      operations.push({ type: "put", key: digestKey(state.node.sha256, source, path), value: EMPTY });
    }
    return kept;
  }

  dropVersion(operations: LevelOperation[], source: string, path: BytePath, seq: number): void {
    operations.push({ type: "del", key: historyKey(source, path, seq) });
  }

  #newSlot(operations: LevelOperation[]): number {
    if (this.#nextSlot === this.#slotLimit) {
      this.#slotLimit += SLOT_BLOCK;
      const value = Buffer.allocUnsafe(4);
      value.writeUInt32LE(this.#slotLimit);
      operations.push({ type: "put", key: SLOT_LIMIT_KEY, value });
    }
    this.#nextSlot += 1;
    return this.#nextSlot - 1;
  }
}

/** The slot in a current value. */
export function slotOf(value: Buffer): number {
  return value.readUInt32LE(0);
}

/** The state of a current record. */
export function stateOf(record: { readonly value: Buffer }): EntryState {
  return readState(new ByteReader(record.value, STATE_OFFSET));
}

/** What of a page lies at or below a path. */
function partWithin<T extends { readonly path: BytePath }>(
  page: readonly T[],
  under: BytePath | undefined,
): readonly T[] {
  return under === undefined ? page : page.filter(({ path }) => isWithin(path, under));
}

/** True for a path behind all that lies at or below `under`: "0" follows "/" in byte order. */
function isBehind(path: BytePath | undefined, under: BytePath | undefined): boolean {
  return path !== undefined && under !== undefined && path > (under === "/" ? "0" : `${under}0`);
}

const EMPTY = Buffer.alloc(0);
const SEPARATOR = Buffer.of(0);
const SEQ_BYTES = 8;
const DIGEST_BYTES = 32;
/** Sequence numbers are kept in halves, so that a removal can stand between two commits. */
const SEQ_SCALE = 2;

function sourcePrefix(bucket: "current" | "history", source: string): Buffer {
  return bucketKey(bucket, Buffer.from(source, "utf8"), SEPARATOR);
}

/** The end of a source's keys: its prefix ends with 0, so 1 follows. */
function afterSource(prefix: Buffer): Buffer {
  return afterPrefix(prefix);
}

/** Made once for each file of a scan: one allocation. */
function pathKey(bucket: "current" | "history" | "removed", source: string, path: string): Buffer {
  const sourceBytes = Buffer.byteLength(source, "utf8");
  const key = Buffer.allocUnsafe(sourceBytes + path.length + 2);
  key[0] = BUCKET[bucket];
  key.write(source, 1, "utf8");
  key[sourceBytes + 1] = 0;
  key.write(path, sourceBytes + 2, "latin1");
  return key;
}

function historyPrefix(source: string, path: string): Buffer {
  return Buffer.concat([pathKey("history", source, path), SEPARATOR]);
}

function historyKey(source: string, path: string, seq: number): Buffer {
  const inverted = Buffer.allocUnsafe(SEQ_BYTES);
  inverted.writeBigUInt64BE((1n << 62n) - BigInt(seq * SEQ_SCALE));
  return Buffer.concat([historyPrefix(source, path), inverted]);
}

function digestKey(sha256: string | Buffer, source: string, path: string): Buffer {
  const sourceBytes = Buffer.byteLength(source, "utf8");
  const key = Buffer.allocUnsafe(1 + DIGEST_BYTES + sourceBytes + 1 + path.length);
  key[0] = BUCKET.digest;
  if (typeof sha256 === "string") key.write(sha256, 1, "hex");
  else key.set(sha256, 1);
  key.write(source, 1 + DIGEST_BYTES, "utf8");
  key[1 + DIGEST_BYTES + sourceBytes] = 0;
  key.write(path, 1 + DIGEST_BYTES + sourceBytes + 1, "latin1");
  return key;
}

function splitSourcePath(key: Buffer, start: number): { source: string; path: BytePath } {
  const cut = key.indexOf(0, start);
  return { source: key.toString("utf8", start, cut), path: key.toString("latin1", cut + 1) as BytePath };
}

function encodeVersion(state: EntryState): Buffer {
  return Buffer.concat([Buffer.of(STORED), encodeState(state)]);
}

function encodeRemoval({ seq, timeMs }: { readonly seq: number; readonly timeMs: number }): Buffer {
  const writer = new ByteWriter();
  writer.byte(REMOVED);
  writer.varint(seq * SEQ_SCALE);
  writer.varint(timeMs);
  return writer.take();
}

function decodeVersion(value: Buffer): VersionRecord {
  const reader = new ByteReader(value);
  if (reader.byte() === REMOVED) {
    return { seq: reader.varint() / SEQ_SCALE, timeMs: reader.varint(), state: undefined };
  }
  const state = readState(reader);
  return { seq: state.seq, timeMs: state.timeMs, state };
}
