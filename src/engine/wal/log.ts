/**
 * The write-ahead log: sealed records and commit frames appended to numbered segments, acknowledged by group commit
 * (one write and one fdatasync for everything that waits). What is acknowledged survives a power cut. A segment whose
 * fdatasync failed is never trusted again; the log goes on in a new one. `docs/repository-format.md`, section
 * Write-ahead log.
 */
import { createHash } from "node:crypto";
import { type Deferred, deferred, Mutex } from "../../base/concurrency.js";
import { asHoldfastError, errnoOf, HoldfastError } from "../../base/errors.js";
import type { Observer } from "../../base/observe.js";
import { type FileIo, type IoFile, makeFoldersDurably, systemIo } from "../../storage/file-io.js";
import { storeError } from "../../storage/store-error.js";
import { PLAIN_BYTES_MAX } from "../codec/codec.js";
import type { RepositoryKeys } from "../keys.js";
import { RecordSealer, type SealedRecord } from "../pack/record.js";
import {
  encodeFrame,
  encodeSegmentHeader,
  FRAME_HEAD_BYTES,
  NO_HASH,
  SEGMENT_BYTES_MAX,
  SEGMENT_HEADER_BYTES,
  type SegmentInfo,
  removeSegments,
  segmentPath,
  type WalPlace,
  type WalPosition,
} from "./segment.js";

export type { SegmentInfo, WalPlace, WalPosition } from "./segment.js";

export { replayLog, type ReplayedCommit, type ReplayedRecord, type WalDamage, type WalReplay } from "./replay.js";

/** Bytes that may wait for the disk; further appends wait before they are queued. */
export const WAL_QUEUE_BYTES_MAX = 64 * 2 ** 20;
/** Bytes written at once at most, so that one fdatasync stays short. */
const GROUP_BYTES_MAX = 16 * 2 ** 20;

export interface WalReceipt {
  /** Number of the commit: consecutive, from 1. */
  readonly seq: number;
  /** Places of the given records, in their order. */
  readonly places: readonly WalPlace[];
  /** Place of the commit frame. */
  readonly frame: WalPlace;
  /** SHA-256 of the frame's record, hex. */
  readonly frameHash: string;
}

export interface WalCommit {
  readonly records: readonly SealedRecord[];
  /** The caller's own bytes (a delta), sealed inside the frame. At most PLAIN_BYTES_MAX - 64. */
  readonly payload: Uint8Array;
}

export const LOG_START: WalPosition = { nextSeq: 1, lastFrameHash: NO_HASH, nextSegment: 1 };

export interface WalOptions {
  /** `wal/<writer>` in the store folder; made when missing. */
  readonly folder: string;
  readonly keys: RepositoryKeys;
  readonly observer: Observer;
  readonly io?: FileIo;
  /** A new segment begins when one reaches this size, bytes; default 32 MiB. */
  readonly segmentBytesMax?: number;
  /** Asked when commits are durable, before anybody hears of it; a throw ends the log: nothing after it is acknowledged. */
  readonly assertMine?: () => void;
  /** Segments that a replay found, which are still on disk. */
  readonly segments?: readonly SegmentInfo[];
}

/** The segment that is appended to. */
interface OpenSegment {
  readonly segment: number;
  readonly path: string;
  readonly file: IoFile;
  readonly sealer: RecordSealer;
  /** Bytes that are durable and acknowledged, the header included. */
  goodBytes: number;
}

interface Waiting {
  readonly commit: WalCommit;
  readonly bytes: number;
  readonly done: Deferred<WalReceipt>;
}

export class WriteAheadLog implements AsyncDisposable {
  readonly #options: WalOptions;
  readonly #io: FileIo;
  readonly #closed: SegmentInfo[];
  readonly #disk = new Mutex();
  #queue: Waiting[] = [];
  #queuedBytes = 0;
  #room = deferred<undefined>();
  #flushing = false;
  #open: OpenSegment | undefined;
  #nextSeq: number;
  #lastFrameHash: string;
  #nextSegment: number;
  #ended = false;
  /** Why nothing is written any more. */
  #takenOver: HoldfastError | undefined;

  /** Opens nothing yet: the first append creates a segment. */
  constructor(options: WalOptions, position: WalPosition) {
    this.#options = options;
    this.#io = options.io ?? systemIo;
    this.#closed = [...(options.segments ?? [])];
    this.#nextSeq = position.nextSeq;
    this.#lastFrameHash = position.lastFrameHash;
    this.#nextSegment = position.nextSegment;
  }

