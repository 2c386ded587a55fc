/**
 * Which blocks of large files changed between two versions, on a grid of 4 KiB. It is told from what is stored, never
 * from a map kept beside it, so it cannot be stale: chunks at the same place with the same id are the same bytes, and
 * where they differ both versions are read out of the store and compared block by block.
 */
import type { BytePath } from "../base/paths.js";
import { contentRange } from "./browse.js";
import type { RepositoryCore } from "./core.js";
import { STATE_OFFSET, stateOf } from "./index/entry-index.js";
import { isMarkedAbsent, summaryOf } from "./tree/codec.js";
import type { ChunkRef, FileNode } from "./types.js";
import { versionsOf } from "./versions.js";

export const BLOCK_BYTES = 4096;
/** Smaller files are read and stored whole when they change. */
export const TRACKED_BYTES_MIN = 2 ** 20;
/** Of each file so much is compared block by block; what differs beyond it counts as changed, bytes. */
const COMPARED_BYTES_MAX = 64 * 2 ** 20;
/** Compared at once, bytes. */
const WINDOW_BYTES = 2 ** 20;
/** Versions looked through for the one at the beginning. */
const VERSIONS_MAX = 10_000;

/** The blocks of one file. */
export interface FileBlocks {
  readonly path: BytePath;
  readonly sizeBytes: number;
  readonly blocks: number;
  readonly changedBlocks: number;
  /** Length of its chunks when they lie at fixed offsets; undefined: its content decides. */
  readonly fixedChunkBytes: number | undefined;
  /** False: of some of the changed blocks only their chunk is known to differ. */
  readonly isExact: boolean;
}

/** From which version on changes are counted. */
export interface BlocksSince {
  readonly source: string;
  /** The version at this time, wall ms; undefined: the one before the current. */
  readonly sinceMs: number | undefined;
}

/** The large files of a source, in path order. Throws RECORD_DAMAGED, CHUNK_MISSING when a version cannot be read. */
export async function* blockChanges(
  core: RepositoryCore,
  { source, sinceMs }: BlocksSince,
  signal: AbortSignal,
): AsyncGenerator<FileBlocks> {
  for await (const page of core.parts.catalog.entries.currentPages(source)) {
    signal.throwIfAborted();
    for (const record of page) {
      const { kind, sizeBytes } = summaryOf(record.value, STATE_OFFSET);
      const isLarge = kind === "file" && sizeBytes >= TRACKED_BYTES_MIN;
      if (!isLarge || isMarkedAbsent(record.value, STATE_OFFSET)) continue;
      const { node } = stateOf(record);
      const before = await versionBefore(core, { source, sinceMs }, record.path);
      yield { path: record.path, ...(await fileBlocks(core, before, node, signal)) };
    }
  }
}

/** The version that changes are counted from: the current one when there is no other. */
async function versionBefore(
  core: RepositoryCore,
  { source, sinceMs }: BlocksSince,
  path: BytePath,
): Promise<FileNode | undefined> {
  const versions = await versionsOf(core, path, { source, limit: sinceMs === undefined ? 2 : VERSIONS_MAX });
  if (sinceMs === undefined) return (versions[1] ?? versions[0])?.node;
  return versions.find(({ timeMs }) => timeMs <= sinceMs)?.node;
}

async function fileBlocks(
  core: RepositoryCore,
  before: FileNode | undefined,
  node: FileNode,
  signal: AbortSignal,
): Promise<Omit<FileBlocks, "path">> {
  const { sizeBytes } = node.stat;
  const blocks = Math.ceil(sizeBytes / BLOCK_BYTES);
  const facts = { sizeBytes, blocks, fixedChunkBytes: fixedChunkBytes(node.chunks ?? []) };
  if (before === undefined) return { ...facts, changedBlocks: blocks, isExact: true };
  let changedBlocks = 0;
  let comparedBytes = 0;
  let isExact = true;
  for (const range of differingRanges(before.chunks ?? [], node.chunks ?? [])) {
    for (let offsetBytes = range.offsetBytes; offsetBytes < range.endBytes; offsetBytes += WINDOW_BYTES) {
      const window = { offsetBytes, endBytes: Math.min(offsetBytes + WINDOW_BYTES, range.endBytes) };
      const lengthBytes = window.endBytes - offsetBytes;
      comparedBytes += lengthBytes;
      if (comparedBytes > COMPARED_BYTES_MAX) {
        isExact = false;
        changedBlocks += Math.ceil(lengthBytes / BLOCK_BYTES);
        continue;
      }
      const [old, now] = [await bytesOf(core, before, window, signal), await bytesOf(core, node, window, signal)];
      changedBlocks += differingBlocks(old, now);
    }
  }
  return { ...facts, changedBlocks, isExact };
}

/** A part of a file; both ends on the grid, but for the end of the file. */
interface Range {
  readonly offsetBytes: number;
  readonly endBytes: number;
}

/** Where the chunks of the newer list are not those of the older, in order, without overlap. */
export function* differingRanges(older: readonly ChunkRef[], newer: readonly ChunkRef[]): Generator<Range> {
  const places = new Map<number, string>();
  let at = 0;
  for (const { id, lengthBytes } of older) {
    places.set(at, `${id} ${String(lengthBytes)}`);
    at += lengthBytes;
  }
  let open: { offsetBytes: number; endBytes: number } | undefined;
  at = 0;
  const sizeBytes = newer.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  for (const { id, lengthBytes } of newer) {
    const isSame = places.get(at) === `${id} ${String(lengthBytes)}`;
    const [from, to] = [at, at + lengthBytes];
    at = to;
    if (isSame) continue;
    const offsetBytes = Math.floor(from / BLOCK_BYTES) * BLOCK_BYTES;
    const endBytes = Math.min(Math.ceil(to / BLOCK_BYTES) * BLOCK_BYTES, sizeBytes);
    if (open !== undefined && offsetBytes <= open.endBytes) {
      open.endBytes = Math.max(open.endBytes, endBytes);
      continue;
    }
    if (open !== undefined) yield open;
    open = { offsetBytes, endBytes };
  }
  if (open !== undefined) yield open;
}

async function bytesOf(core: RepositoryCore, node: FileNode, range: Range, signal: AbortSignal): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of contentRange({ core }, node, range, signal)) parts.push(Buffer.from(part));
  return Buffer.concat(parts);
}

/** Blocks of the newer bytes that the older do not have at the same place. */
function differingBlocks(older: Buffer, newer: Buffer): number {
  let count = 0;
  for (let at = 0; at < newer.length; at += BLOCK_BYTES) {
    const end = Math.min(at + BLOCK_BYTES, newer.length);
    if (end > older.length || older.compare(newer, at, end, at, end) !== 0) count += 1;
  }
  return count;
}

function fixedChunkBytes(chunks: readonly ChunkRef[]): number | undefined {
  const lengthBytes = chunks[0]?.lengthBytes;
  if (lengthBytes === undefined || lengthBytes % BLOCK_BYTES !== 0) return undefined;
  const isFixed = chunks.slice(0, -1).every((chunk) => chunk.lengthBytes === lengthBytes);
  return isFixed && chunks.length > 1 ? lengthBytes : undefined;
}
