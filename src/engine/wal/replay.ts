/**
 * Reading the log after a start. What follows the last valid frame is a torn tail: it was never acknowledged and is
 * cut. Damage with valid frames behind it is reported, and the frames behind it still count. When a segment was given
 * up after a failed write, the next one says by its first frame which frame it follows; frames of the old one behind
 * that one were refused to their callers and are dropped.
 */
import { createHash } from "node:crypto";
import { errnoOf, hasCode } from "../../base/errors.js";
import { type FileIo, systemIo } from "../../storage/file-io.js";
import { storeError } from "../../storage/store-error.js";
import type { RepositoryKeys } from "../keys.js";
import { type BundledChunk, RecordOpener, type RecordType } from "../pack/record.js";
import { orDamaged, type ScanItem, scanRecords } from "../pack/scan.js";
import { salvaging } from "../pack/salvage.js";
import { FileSource } from "../pack/source.js";
import type { ChunkId } from "../types.js";
import {
  type Frame,
  NO_HASH,
  parseFrame,
  parseSegmentHeader,
  SEGMENT_BYTES_MAX,
  SEGMENT_HEADER_BYTES,
  type SegmentInfo,
  segmentNumber,
  segmentPath,
  type WalPlace,
  type WalPosition,
} from "./segment.js";

/** A record of a commit; its bytes are read from its place. */
export interface ReplayedRecord {
  readonly type: RecordType;
  readonly id: ChunkId;
  readonly plainBytes: number;
  readonly inner?: readonly BundledChunk[];
  readonly place: WalPlace;
}

/** A committed frame with the records that were appended with it. */
export interface ReplayedCommit {
  readonly seq: number;
  readonly payload: Buffer;
  readonly frame: WalPlace;
  /** SHA-256 of the frame's record, hex. */
  readonly frameHash: string;
  readonly records: readonly ReplayedRecord[];
  /** False when damage took some of its records. */
  readonly complete: boolean;
}

/** Damage before the last valid frame of a segment. */
export interface WalDamage {
  readonly segment: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly reason: string;
  /** True when acknowledged data is hit for sure; false when a power cut during the last write explains it too. */
  readonly certain: boolean;
}

export interface WalReplay {
  /** Where the log goes on. With no commits in it: seq 1, which a caller that has sealed commits replaces by its own. */
  readonly end: WalPosition;
  readonly segments: readonly SegmentInfo[];
  readonly damage: readonly WalDamage[];
  /** Bytes cut from torn tails: never acknowledged. */
  readonly tornBytes: number;
}

/** A frame as a scan found it. Payloads are read again when they are delivered, so that memory stays flat. */
interface FoundFrame {
  readonly seq: number;
  readonly hash: string;
  readonly previousHash: string;
  readonly groupStartBytes: number;
  readonly place: WalPlace;
  readonly records: readonly ReplayedRecord[];
  readonly complete: boolean;
}

interface ScannedSegment extends SegmentInfo {
  readonly frames: readonly FoundFrame[];
  readonly damage: readonly WalDamage[];
  readonly tornBytes: number;
}

export interface LogToReplay {
  readonly folder: string;
  readonly keys: RepositoryKeys;
  readonly io?: FileIo;
}

/**
 * Reads a log from its first segment, calling `onCommit` for each committed frame in order. A missing folder is an
 * empty log. Throws REPO_FORMAT_UNSUPPORTED, STORE_IO.
 */
export async function replayLog(
  { folder, keys, io = systemIo }: LogToReplay,
  onCommit: (commit: ReplayedCommit) => Promise<void> | void,
  signal: AbortSignal,
): Promise<WalReplay> {
  const opener = new RecordOpener(keys);
  const numbers = await segmentNumbers(folder, io);
  const scanned: ScannedSegment[] = [];
  for (const number of numbers) {
    scanned.push(await scanOrNothing({ segment: number, path: segmentPath(folder, number), io }, opener, signal));
  }
  const delivery = new Delivery({ opener, io, onCommit });
  for (const [index, segment] of scanned.entries()) {
    const following = scanned.slice(index + 1).find(({ frames }) => frames.length > 0);
    const frames = withoutRefused(segment.frames, following?.frames[0]);
    // Only the last write of a segment can be torn, and that of a full one was durable when the log went on. A smaller
    // one may be followed by what a start wrote after a power cut, which had found the last write torn as well.
    const isFollowed = following !== undefined && segment.sizeBytes >= SEGMENT_BYTES_MAX;
    const lastWriteBytes = isFollowed ? undefined : frames.at(-1)?.groupStartBytes;
    await delivery.deliver(segment, frames, lastWriteBytes ?? Number.POSITIVE_INFINITY, signal);
  }
  return {
    end: { ...delivery.end, nextSegment: (numbers.at(-1) ?? 0) + 1 },
    segments: scanned.map(({ segment, path, sizeBytes, isUnread }) => ({
      ...{ segment, path, sizeBytes },
      ...(isUnread === true || delivery.unread.has(segment) ? { isUnread: true } : {}),
    })),
    damage: delivery.damage,
    tornBytes: scanned.reduce((sum, segment) => sum + segment.tornBytes, 0),
  };
}

