/**
 * Moving the write-ahead log into packs: records are copied as they are, deltas become a commit object. Order: packs,
 * index fragment, commit, catalog, and only then the segment goes. A crash in between leaves things twice, never once too few.
 */
import { basename } from "node:path";
import { hasCode } from "../base/errors.js";
import type { FileIo } from "../storage/file-io.js";
import { type RepositoryCore, segmentName } from "./core.js";
import type { ChunkHolder } from "./index/chunk-index.js";
import type { LevelOperation } from "./index/level-store.js";
import type { FinishedPack, PackEntry } from "./pack/format.js";
import { crcMatches } from "./pack/record.js";
import { salvaging } from "./pack/salvage.js";
import { FileSource } from "./pack/source.js";
import type { SealReceipt } from "./repository-types.js";
import type { WalPosition } from "./wal/log.js";
import { UNREAD_SUFFIX } from "./wal/segment.js";
import type { TailSegment, WalTail } from "./wal-tail.js";

/** A log to be sealed: our own, or one that another writer left behind. */
export interface SealableLog {
  readonly writer: string;
  readonly tail: WalTail;
  /** Where the log goes on; only of our own. */
  readonly position?: () => WalPosition;
  /** Removes the segments up to and including this one; of those that did not read as a whole the files are kept. */
  readonly removeThrough: (segment: number, unread: ReadonlySet<number>) => Promise<void>;
}

/** Seals our own log. Holds commits up only for the moment in which a new segment begins. */
export async function sealOwnLog(core: RepositoryCore, signal: AbortSignal): Promise<SealReceipt> {
  const { wal } = core.writeSide();
  const { writerId } = core.parts;
  return await core.maintenance.run(async () => {
    const segments = await core.appendGate.exclusive(async () => {
      await wal.rotate();
      return core.tail.segments();
    });
    const removeThrough: SealableLog["removeThrough"] = (segment, unread) => wal.removeThrough(segment, unread);
    const log = { writer: writerId, tail: core.tail, removeThrough, position: () => wal.position };
    return await sealSegments(core, log, segments, signal);
  }, signal);
}

/** Seals whole segments of a log. The caller holds the maintenance lock, and nothing is appended to these segments. */
export async function sealSegments(
  core: RepositoryCore,
  log: SealableLog,
  segments: readonly TailSegment[],
  signal: AbortSignal,
): Promise<SealReceipt> {
  const last = segments.at(-1);
  if (last === undefined) return { segments: 0, chunks: 0, sealedBytes: 0 };
  const { packs, chunks, unread } = await copyIntoPacks(core, log.writer, segments, signal);
  const sealedBytes = await core.storePacks(packs, signal);
  const deltas = segments.flatMap((segment) => segment.deltas);
  if (deltas.length > 0) {
    const firstSeq = Math.min(...segments.filter(({ lastSeq }) => lastSeq > 0).map((segment) => segment.firstSeq));
    const lastSeq = Math.max(...segments.map((segment) => segment.lastSeq));
    const logEnd = log.position?.();
    await core.commit(
      { kind: "deltas", firstSeq, lastSeq, ...(logEnd === undefined ? {} : { logEnd }) },
      deltas,
      signal,
    );
  }
  await forgetHolders(core, log.writer, segments);
  // Sealed for good: a segment that cannot be removed now goes with the next one, or is replayed without harm.
  log.tail.dropThrough(last.segment);
  for (const { segment, path } of segments) {
    if (unread.has(segment)) core.parts.unread.add(unreadKey(log.writer, path), "places of it do not read");
  }
  await log.removeThrough(last.segment, unread);
  core.log.debug("wal.sealed", { segments: segments.length, chunks, sealedBytes });
  return { segments: segments.length, chunks, sealedBytes };
}

async function copyIntoPacks(
  core: RepositoryCore,
  logWriter: string,
  segments: readonly TailSegment[],
  signal: AbortSignal,
): Promise<{ packs: FinishedPack[]; chunks: number; unread: ReadonlySet<number> }> {
  const unread = new Set<number>();
  const packs: FinishedPack[] = [];
  let writer = core.newPack("d");
  let chunks = 0;
  try {
    for (const segment of segments) {
      if (segment.entries.length === 0) continue;
      const { bytes, isWhole } = await segmentBytes(segment.path, core.parts.io, signal);
      if (!isWhole) unread.add(segment.segment);
      for (const entry of segment.entries) {
        signal.throwIfAborted();
        const record = bytes.subarray(entry.offsetBytes, entry.offsetBytes + entry.recordBytes);
        if (record.length < entry.recordBytes || !crcMatches(record)) {
          await markRecordSuspect(core, entry, holderOf(core, logWriter, segment));
          continue;
        }
        await writer.add({ ...entry, bytes: record });
        chunks += entry.inner?.length ?? 1;
        if (!writer.full) continue;
        const pack = await writer.finish();
        if (pack !== undefined) packs.push(pack);
        writer = core.newPack("d");
      }
    }
    const pack = await writer.finish();
    if (pack !== undefined) packs.push(pack);
    return { packs, chunks, unread };
  } finally {
    await writer[Symbol.asyncDispose]();
  }
}

/** The key that a segment has in the store once it is sealed and kept because it did not read. */
function unreadKey(writer: string, path: string): string {
  return `wal/${writer}/${basename(path)}${UNREAD_SUFFIX}`;
}

/** A segment is at most a little above 32 MiB, so it is read whole; what of it does not read is zeros, or missing. */
async function segmentBytes(
  path: string,
  io: FileIo,
  signal: AbortSignal,
): Promise<{ readonly bytes: Buffer; readonly isWhole: boolean }> {
  try {
    await using file = await FileSource.open(path, io);
    const source = salvaging(file);
    const bytes = await source.read(0, source.sizeBytes, signal);
    return { bytes, isWhole: source.badPieces === 0 };
  } catch (error) {
    if (!hasCode(error, "STORE_IO")) throw error;
    return { bytes: Buffer.alloc(0), isWhole: false };
  }
}

/** Only its place in the log is bad: a pack may have the chunk whole. */
async function markRecordSuspect(
  core: RepositoryCore,
  entry: PackEntry,
  holder: ChunkHolder | undefined,
): Promise<void> {
  core.log.error("wal.record_damaged", { chunk: entry.id });
  const { catalog, content } = core.parts;
  for (const { id } of [entry, ...(entry.inner ?? [])]) {
    for (const place of catalog.chunks.locations(id)) {
      if (place.pack === holder?.number) await content.markSuspect(id, "damaged in the write-ahead log", place);
    }
  }
}

function holderOf({ parts }: RepositoryCore, writer: string, { path }: TailSegment): ChunkHolder | undefined {
  return parts.catalog.chunks.holderNamed("w", segmentName(writer, path));
}

async function forgetHolders(core: RepositoryCore, writer: string, segments: readonly TailSegment[]): Promise<void> {
  const { catalog } = core.parts;
  for (const segment of segments) {
    const operations: LevelOperation[] = [];
    catalog.logEnds.drop(operations, segmentName(writer, segment.path));
    const holder = holderOf(core, writer, segment);
    const ids = segment.entries.flatMap((entry) => entry.inner?.map((chunk) => chunk.id) ?? [entry.id]);
    if (holder !== undefined) catalog.chunks.dropHolder(operations, holder.number, ids);
    await catalog.write(operations);
  }
}
