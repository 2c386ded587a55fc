/**
 * The trees that this process built last, so that a backup of a source in which nothing changed need not build its tree
 * again. A tree is only good as long as no entry of its source changed, nothing was collected and no chunk is suspect.
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

export class BuiltTrees {
  readonly #catalog: Catalog;
  readonly #trees = new Map<string, { readonly revision: number; readonly tree: BuiltTree }>();

  constructor(catalog: Catalog) {
    this.#catalog = catalog;
  }

  /** Number of changes to a source since the index was opened; take it before the tree is built. */
  revision(source: string): number {
    return this.#catalog.entries.revisions.get(source) ?? 0;
  }

  keep(source: string, revision: number, tree: BuiltTree): void {
    this.#trees.set(source, { revision, tree });
  }

  /** The tree of a source as it is now, if it is known. */
  current(source: string): BuiltTree | undefined {
    const known = this.#trees.get(source);
    if (known?.revision !== this.revision(source) || this.#catalog.chunks.counts.suspectChunks > 0) return undefined;
    return known.tree;
  }

  /** Before nodes may be collected. */
  clear(): void {
    this.#trees.clear();
  }
}
