/** Figures of a repository, for people and for `/metrics`. */
import { knownTree } from "./built-trees.js";
import type { Gauge } from "../base/observe.js";
import type { RepositoryCore } from "./core.js";
import { STATE_OFFSET } from "./index/entry-index.js";
import { isMarkedAbsent, summaryOf } from "./tree/codec.js";
import type { RepositoryStats } from "./types.js";
import { unreadKeys } from "./unread.js";

interface CountedSource {
  readonly revision: number;
  readonly bytes: number;
}

export class StoreFacts {
  readonly #core: RepositoryCore;
  /** Logical bytes of each source, counted again only when its entries have changed. */
  readonly #counted = new Map<string, CountedSource>();
  readonly #bytes: Gauge<"kind">;
  readonly #chunks: Gauge;
  readonly #corrupt: Gauge<"tier">;

  constructor(core: RepositoryCore) {
    this.#core = core;
    const { observer } = core.parts;
    this.#bytes = observer.gauge({
      name: "holdfast_store_bytes",
      help: "Bytes of the store: current files, distinct chunks before compression, and what lies on disk.",
      labels: ["kind"],
    });
    this.#chunks = observer.gauge({ name: "holdfast_store_chunks", help: "Distinct chunks in the store." });
    this.#corrupt = observer.gauge({
      name: "holdfast_store_corrupt_chunks",
      help: "Chunks of which no whole copy is known.",
      labels: ["tier"],
    });
  }

  async stats(): Promise<RepositoryStats> {
    const { catalog, write } = this.#core.parts;
    let storedBytes = write?.wal.sizeBytes ?? 0;
    let packs = 0;
    for (const holder of catalog.chunks.holders()) {
      if (holder.kind === "w") continue;
      storedBytes += holder.sizeBytes;
      packs += 1;
    }
    let logicalBytes = 0;
    for (const source of await catalog.entries.sources()) logicalBytes += await this.#logicalBytes(source);
    const { chunks, uniqueBytes, suspectChunks } = catalog.chunks.counts;
    const unreadObjects = unreadKeys(this.#core).size;
    const backups = catalog.commits.backups().length;
    return { chunks, uniqueBytes, storedBytes, logicalBytes, packs, suspectChunks, unreadObjects, backups };
  }

  /** Sets the gauges. */
  async publish(): Promise<void> {
    const stats = await this.stats();
    this.#bytes.set(stats.logicalBytes, { kind: "logical" });
    this.#bytes.set(stats.uniqueBytes, { kind: "unique" });
    this.#bytes.set(stats.storedBytes, { kind: "stored" });
    this.#chunks.set(stats.chunks);
    this.#corrupt.set(stats.suspectChunks, { tier: "hot" });
  }

  async #logicalBytes(source: string): Promise<number> {
    const { catalog } = this.#core.parts;
    const { entries } = catalog;
    const tree = knownTree(catalog, source);
    if (tree !== undefined) return tree.bytes;
    const revision = entries.revisions.get(source) ?? 0;
    const counted = this.#counted.get(source);
    if (counted?.revision === revision) return counted.bytes;
    let bytes = 0;
    for await (const page of entries.currentPages(source)) {
      for (const { value } of page) {
        if (!isMarkedAbsent(value, STATE_OFFSET)) bytes += summaryOf(value, STATE_OFFSET).sizeBytes;
      }
    }
    this.#counted.set(source, { revision, bytes });
    return bytes;
  }
}
