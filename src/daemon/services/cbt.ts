/** Changed blocks of large files, over the API: from when on they are counted, and how many changed. */
import { isoTime } from "../../base/clock.js";
import { pathFields } from "../../base/paths.js";
import { BLOCK_BYTES, type FileBlocks } from "../../engine/block-changes.js";
import type { BlockStatsDocument, CbtService, FileBlocksDocument } from "../../api/cbt-service.js";
import type { Parts } from "../parts.js";

/** Files that are listed one by one. */
const FILES_MAX = 1000;
/** More are dropped as soon as there are twice as many. */
const FILES_KEPT_MAX = 2 * FILES_MAX;

export function cbtService(parts: Parts): CbtService {
  const bucket = parts.blocksSince;
  const stats = async (name: string): Promise<BlockStatsDocument> => {
    parts.book.get(name);
    const since = Number(await bucket.get(name));
    return await statsOf(parts, name, since > 0 ? since : undefined);
  };
  return {
    async init(name) {
      parts.book.get(name);
      await bucket.put(name, String(parts.ground.clock.nowMs()));
      return await stats(name);
    },
    stats,
  };
}

async function statsOf(parts: Parts, source: string, sinceMs: number | undefined): Promise<BlockStatsDocument> {
  const sums = { files_tracked: 0, bytes_tracked: 0, blocks: 0, changed_blocks: 0, exact: true };
  let files: FileBlocks[] = [];
  for await (const file of parts.repository.blockChanges({ source, sinceMs }, parts.ground.signal)) {
    sums.files_tracked += 1;
    sums.bytes_tracked += file.sizeBytes;
    sums.blocks += file.blocks;
    sums.changed_blocks += file.changedBlocks;
    sums.exact &&= file.isExact;
    files.push(file);
    if (files.length >= FILES_KEPT_MAX) files = mostChanged(files);
  }
  return {
    source,
    block_bytes: BLOCK_BYTES,
    since: sinceMs === undefined ? null : isoTime(sinceMs),
    ...sums,
    changed_bytes: sums.changed_blocks * BLOCK_BYTES,
    changed_share: sums.blocks === 0 ? 0 : sums.changed_blocks / sums.blocks,
    files: mostChanged(files).map(fileDocument),
  };
}

function mostChanged(files: readonly FileBlocks[]): FileBlocks[] {
  return [...files].sort((a, b) => b.changedBlocks - a.changedBlocks || b.sizeBytes - a.sizeBytes).slice(0, FILES_MAX);
}

function fileDocument(file: FileBlocks): FileBlocksDocument {
  return {
    ...pathFields(file.path),
    size_bytes: file.sizeBytes,
    blocks: file.blocks,
    changed_blocks: file.changedBlocks,
    chunk_bytes: file.fixedChunkBytes ?? null,
    exact: file.isExact,
  };
}