/** Drops frames that the next segment's first frame does not follow although it follows one before them. */
function withoutRefused(frames: readonly FoundFrame[], next: FoundFrame | undefined): readonly FoundFrame[] {
  if (next === undefined) return frames;
  const last = frames.at(-1);
  if (last === undefined || last.hash === next.previousHash) return frames;
  const followed = frames.findIndex((frame) => frame.hash === next.previousHash);
  if (followed >= 0) return frames.slice(0, followed + 1);
  // All frames of this segment were refused: the next one follows what the first of them followed.
  return frames[0]?.previousHash === next.previousHash ? [] : frames;
}

interface DeliveryOptions {
  readonly opener: RecordOpener;
  readonly io: FileIo;
  readonly onCommit: (commit: ReplayedCommit) => Promise<void> | void;
}

/** Hands commits to the caller in order and watches the chain. */
class Delivery {
  readonly damage: WalDamage[] = [];
  /** Segments of which something that was scanned did not read again. */
  readonly unread = new Set<number>();
  end = { nextSeq: 1, lastFrameHash: NO_HASH };
  readonly #options: DeliveryOptions;
  #any = false;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** What begins at `lastWriteBytes` or behind may never have been acknowledged. */
  async deliver(
    segment: ScannedSegment,
    frames: readonly FoundFrame[],
    lastWriteBytes: number,
    signal: AbortSignal,
  ): Promise<void> {
    for (const damage of segment.damage) {
      // A segment's header is synced together with its first commits.
      const writtenAtBytes = Math.max(damage.offsetBytes, SEGMENT_HEADER_BYTES);
      this.damage.push({ ...damage, certain: damage.certain || writtenAtBytes < lastWriteBytes });
    }
    if (frames.length === 0) return;
    const { opener, io, onCommit } = this.#options;
    await using file = await FileSource.open(segment.path, io);
    const source = salvaging(file);
    for (const frame of frames) {
      signal.throwIfAborted();
      // Whatever a new segment's first commit follows was whole when that was begun.
      this.#checkChain(frame, frame === frames[0] || frame.groupStartBytes < lastWriteBytes);
      const { offsetBytes, recordBytes } = frame.place;
      const bytes = await source.read(offsetBytes, recordBytes, signal);
      const payload = orDamaged(() => parseFrame(opener.open(bytes).plain).payload);
      const { seq, place, records, complete } = frame;
      if (payload === undefined) {
        const reason = "a commit did not read a second time";
        this.damage.push({ segment: segment.segment, offsetBytes, lengthBytes: recordBytes, reason, certain: true });
        this.unread.add(segment.segment);
        continue;
      }
      await onCommit({ seq, payload, frame: place, frameHash: frame.hash, records, complete });
      this.end = { nextSeq: frame.seq + 1, lastFrameHash: frame.hash };
      this.#any = true;
    }
  }

  /** Nothing can be said of the first frame: segments before it were sealed and removed. */
  #checkChain(frame: FoundFrame, certain: boolean): void {
    const follows = frame.seq === this.end.nextSeq && frame.previousHash === this.end.lastFrameHash;
    if (!this.#any || follows) return;
    const { segment, offsetBytes } = frame.place;
    const reason = `commit ${frame.seq} does not follow commit ${this.end.nextSeq - 1}: commits are missing`;
    const known = this.damage.some((damage) => damage.segment === segment && damage.offsetBytes < offsetBytes);
    if (!known) this.damage.push({ segment, offsetBytes, lengthBytes: 0, reason, certain });
  }
}

async function segmentNumbers(folder: string, io: FileIo): Promise<number[]> {
  try {
    const entries = await io.list(folder);
    return entries
      .map(({ name }) => segmentNumber(name))
      .filter((number) => number !== undefined)
      .sort((a, b) => a - b);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw storeError(error, "reading the write-ahead log");
  }
}

interface SegmentFile {
  readonly segment: number;
  readonly path: string;
  readonly io: FileIo;
}

/** A segment of which too much does not read has no commits for now. */
async function scanOrNothing(file: SegmentFile, opener: RecordOpener, signal: AbortSignal): Promise<ScannedSegment> {
  try {
    return await scanSegment(file, opener, signal);
  } catch (error) {
    if (!hasCode(error, "STORE_IO")) throw error;
    const { segment, path } = file;
    const damage = { segment, offsetBytes: 0, lengthBytes: 0, reason: error.message, certain: true };
    return { segment, path, sizeBytes: 0, frames: [], damage: [damage], tornBytes: 0, isUnread: true };
  }
}