  /** Where the next commit goes; `end` of a replay at this moment. */
  get position(): WalPosition {
    return { nextSeq: this.#nextSeq, lastFrameHash: this.#lastFrameHash, nextSegment: this.#nextSegment };
  }

  /** Bytes in all segments. */
  get sizeBytes(): number {
    return this.segments().reduce((sum, segment) => sum + segment.sizeBytes, 0);
  }

  /**
   * Resolves when records and frame are durable. Rejects with STORE_FULL, STORE_IO, STORE_READ_ONLY: nothing of this
   * commit counts then, and the next append tries again. Waits while WAL_QUEUE_BYTES_MAX are queued; an abort is
   * heard until then, after it the outcome is waited for.
   */
  async append(commit: WalCommit, signal: AbortSignal): Promise<WalReceipt> {
    if (commit.payload.length > PLAIN_BYTES_MAX - FRAME_HEAD_BYTES) {
      throw new HoldfastError("LIMIT_REACHED", `a commit of ${commit.payload.length} bytes is too long`);
    }
    const bytes = commit.payload.length + commit.records.reduce((sum, record) => sum + record.bytes.length, 0);
    while (this.#queuedBytes > 0 && this.#queuedBytes + bytes > WAL_QUEUE_BYTES_MAX) await this.#room.promise;
    signal.throwIfAborted();
    if (this.#ended) throw new HoldfastError("INTERNAL", "the write-ahead log is closed");
    const waiting: Waiting = { commit, bytes, done: deferred<WalReceipt>() };
    this.#queue.push(waiting);
    this.#queuedBytes += bytes;
    void this.#flush();
    return await waiting.done.promise;
  }

  /** Closes the open segment, so that all segments so far can be sealed; the next append begins a new one. */
  async rotate(): Promise<void> {
    await this.#disk.run(() => this.#closeSegment());
  }

  /** Segments on disk, oldest first, the open one included. */
  segments(): readonly SegmentInfo[] {
    const open = this.#open;
    if (open === undefined) return [...this.#closed];
    return [...this.#closed, { segment: open.segment, path: open.path, sizeBytes: open.goodBytes }];
  }

  /** Removes the segments up to and including this one, oldest first; the open one stays. Of `unread` the file stays. */
  async removeThrough(segment: number, unread?: ReadonlySet<number>): Promise<void> {
    await this.#disk.run(async () => {
      const through = this.#closed.filter((closed) => closed.segment <= segment);
      try {
        await removeSegments(this.#io, through, unread);
        this.#closed.splice(0, through.length);
      } catch (error) {
        throw storeError(error, "removing log segments");
      }
    });
  }

  /** Path of a segment, for readers. */
  segmentPath(segment: number): string {
    return segmentPath(this.#options.folder, segment);
  }

  /** Waits for what is queued and closes the open segment. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await Promise.allSettled(this.#queue.map(({ done }) => done.promise));
    await this.rotate();
  }

  /** One at a time: takes what waits, writes it, until nothing waits. What comes meanwhile is the next group. */
  async #flush(): Promise<void> {
    if (this.#flushing) return;
    this.#flushing = true;
    await Promise.resolve(); // appends of the same turn belong to the same group
    while (this.#queue.length > 0) {
      const group = this.#takeGroup();
      try {
        const receipts = await this.#disk.run(() => this.#writeGroup(group.map(({ commit }) => commit)));
        group.forEach(({ done }, index) => settle(done, receipts[index]));
      } catch (error) {
        for (const { done } of group) done.reject(storeError(error, "writing the write-ahead log"));
      }
      this.#makeRoom(group);
    }
    this.#flushing = false;
  }

  #takeGroup(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const waiting of this.#queue) {
      if (count > 0 && bytes + waiting.bytes > GROUP_BYTES_MAX) break;
      bytes += waiting.bytes;
      count += 1;
    }
    const group = this.#queue.slice(0, count);
    this.#queue = this.#queue.slice(count);
    return group;
  }

  #makeRoom(group: readonly Waiting[]): void {
    for (const { bytes } of group) this.#queuedBytes -= bytes;
    const room = this.#room;
    this.#room = deferred<undefined>();
    room.resolve(undefined);
  }

  async #writeGroup(commits: readonly WalCommit[]): Promise<WalReceipt[]> {
    if (this.#takenOver !== undefined) throw this.#takenOver;
    const open = this.#open ?? (await this.#createSegment());
    const group = new GroupBuilder(open, { seq: this.#nextSeq, hash: this.#lastFrameHash });
    const receipts = commits.map((commit) => group.add(commit));
    await this.#writeDurably(open, group.parts);
    this.#assertMine();
    open.goodBytes = group.endBytes;
    this.#nextSeq = group.nextSeq;
    this.#lastFrameHash = group.lastFrameHash;
    if (open.goodBytes >= (this.#options.segmentBytesMax ?? SEGMENT_BYTES_MAX)) await this.#retire("full");
    return receipts;
  }

  /**
   * Whoever took the log over reads what is there, refused commits included: another one over them would look like damage.
   */
  #assertMine(): void {
    try {
      this.#options.assertMine?.();
    } catch (error) {
      this.#takenOver = asHoldfastError(error, "REPO_LOCKED", "writing the write-ahead log");
      throw error;
    }
  }

  async #writeDurably(open: OpenSegment, parts: readonly Uint8Array[]): Promise<void> {
    try {
      await open.file.write(parts, open.goodBytes);
    } catch (error) {
      await this.#takeBack(open);
      throw error;
    }
    try {
      await open.file.datasync();
    } catch (error) {
      // The kernel may have dropped the dirty pages and call them clean: nothing after this can be trusted.
      await open.file.truncate(open.goodBytes).catch(() => undefined);
      await this.#retire("fdatasync failed");
      throw error;
    }
  }

  /** After a failed write: back to the last good length, durably, or the segment is given up. */
  async #takeBack(open: OpenSegment): Promise<void> {
    try {
      await open.file.truncate(open.goodBytes);
      await open.file.datasync();
    } catch {
      await this.#retire("a failed write could not be taken back");
    }
  }

  async #createSegment(): Promise<OpenSegment> {
    const segment = this.#nextSegment;
    const path = this.segmentPath(segment);
    const { keys, folder } = this.#options;
    this.#assertMine(); // where the store is away nothing is made in its place
    await makeFoldersDurably(this.#io, folder);
    const file = await this.#io.create(path);
    this.#nextSegment += 1; // the number is used up, whatever happens now
    const sealer = new RecordSealer(keys);
    const encrypted = keys.recordMaster !== undefined;
    const repositoryId = Buffer.from(keys.repositoryId);
    const header = encodeSegmentHeader({ segment, encrypted, repositoryId, salt: sealer.salt });
    try {
      await file.write([header], 0);
      await this.#io.syncFolder(folder);
    } catch (error) {
      await file.close().catch(() => undefined);
      await this.#unlinkIfThere(path).catch(() => undefined); // a segment without commits does no harm
      throw error;
    }
    this.#open = { segment, path, file, sealer, goodBytes: SEGMENT_HEADER_BYTES };
    return this.#open;
  }

  async #retire(reason: string): Promise<void> {
    this.#options.observer.log.debug("wal.segment_closed", { segment: this.#open?.segment, reason });
    await this.#closeSegment();
  }

  async #closeSegment(): Promise<void> {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    this.#closed.push({ segment: open.segment, path: open.path, sizeBytes: open.goodBytes });
    try {
      await open.file.close();
    } catch (error) {
      this.#options.observer.log.warn("wal.close_failed", { segment: open.segment, errno: errnoOf(error) });
    }
  }

  async #unlinkIfThere(path: string): Promise<void> {
    try {
      await this.#io.unlink(path);
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
    }
  }
}

