/**
 * Marking for a garbage collection: every chunk that a kept backup, the last base, a current entry or a kept version
 * refers to, and every tree node on the way. A node that cannot be read ends the collection: nothing is guessed.
 */
import { createHash } from "node:crypto";
import { decodeCommit } from "./commit-log.js";
import type { RepositoryCore } from "./core.js";
import { stateOf } from "./index/entry-index.js";
import { forgettable, newestBaseKey } from "./thinning.js";
import { ByteReader } from "./tree/bytes.js";
import { readState } from "./tree/codec.js";
import type { Delta } from "./tree/delta.js";
import { type LoadNode, visitNodes } from "./tree/reader.js";
import type { ChunkId, FileNode } from "./types.js";
import { pathHistories } from "./versions.js";
import { ChunkSet } from "./workers/chunk-set.js";

/** What is needed. Sets of 16-byte prefixes: about 30 MB per million chunks. */
export class Marks {
  readonly #chunks: ChunkSet;
  /** Hashes of (source, path, number) of the versions that kept backups hold. */
  readonly #versions = new ChunkSet();

  constructor(expectedChunks: number) {
    this.#chunks = new ChunkSet(expectedChunks);
  }

  /** Chunks that are needed. */
  get size(): number {
    return this.#chunks.size;
  }

  has(id: ChunkId): boolean {
    return this.#chunks.isDurable(id);
  }

  add(id: ChunkId): void {
    this.#chunks.addDurable(id);
  }

  addNode(node: FileNode): void {
    for (const { id } of node.chunks ?? []) this.add(id);
  }

  addDelta(delta: Delta): void {
    for (const change of delta.changes) if (change.kind === "upsert") this.addNode(change.state.node);
  }

  addVersion(source: string, path: string, seq: number): void {
    this.#versions.addDurable(versionId(source, path, seq));
  }

  hasVersion(source: string, path: string, seq: number): boolean {
    return this.#versions.isDurable(versionId(source, path, seq));
  }
}

function versionId(source: string, path: string, seq: number): ChunkId {
  const hash = createHash("sha256").update(source).update("\0").update(path, "latin1");
  return hash.update(`\0${String(seq)}`).digest("hex") as ChunkId;
}

/**
 * Marks what backups hold, and with `withBase` what the last base holds. Throws CHUNK_MISSING, RECORD_DAMAGED: then
 * nothing may be collected.
 */
export async function markTrees(
  core: RepositoryCore,
  marks: Marks,
  withBase: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { catalog, backend, content, opener } = core.parts;
  const load: LoadNode = (id, inner) => content.chunk(id, inner);
  const visited = new Set<string>();
  const roots = catalog.commits.backups().flatMap(({ sources }) => sources);
  const baseKey = withBase ? newestBaseKey(catalog.commits) : undefined;
  if (baseKey !== undefined) {
    const { body } = decodeCommit(opener, baseKey, await backend.get(baseKey, signal)).header;
    if (body.kind === "base") roots.push(...body.sources);
  }
  for (const { name, root } of roots) {
    await visitNodes(
      load,
      root,
      async (id, open) => {
        if (visited.has(`${name}\0${id}`)) return false;
        visited.add(`${name}\0${id}`);
        marks.add(id);
        const node = await open();
        if (!("entries" in node)) return true;
        for (const { path, value } of node.entries) {
          const state = readState(new ByteReader(value));
          marks.addNode(state.node);
          marks.addVersion(name, path, state.seq);
        }
        return true;
      },
      signal,
    );
  }
}

/** Marks what current entries and the versions still in the catalog hold. */
export async function markEntries(core: RepositoryCore, marks: Marks, signal: AbortSignal): Promise<void> {
  const { entries } = core.parts.catalog;
  for (const source of entries.sourceNames) {
    for await (const page of entries.currentPages(source)) {
      signal.throwIfAborted();
      for (const record of page) marks.addNode(stateOf(record).node);
    }
    for await (const page of entries.historyPages(source)) {
      signal.throwIfAborted();
      for (const { version } of page) if (version.state !== undefined) marks.addNode(version.state.node);
    }
  }
}

/**
 * Marks what current entries and versions would hold if a thinning were carried out, for a collection that only tells;
 * gives the number of versions that it would forget. The trees of kept backups must be marked by then, and no base.
 */
export async function markAfterThinning(
  core: RepositoryCore,
  marks: Marks,
  throughSeq: number,
  signal: AbortSignal,
): Promise<number> {
  const { entries } = core.parts.catalog;
  let forgotten = 0;
  for (const source of entries.sourceNames) {
    for await (const history of pathHistories(entries, source, signal)) {
      const { path, versions } = history;
      const old = forgettable(history, throughSeq, (seq) => marks.hasVersion(source, path, seq));
      forgotten += old.length;
      for (const { seq, state } of versions) if (state !== undefined && !old.includes(seq)) marks.addNode(state.node);
    }
  }
  return forgotten;
}