async function scanSegment(
  { segment, path, io }: SegmentFile,
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<ScannedSegment> {
  await using file = await FileSource.open(path, io);
  const source = salvaging(file);
  const header = parseSegmentHeader(await source.read(0, SEGMENT_HEADER_BYTES, signal));
  if (header !== undefined && !header.repositoryId.equals(opener.keys.repositoryId)) {
    const reason = "the segment is of another repository";
    const damage = { segment, offsetBytes: 0, lengthBytes: source.sizeBytes, reason, certain: true };
    return { segment, path, sizeBytes: source.sizeBytes, frames: [], damage: [damage], tornBytes: 0 };
  }
  const collector = new Collector(segment, header?.salt);
  if (header === undefined) collector.noteDamage(0, Math.min(SEGMENT_HEADER_BYTES, source.sizeBytes));
  for await (const item of scanRecords(source, opener, SEGMENT_HEADER_BYTES, signal)) {
    if (item.kind === "damage") collector.noteDamage(item.offsetBytes, item.lengthBytes);
    else collector.noteRecord(item);
  }
  const found = { segment, path, sizeBytes: source.sizeBytes, ...collector.result(source.sizeBytes) };
  if (source.badPieces === 0) return found;
  // Also behind the last frame: whether that was a torn tail cannot be told.
  const reason = "places of the disk under it do not read";
  const damage = { segment, offsetBytes: 0, lengthBytes: source.sizeBytes, reason, certain: true };
  return { ...found, damage: [...found.damage, damage], isUnread: true };
}

/** Gathers records into commits as the scan meets them. */
class Collector {
  readonly #segment: number;
  readonly #frames: FoundFrame[] = [];
  readonly #damage: WalDamage[] = [];
  #salt: string | undefined;
  #records: ReplayedRecord[] = [];
  #recordsBeforeDamage = 0;
  #open: { offsetBytes: number; lengthBytes: number }[] = [];
  #cutBytes = SEGMENT_HEADER_BYTES;

  constructor(segment: number, salt: string | undefined) {
    this.#segment = segment;
    this.#salt = salt;
  }

  noteDamage(offsetBytes: number, lengthBytes: number): void {
    if (lengthBytes === 0) return;
    this.#open.push({ offsetBytes, lengthBytes });
    this.#recordsBeforeDamage = this.#records.length;
  }

  noteRecord(item: ScanItem & { kind: "record" }): void {
    const { header } = item.opened;
    if (header.type !== "frame") {
      this.#records.push({
        type: header.type,
        id: header.id,
        plainBytes: header.plainBytes,
        place: this.#placeOf(item),
        ...(item.inner === undefined ? {} : { inner: item.inner }),
      });
      return;
    }
    this.#salt ??= header.salt; // only when the segment's header is damaged
    if (header.salt !== this.#salt) return; // content that looks like a frame
    const frame = orDamaged(() => parseFrame(item.opened.plain));
    if (frame === undefined) this.noteDamage(item.offsetBytes, item.bytes.length);
    else this.#noteFrame(item, frame);
  }

  #noteFrame(item: ScanItem & { kind: "record" }, frame: Frame): void {
    for (const { offsetBytes, lengthBytes } of this.#open) {
      const reason = "commits lie behind damaged bytes";
      this.#damage.push({ segment: this.#segment, offsetBytes, lengthBytes, reason, certain: false });
    }
    this.#frames.push({
      seq: frame.seq,
      hash: createHash("sha256").update(item.bytes).digest("hex"),
      previousHash: frame.previousHash,
      groupStartBytes: frame.groupStartBytes,
      place: this.#placeOf(item),
      // With those of a frame that damage took: later commits may rely on their chunks.
      records: this.#records,
      complete: this.#records.length - this.#recordsBeforeDamage >= frame.recordCount,
    });
    this.#open = [];
    this.#records = [];
    this.#recordsBeforeDamage = 0;
    this.#cutBytes = item.offsetBytes + item.bytes.length;
  }

  #placeOf(item: ScanItem & { kind: "record" }): WalPlace {
    return { segment: this.#segment, offsetBytes: item.offsetBytes, recordBytes: item.bytes.length };
  }

  result(sizeBytes: number): { frames: FoundFrame[]; damage: WalDamage[]; tornBytes: number } {
    const tornBytes = Math.max(0, sizeBytes - this.#cutBytes);
    return { frames: this.#frames, damage: this.#damage, tornBytes };
  }
}
