/**
 * The reading half of a backup: compares a walk with the current entries, gives what differs to the workers in
 * batches, and stores the outcomes in rounds - packs, fragment, delta commit - so that a backup of any size takes flat
 * memory, and one that is cut short keeps what it has done.
 */
import { type BytePath, isWithin } from "../base/paths.js";
import { knownTree } from "./built-trees.js";
import { commitRound, type Round, TouchedPaths } from "./backup-round.js";
import { cutChanges } from "./commit.js";
import type { Compression } from "./codec/codec.js";
import type { RepositoryCore } from "./core.js";
import { PAGE_ENDED, type CurrentCursor } from "./index/current-cursor.js";
import { type CurrentRecord, STATE_OFFSET, slotOf, stateOf } from "./index/entry-index.js";
import type { BackupProgress, BackupSource, WalkedEntry, WalkedNode, WalkFailure } from "./repository-types.js";
import { readingTimeMs } from "./rot.js";
import { ByteWriter } from "./tree/bytes.js";
import { isMarkedAbsent, isMarkedTorn, looksUnchanged } from "./tree/codec.js";
import { type Delta, type DeltaChange, encodeDelta } from "./tree/delta.js";
import { writeUnstamped } from "./tree/unstamped.js";
import { SOCKET_ERRNO, WalkedBatch } from "./walked-batch.js";
import { BATCH_BYTES_AIM, BATCH_FILES_MAX } from "./workers/pool.js";

/** A round ends at this many files or bytes read: 8192 nodes are about 10 MB of memory, their content some packs. */
const ROUND_FILES = 8192;
const ROUND_BYTES = 256 * 2 ** 20;
/** Files that are given to workers that have nothing to do, though a batch would hold more. */
const EARLY_FILES_MIN = 32;
/** Failures of a walk that are remembered; beyond it a source counts as not looked at below its root. */
const FAILURES_MAX = 100_000;

/** Paths of one sort that a manifest names. */
const NAMED_MAX = 100;

/** Paths that are counted, of which the first are named. */
export class NamedPaths {
  readonly paths: BytePath[] = [];
  count = 0;

  add(path: BytePath): void {
    this.count += 1;
    if (this.paths.length < NAMED_MAX) this.paths.push(path);
  }
}

/** A set of small whole numbers. */
export class Bitmap {
  #bits = new Uint8Array(1024);
  /** Numbers in it. */
  count = 0;

