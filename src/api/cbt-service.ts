/** What the API can ask about changed blocks of large files. A port beside `services.ts`. */
import type { PathDocument } from "./path-document.js";

/** The blocks of one large file. */
export interface FileBlocksDocument extends PathDocument {
  readonly size_bytes: number;
  readonly blocks: number;
  readonly changed_blocks: number;
  /** Length of its chunks when they lie at fixed offsets, as those of databases and disk images do; else null. */
  readonly chunk_bytes: number | null;
  /** False: of some changed blocks only a larger piece around them is known to differ. */
  readonly exact: boolean;
}

/** Which blocks of a source's large files changed. */
export interface BlockStatsDocument {
  readonly source: string;
  readonly block_bytes: number;
  /** From when on changes are counted; null: each file against its version before. */
  readonly since: string | null;
  readonly files_tracked: number;
  readonly bytes_tracked: number;
  readonly blocks: number;
  readonly changed_blocks: number;
  readonly changed_bytes: number;
  /** Part of the blocks that changed, 0 to 1. */
  readonly changed_share: number;
  readonly exact: boolean;
  /** The files with the most changed blocks first; at most 1,000. */
  readonly files: readonly FileBlocksDocument[];
}

export interface CbtService {
  /** Counts changed blocks of a source from now on. Throws SOURCE_NOT_FOUND. */
  init(source: string): Promise<BlockStatsDocument>;
  /** The blocks that changed since then. Throws SOURCE_NOT_FOUND. */
  stats(source: string): Promise<BlockStatsDocument>;
}