/** Lays out the commits of one write: their places, and the frames that chain them. */
class GroupBuilder {
  readonly parts: Uint8Array[] = [];
  readonly #open: OpenSegment;
  endBytes: number;
  nextSeq: number;
  lastFrameHash: string;

  constructor(open: OpenSegment, from: { readonly seq: number; readonly hash: string }) {
    this.#open = open;
    this.endBytes = open.goodBytes;
    this.nextSeq = from.seq;
    this.lastFrameHash = from.hash;
  }

  add(commit: WalCommit): WalReceipt {
    const places = commit.records.map((record) => this.#place(record.bytes));
    const head = {
      seq: this.nextSeq,
      groupStartBytes: this.#open.goodBytes,
      recordCount: commit.records.length,
      previousHash: this.lastFrameHash,
    };
    const frame = this.#open.sealer.seal("frame", encodeFrame(head, commit.payload), "lz4");
    this.lastFrameHash = createHash("sha256").update(frame.bytes).digest("hex");
    const receipt = { seq: this.nextSeq, places, frame: this.#place(frame.bytes), frameHash: this.lastFrameHash };
    this.nextSeq += 1;
    return receipt;
  }

  #place(bytes: Uint8Array): WalPlace {
    const place = { segment: this.#open.segment, offsetBytes: this.endBytes, recordBytes: bytes.length };
    this.parts.push(bytes);
    this.endBytes += bytes.length;
    return place;
  }
}

function settle(done: Deferred<WalReceipt>, receipt: WalReceipt | undefined): void {
  if (receipt === undefined) done.reject(new HoldfastError("INTERNAL", "a commit has no receipt"));
  else done.resolve(receipt);
}
