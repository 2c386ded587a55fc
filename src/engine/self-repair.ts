/** What a reader in need does before it gives up: lost chunks that parity still gives are stored again, so that all can read them. */
import type { RepositoryCore } from "./core.js";
import { FoundRecords } from "./repair/found-records.js";
import { findInParity } from "./repair/from-parity.js";
import type { LostChunks } from "./repair/lost.js";
import type { ChunkId } from "./types.js";

/** Stores those of the chunks again that have no good place and that parity gives; none where nothing may be written. */
export async function restoreFromParity(
  core: RepositoryCore,
  chunks: Iterable<ChunkId>,
  signal: AbortSignal,
): Promise<void> {
  const { chunkSet, write } = core.parts;
  const lost: LostChunks = new Map();
  for (const id of chunks) if (!chunkSet.isDurable(id)) lost.set(id, []);
  if (lost.size === 0 || write === undefined) return;
  await using found = new FoundRecords(core, lost, true);
  await findInParity(core, lost, found, signal);
  if (found.count > 0) await found.store(signal);
}