  add(index: number): void {
    if (this.has(index)) return;
    this.count += 1;
    const byte = index >>> 3;
    if (byte >= this.#bits.length) {
      const bigger = new Uint8Array(Math.max(byte + 1, this.#bits.length * 2));
      bigger.set(this.#bits);
      this.#bits = bigger;
    }
    this.#bits[byte] = (this.#bits[byte] ?? 0) | (1 << (index & 7));
  }

  has(index: number): boolean {
    return ((this.#bits[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }
}

export interface ReadOptions {
  readonly compression: Compression;
  /** Read every file again, whatever its stat says. */
  readonly everything: boolean;
  readonly onProgress: ((progress: BackupProgress) => void) | undefined;
}

/** A path to be read, with its current record when the walk came by. */
interface Wanted {
  readonly path: BytePath;
  /** Of a file, as the walk saw it; otherwise 0. */
  readonly sizeBytes: number;
  readonly known: CurrentRecord | undefined;
}

export class SourceReader {
  readonly #core: RepositoryCore;
  readonly #source: BackupSource;
  readonly #options: ReadOptions;
  readonly #signal: AbortSignal;
  readonly seen = new Bitmap();
  /** Those of the last tree that were seen again; only counted while no other commit touches the source. */
  readonly #stillThere = new Bitmap();
  /** Entries that the source had, absent ones not counted; undefined when no tree tells. */
  #entriesBefore: number | undefined;
  readonly #touched = new TouchedPaths();
  /** False: the source had no entries when its reading began, so only what other commits touched is looked up. */
  #hadEntries = true;
  /** The last path of the walk so far as it was in order; undefined: it was not. */
  #lastPath: BytePath | "" | undefined = "";
  readonly #failures = new Set<BytePath>();
  #batch: Wanted[] = [];
  #batchBytes = 0;
  #round: Round;
  /** The round before, on its way into the store. */
  #closing: Promise<void> = Promise.resolve();
  filesSeen = 0;
  filesRead = 0;
  bytesRead = 0;
  storedBytes = 0;
  unreadable = 0;
  /** Those whose content changed though nobody wrote it. */
  readonly suspected = new NamedPaths();
  readonly sockets = new NamedPaths();
  /** Of what was read. */
  readonly immutable = new NamedPaths();

  constructor(core: RepositoryCore, source: BackupSource, options: ReadOptions, signal: AbortSignal) {
    this.#core = core;
    this.#source = source;
    this.#options = options;
    this.#signal = signal;
    this.#round = this.#newRound();
  }

  #newRound(): Round {
    const job = this.#core.parts.chunkSet.newJob();
    return {
      ...{ job, outcomes: [], packs: [], returned: [], files: 0, bytes: 0 },
      startMs: readingTimeMs(this.#core.parts.clock),
      known: new Map<BytePath, CurrentRecord | undefined>(),
      running: new Set<Promise<void>>(),
    };
  }

  /** Reads the whole walk; everything is stored and in the catalog when it resolves. */
  async read(): Promise<void> {
    const listener = (delta: Delta): void => this.#noteDelta(delta);
    this.#core.deltaListeners.add(listener);
    this.#hadEntries = this.#core.parts.catalog.entries.sourceNames.has(this.#source.name);
    this.#entriesBefore = knownTree(this.#core.parts.catalog, this.#source.name)?.entryCount;
    try {
      const isBeside = this.#hadEntries && this.#source.restIsStored !== true;
      await using cursor = isBeside ? this.#core.parts.catalog.entries.cursor(this.#source.name) : undefined;
      for await (const entries of this.#source.walk) {
        this.#signal.throwIfAborted();
        if (cursor !== undefined && entries instanceof WalkedBatch && this.#goesOn(entries)) {
          for (let index = 0; index < entries.length; index += 1) {
            if (!this.#lookBeside(entries, index, cursor)) {
              await cursor.fetch();
              index -= 1;
            }
          }
        } else {
          for (const entry of entries) this.#look(entry, this.#current(entry.path));
        }
        while (this.#isWorthReading()) await this.#startBatch();
        this.#tell();
      }
      while (this.#batch.length > 0) await this.#startBatch();
      await this.#endRound();
      await this.#closing;
      await this.#markAbsent();
      this.#tell();
    } catch (error) {
      await Promise.allSettled([...this.#round.running, this.#closing]);
      await this.#core.parts.pool.abandon(this.#round.job, this.#round.packs);
      throw error;
    } finally {
      this.#core.deltaListeners.delete(listener);
    }
  }

  #tell(): void {
    const { filesSeen, filesRead, bytesRead } = this;
    this.#options.onProgress?.({ source: this.#source.name, filesSeen, filesRead, bytesRead });
  }

  /** An on-change commit during the walk: what it stored belongs to the backup, whether the walk saw it or not. */
  #noteDelta(delta: Delta): void {
    if (delta.source !== this.#source.name) return;
    this.#touched.note(delta);
    for (const change of delta.changes) {
      if (change.kind === "upsert" && change.state.absentSinceMs === undefined) this.#markSeen(change.path);
    }
  }

  #markSeen(path: BytePath): void {
    const record = this.#core.parts.catalog.entries.current(this.#source.name, path);
    if (record !== undefined) this.seen.add(record.slot);
  }

  #current(path: BytePath): CurrentRecord | undefined {
    if (!this.#hadEntries && !this.#touched.has(path)) return undefined;
    return this.#core.parts.catalog.entries.current(this.#source.name, path);
  }

  /** True when the batch goes on in byte order; once it did not, nothing does. */
  #goesOn(batch: WalkedBatch): boolean {
    if (this.#lastPath === undefined) return false;
    const isInOrder = batch.isSorted && this.#lastPath < batch.pathAt(0);
    this.#lastPath = isInOrder ? batch.pathAt(batch.length - 1) : undefined;
    return isInOrder;
  }

  /** Looks at an entry of a batch beside the current one; false when the cursor has to fetch first. */
  #lookBeside(batch: WalkedBatch, index: number, cursor: CurrentCursor): boolean {
    const value = cursor.find((key, keyStart) => batch.comparePath(index, key, keyStart));
    if (value === PAGE_ENDED) return false;
    if (value !== undefined && this.#isAsKnown(batch, index, value)) {
      // What other commits did to the path meanwhile is in the backup anyway.
      if (batch.kindAt(index) !== "folder") this.filesSeen += 1;
      this.#noteStillThere(slotOf(value));
      return true;
    }
    const entry = batch.entryAt(index);
    const { path } = entry;
    const { name: source } = this.#source;
    if (this.#touched.has(path)) this.#look(entry, this.#current(path));
    else this.#look(entry, value === undefined ? undefined : { source, path, slot: slotOf(value), value });
    return true;
  }

  #isAsKnown(batch: WalkedBatch, index: number, value: Buffer): boolean {
    if (this.#options.everything || isMarkedTorn(value, STATE_OFFSET) || isMarkedAbsent(value, STATE_OFFSET))
      return false;
    return batch.looksUnchanged(index, value, STATE_OFFSET);
  }

  #look(entry: WalkedEntry, known: CurrentRecord | undefined): void {
    if ("errno" in entry) {
      this.#noteUnlooked(entry);
      return;
    }
    if (entry.kind !== "folder") this.filesSeen += 1;
    if (known === undefined) {
      this.#want(entry, known);
      return;
    }
    const unchanged = looksUnchanged(known.value, STATE_OFFSET, entry.kind, entry.stat);
    if (this.#options.everything || !unchanged || isMarkedTorn(known.value, STATE_OFFSET)) {
      this.#want(entry, known);
      return;
    }
    if (isMarkedAbsent(known.value, STATE_OFFSET)) {
      const writer = new ByteWriter();
      writeUnstamped(writer, stateOf(known).node);
      this.#round.returned.push({ path: entry.path, unstamped: writer.take() });
      this.seen.add(known.slot);
    } else this.#noteStillThere(known.slot);
  }

  #noteStillThere(slot: number): void {
    this.seen.add(slot);
    this.#stillThere.add(slot);
  }

  #noteSuspect(path: BytePath): void {
    this.unreadable += 1;
    this.suspected.add(path);
    this.#source.onSuspect?.(path);
  }

  /** A known file that became a socket is not there any more: it is no failure. */
  #noteUnlooked({ path, errno }: WalkFailure): void {
    if (errno === SOCKET_ERRNO) {
      this.sockets.add(path);
      return;
    }
    if (this.#failures.has(path)) return; // each stretch of a parted walk tells what it meets on its way
    this.unreadable += 1;
    this.#noteFailure(path);
  }

  #noteFailure(path: BytePath): void {
    const isFull = this.#failures.size >= FAILURES_MAX;
    if (isFull) this.#failures.clear();
    for (const failed of isFull ? this.#source.roots : [path]) this.#failures.add(failed);
  }

  #want(entry: WalkedNode, known: CurrentRecord | undefined): void {
    if (this.#source.heldBack?.(entry.path) === true) {
      this.unreadable += 1;
      this.#noteFailure(entry.path);
      return;
    }
    this.#core.parts.pool.warm(); // while the walk goes on
    const sizeBytes = entry.kind === "file" ? entry.stat.sizeBytes : 0;
    this.#batch.push({ path: entry.path, sizeBytes, known });
    this.#batchBytes += sizeBytes;
  }

  /** True when a batch is full; or when few are changed and the workers would have nothing to do until the walk ends. */
  #isWorthReading(): boolean {
    if (this.#batch.length >= BATCH_FILES_MAX || this.#batchBytes >= BATCH_BYTES_AIM) return true;
    return this.#batch.length >= EARLY_FILES_MIN && this.#round.running.size === 0;
  }

  /** The first of what is wanted, no more than a batch holds: large files that lie together go to several workers. */
  #takeBatch(): Wanted[] {
    let count = 0;
    let bytes = 0;
    for (const { sizeBytes } of this.#batch) {
      if (count >= BATCH_FILES_MAX || bytes >= BATCH_BYTES_AIM) break;
      count += 1;
      bytes += sizeBytes;
    }
    this.#batchBytes -= bytes;
    return this.#batch.splice(0, count);
  }

  async #startBatch(): Promise<void> {
    const batch = this.#takeBatch();
    const round = this.#round;
    for (const { path, known } of batch) round.known.set(path, known);
    const running = this.#ingest(round, batch);
    round.running.add(running);
    running.then(
      () => round.running.delete(running),
      () => undefined, // heard where the round is awaited
    );
    // As many as the workers are given at a time, and one that is ready for them.
    while (round.running.size > this.#core.parts.pool.tasks) await Promise.race(round.running);
    if (round.files >= ROUND_FILES || round.bytes >= ROUND_BYTES) await this.#endRound();
  }

  async #ingest(round: Round, batch: readonly Wanted[]): Promise<void> {
    const { pool } = this.#core.parts;
    const paths = batch.map(({ path }) => path);
    const result = await pool.ingest(
      { job: round.job, mode: "pack", compression: this.#options.compression, paths },
      this.#signal,
    );
    for (const outcome of result.outcomes) round.outcomes.push(outcome);
    for (const path of result.immutable) this.immutable.add(path);
    round.packs.push(...result.packs);
    round.files += paths.length;
    round.bytes += result.readBytes;
    this.filesRead += paths.length;
    this.bytesRead += result.readBytes;
  }

  /** Begins the next round; this one's packs are closed and stored beside it, after the round before. */
  async #endRound(): Promise<void> {
    await this.#closing;
    const round = this.#round;
    this.#round = this.#newRound();
    this.#closing = this.#close(round);
    this.#closing.catch(() => undefined); // heard where it is awaited
  }

  async #close(round: Round): Promise<void> {
    const { pool } = this.#core.parts;
    try {
      await Promise.all(round.running);
      if (round.files > 0) round.packs.push(...(await pool.finishPacks(round.job, this.#signal)));
      await this.#store(round);
    } catch (error) {
      await Promise.allSettled(round.running);
      await pool.abandon(round.job, round.packs);
      throw error;
    }
  }

  async #store(round: Round): Promise<void> {
    const { chunkSet } = this.#core.parts;
    this.storedBytes += await this.#core.storePacks(round.packs, this.#signal);
    chunkSet.confirmJob(round.job);
    const paths = [...round.known.keys(), ...round.returned.map(({ path }) => path)];
    if (paths.length === 0) return;
    const names = paths.map((path) => `${this.#source.name}\0${path}`);
    const commit = {
      source: this.#source.name,
      touched: this.#touched,
      verifiedMs: (path: BytePath, sha256: string) => this.#source.verifiedMs?.(path, sha256),
      noteSeen: (slot: number) => this.seen.add(slot),
      noteStillThere: (slot: number) => this.#noteStillThere(slot),
      noteUnreadable: () => (this.unreadable += 1),
      noteSuspect: (path: BytePath) => this.#noteSuspect(path),
    };
    await this.#core.pathLocks.run(names, () => commitRound(this.#core, round, commit, this.#signal));
  }

  async #commitDelta(timeMs: number, changesAt: (seq: number) => DeltaChange[]): Promise<void> {
    await this.#core.appendGate.shared(async () => {
      const seq = this.#core.nextSeq();
      const delta = { source: this.#source.name, seq, timeMs, changes: changesAt(seq) };
      const body = { kind: "deltas", firstSeq: seq, lastSeq: seq } as const;
      await this.#core.commit(body, [encodeDelta(delta)], this.#signal);
      await this.#core.applyDelta(delta);
    });
  }

  /** Marks what the walk did not find and no commit removed: it is in no later backup until it is seen again. */
  async #markAbsent(): Promise<void> {
    if (this.#source.restIsStored === true) return;
    const { catalog, clock } = this.#core.parts;
    // As much of the last tree was seen again as it holds, and nobody else changed it: nothing can be gone.
    if (this.#touched.isEmpty && this.#entriesBefore === this.#stillThere.count) return;
    const failures = [...this.#failures];
    const gone: BytePath[] = [];
    for await (const page of catalog.entries.currentPages(this.#source.name)) {
      this.#signal.throwIfAborted();
      for (const record of page) {
        if (this.seen.has(record.slot) || isMarkedAbsent(record.value, STATE_OFFSET)) continue;
        if (failures.some((failed) => isWithin(record.path, failed))) this.seen.add(record.slot);
        else gone.push(record.path);
      }
      if (gone.length >= ROUND_FILES) await this.#commitAbsent(gone.splice(0), clock.nowMs());
    }
    if (gone.length > 0) await this.#commitAbsent(gone, clock.nowMs());
  }

  async #commitAbsent(paths: readonly BytePath[], timeMs: number): Promise<void> {
    const source = this.#source.name;
    const { entries } = this.#core.parts.catalog;
    const names = paths.map((path) => `${source}\0${path}`);
    await this.#core.pathLocks.run(names, async () => {
      const upserts = paths.flatMap((path) => {
        const known = entries.current(source, path);
        // Committed or removed meanwhile: nothing to mark.
        if (known === undefined || this.seen.has(known.slot)) return [];
        return [{ path, state: { ...stateOf(known), absentSinceMs: timeMs } }];
      });
      const groups = cutChanges({
        upserts: upserts.map(({ path, state }) => ({ path, node: state.node })),
        removed: [],
      });
      const states = new Map(upserts.map(({ path, state }) => [path, state]));
      for (const group of groups) {
        await this.#commitDelta(timeMs, () =>
          group.upserts.flatMap(({ path }) => {
            const state = states.get(path);
            return state === undefined ? [] : [{ kind: "upsert" as const, path, state }];
          }),
        );
      }
    });
  }
}
