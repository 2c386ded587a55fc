/**
 * What a repository lacks: tree nodes and chunks that something refers to and that no place gives whole, with the live
 * files that may still have them. What cannot be reached behind a lost tree node is found in a later round.
 */
import { HoldfastError } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import { decodeCommit } from "../commit-log.js";
import type { RepositoryCore } from "../core.js";
import { stateOf } from "../index/entry-index.js";
import { newestBaseKey } from "../thinning.js";
import { ByteReader } from "../tree/bytes.js";
import { readState } from "../tree/codec.js";
import { decodeNode, type TreeNode } from "../tree/node.js";
import type { ChunkId, FileNode } from "../types.js";

/** Where a live file may have a chunk. */
export interface ChunkUse {
  readonly path: BytePath;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Lost chunks by id, with their uses; a lost tree node has none. */
export type LostChunks = Map<ChunkId, ChunkUse[]>;

/** Lost chunks of one round, about 300 bytes each; what is beyond is found by the next run. */
const LOST_MAX = 500_000;
/** Live files asked for one chunk. */
const USES_MAX = 4;

/** Looks through the trees of all backups and the last base, the current entries and the versions. */
export async function findLost(core: RepositoryCore, signal: AbortSignal): Promise<LostChunks> {
  const lost: LostChunks = new Map();
  await lookThroughTrees(core, lost, signal);
  const { entries } = core.parts.catalog;
  for (const source of entries.sourceNames) {
    for await (const page of entries.currentPages(source)) {
      signal.throwIfAborted();
      for (const record of page) noteFile(core, lost, { path: record.path, node: stateOf(record).node });
    }
    for await (const page of entries.historyPages(source)) {
      signal.throwIfAborted();
      for (const { path, version } of page)
        if (version.state !== undefined) noteFile(core, lost, { path, node: version.state.node });
    }
  }
  return lost;
}

async function lookThroughTrees(core: RepositoryCore, lost: LostChunks, signal: AbortSignal): Promise<void> {
  const visited = new Set<ChunkId>();
  const waiting = await treeRoots(core, signal);
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    signal.throwIfAborted();
    if (visited.has(id)) continue;
    visited.add(id);
    const node = await openNode(core, id, signal);
    // Parity may have given it: its place is lost all the same.
    if (node === undefined || !core.parts.chunkSet.isDurable(id)) note(lost, id);
    if (node === undefined) continue;
    if ("children" in node) waiting.push(...node.children.map((child) => child.id));
    else for (const { path, value } of node.entries) noteFile(core, lost, { path, node: stateIn(value) });
  }
}

async function treeRoots(core: RepositoryCore, signal: AbortSignal): Promise<ChunkId[]> {
  const { catalog, backend, opener } = core.parts;
  const roots = catalog.commits.backups().flatMap(({ sources }) => sources.map(({ root }) => root));
  const baseKey = newestBaseKey(catalog.commits);
  if (baseKey === undefined) return roots;
  try {
    const { body } = decodeCommit(opener, baseKey, await backend.get(baseKey, signal)).header;
    if (body.kind === "base") roots.push(...body.sources.map(({ root }) => root));
  } catch (error) {
    if (!isDamage(error)) throw error; // a damaged commit is told by the check
  }
  return roots;
}

/** A tree node, or undefined when it is lost. */
async function openNode(core: RepositoryCore, id: ChunkId, signal: AbortSignal): Promise<TreeNode | undefined> {
  try {
    return decodeNode(await core.parts.content.chunk(id, signal));
  } catch (error) {
    if (!isDamage(error)) throw error;
    return undefined;
  }
}

function stateIn(value: Buffer): FileNode {
  return readState(new ByteReader(value)).node;
}

function noteFile(
  core: RepositoryCore,
  lost: LostChunks,
  { path, node }: { readonly path: BytePath; readonly node: FileNode },
): void {
  let offsetBytes = 0;
  for (const { id, lengthBytes } of node.chunks ?? []) {
    if (!core.parts.chunkSet.isDurable(id)) note(lost, id, { path, offsetBytes, lengthBytes });
    offsetBytes += lengthBytes;
  }
}

function note(lost: LostChunks, id: ChunkId, use?: ChunkUse): void {
  const uses = lost.get(id);
  if (uses === undefined && lost.size < LOST_MAX) lost.set(id, use === undefined ? [] : [use]);
  if (uses === undefined || use === undefined || uses.length >= USES_MAX) return;
  if (!uses.some(({ path, offsetBytes }) => path === use.path && offsetBytes === use.offsetBytes)) uses.push(use);
}

/** What a damaged or lost object looks like; anything else is a fault of the moment. */
export function isDamage(error: unknown): boolean {
  const codes = ["RECORD_DAMAGED", "CHUNK_MISSING", "OBJECT_MISSING", "OBJECT_DAMAGED"];
  return error instanceof HoldfastError && codes.includes(error.code);
}
