/**
 * The tree of a source as it is now, when a backup has it already: then nothing was committed to the source since, and
 * its tree need not be built again. It holds over restarts, and only as long as that backup is there, whose nodes are
 * needed and so are not collected.
 */
import type { Catalog } from "./index/catalog.js";
import type { ChunkId } from "./types.js";

export interface BuiltTree {
  readonly root: ChunkId;
  /** Entries in it, folders included. */
  readonly entryCount: number;
  readonly files: number;
  readonly bytes: number;
  /** Digest of the list of entries, 64 hex. */
  readonly checksum: string;
  /** Every version in it has at most this number. */
  readonly lastSeq: number;
}

const CHECKSUM_PREFIX = "sha256:";

/** Undefined: it has to be built. */
export function knownTree({ commits, entries, chunks }: Catalog, source: string): BuiltTree | undefined {
  if (chunks.counts.suspectChunks > 0) return undefined; // a damaged node is stored again by building it
  const lastSeq = entries.lastChange(source);
  const backup = commits.backups().findLast((record) => record.sources.some(({ name }) => name === source));
  const root = backup?.sources.find(({ name }) => name === source);
  const counted = backup?.manifest.sources.find((each) => each.source === source);
  if (backup === undefined || root === undefined || counted === undefined || backup.coversSeq < lastSeq) {
    return undefined;
  }
  return {
    root: root.root,
    entryCount: root.entryCount,
    files: counted.files_total,
    bytes: counted.total_size_bytes,
    checksum: counted.checksum.slice(CHECKSUM_PREFIX.length),
    lastSeq,
  };
}
