/**
 * The part of a check that asks whether every chunk which a backup or a version needs has a copy that is not known to be
 * bad. Trees are read; states are only gone over, since there are millions of them.
 */
import { HoldfastError, messageOf } from "../base/errors.js";
import type { Beside } from "./check-beside.js";
import { Findings } from "./check-findings.js";
import type { RepositoryCore } from "./core.js";
import { STATE_OFFSET } from "./index/entry-index.js";
import { type LoadNode, visitNodes } from "./tree/reader.js";
import { chunksOfState } from "./tree/skim.js";
import type { ChunkId } from "./types.js";

/** What of trees and versions cannot be had, by what is known of the packs now. Throws INTERRUPTED, STORE_IO. */
export async function checkContent(core: RepositoryCore, beside: Beside, signal: AbortSignal): Promise<Findings> {
  const work = { findings: new Findings(), missingChunks: chunkCounter(core), beside };
  await checkTrees(core, work, signal);
  await checkEntries(core, work, signal);
  return work.findings;
}

interface ContentWork {
  readonly findings: Findings;
  readonly missingChunks: MissingChunks;
  readonly beside: Beside;
}

/** How many of a file's chunks have no copy that is not known to be bad. */
type MissingChunks = (state: Buffer, offset: number) => number;

function chunkCounter({ parts: { chunkSet } }: RepositoryCore): MissingChunks {
  let missing = 0;
  const see = (bytes: Buffer, at: number): void => {
    if (!chunkSet.isDurableAt(bytes, at)) missing += 1;
  };
  return (state, offset) => {
    missing = 0;
    chunksOfState(state, offset, see);
    return missing;
  };
}

async function checkTrees(
  core: RepositoryCore,
  { findings, missingChunks, beside }: ContentWork,
  signal: AbortSignal,
): Promise<void> {
  const { catalog, content } = core.parts;
  const load: LoadNode = (id, inner) => content.chunk(id, inner);
  const visited = new Set<ChunkId>();
  for (const { manifest, sources } of catalog.commits.backups()) {
    const where = manifest.backup_id;
    for (const { name, root } of sources) {
      try {
        await visitNodes(
          load,
          root,
          async (id, open) => {
            if (visited.has(id)) return false;
            const node = await open();
            // Noted only when it could be read: every backup that needs a bad node is told of.
            visited.add(id);
            if (!("entries" in node)) return true;
            for (const { path, value } of node.entries) {
              const missing = missingChunks(value, 0);
              if (missing > 0) findings.addContent(name, path, { where, missing });
            }
            return true;
          },
          signal,
        );
      } catch (error) {
        if (!isDamage(error)) throw error;
        if (await beside.isRemoved(where, signal)) break;
        findings.add("tree_damaged", `the tree of ${name} in ${where} cannot be read: ${messageOf(error)}`);
      }
    }
  }
}

/** Of what a collection took beside us the chunks still count: it takes none that a kept version needs. */
async function checkEntries(
  core: RepositoryCore,
  { findings, missingChunks }: ContentWork,
  signal: AbortSignal,
): Promise<void> {
  const { entries } = core.parts.catalog;
  for (const source of entries.sourceNames) {
    for await (const page of entries.currentPages(source)) {
      signal.throwIfAborted();
      for (const { path, value } of page) {
        const missing = missingChunks(value, STATE_OFFSET);
        if (missing > 0) findings.addContent(source, path, { where: "current version", missing });
      }
    }
    for await (const page of entries.historyStates(source)) {
      signal.throwIfAborted();
      for (const { path, value, stateAt } of page) {
        const missing = missingChunks(value, stateAt);
        if (missing > 0) findings.addContent(source, path, { where: "older version", missing });
      }
    }
  }
}

function isDamage(error: unknown): boolean {
  const codes = ["RECORD_DAMAGED", "CHUNK_MISSING", "OBJECT_MISSING", "OBJECT_DAMAGED"];
  return error instanceof HoldfastError && codes.includes(error.code);
}
