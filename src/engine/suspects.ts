/**
 * Packs that were found damaged, once more is known of them: they are trusted again when they prove whole, and what a
 * list of their records no longer has is not relied upon. Marks of packs that are gone go with a collection.
 */
import type { RepositoryCore } from "./core.js";
import { type ChunkHolder, chunksOfEntries } from "./index/chunk-index.js";
import type { LevelOperation } from "./index/level-store.js";
import { type MarkedPack, markKey, storedMarks } from "./index/suspect-packs.js";
import type { PackEntry } from "./pack/format.js";
import type { ChunkId } from "./types.js";

/** Relies upon marked packs again, every record in which was just read and found whole; false when none of them was marked. */
export async function trustAgain(
  core: RepositoryCore,
  proven: readonly ChunkHolder[],
  signal: AbortSignal,
): Promise<boolean> {
  const { catalog, chunkSet, write } = core.parts;
  const packs = proven.flatMap(({ kind, name, number }) => (kind === "w" ? [] : [{ kind, name, number }]));
  const marked = packs.filter((pack) => catalog.suspects.has(pack));
  if (marked.length === 0 || write === undefined) return false;
  const numbers = new Set(marked.map(({ number }) => number));
  for await (const page of catalog.chunks.all()) {
    const operations: LevelOperation[] = [];
    for (const { id, locations } of page) {
      if (!locations.some(({ suspect, pack }) => suspect && numbers.has(pack))) continue;
      catalog.chunks.trust(operations, id, numbers);
      chunkSet.addDurable(id);
    }
    await catalog.write(operations);
  }
  for (const pack of marked) await dropMark(core, pack, signal);
  return true;
}

/** Forgets that a pack was found damaged; the index must know by then what of it is good. */
export async function dropMark({ parts }: RepositoryCore, pack: MarkedPack, signal: AbortSignal): Promise<void> {
  const { catalog, backend, log } = { ...parts, log: parts.observer.log };
  if (!catalog.suspects.has(pack)) return;
  await backend.delete(markKey(pack), signal);
  const operations: LevelOperation[] = [];
  catalog.suspects.drop(operations, pack);
  await catalog.write(operations);
  log.info("pack.trusted_again", { pack: pack.name });
}

/** Removes the marks of packs that are no more. */
export async function dropOldMarks({ parts }: RepositoryCore, signal: AbortSignal): Promise<void> {
  const { backend, catalog } = parts;
  for await (const pack of storedMarks(backend, signal)) {
    if (catalog.chunks.holderNamed(pack.kind, pack.name) !== undefined) continue;
    await backend.delete(markKey(pack), signal);
    const operations: LevelOperation[] = [];
    catalog.suspects.drop(operations, pack);
    await catalog.write(operations);
  }
}

/** Notes as damaged what the catalog expects in a pack and a scan of its records did not find. */
export async function suspectUnfound(
  { parts }: RepositoryCore,
  holder: ChunkHolder,
  found: readonly PackEntry[],
): Promise<void> {
  const { catalog, content } = parts;
  const ids = new Set<ChunkId>();
  for (const { id } of chunksOfEntries(holder.number, found)) ids.add(id);
  for await (const page of catalog.chunks.all()) {
    for (const { id, locations } of page) {
      const place = locations.find(({ pack }) => pack === holder.number);
      if (place !== undefined && !ids.has(id)) await content.markSuspect(id, "its record is gone", place);
    }
  }
}
