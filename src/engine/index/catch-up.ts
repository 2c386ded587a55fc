/**
 * Brings the catalog up to what the store holds: commits are listed first, then index fragments (so that nothing a
 * commit needs can be missed), then packs that no whole fragment lists, and last what of them is known to be damaged. A
 * new catalog is filled the same way.
 */
import { HoldfastError, hasCode, messageOf } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";
import type { Backend } from "../../storage/backend.js";
import type { BytePath } from "../../base/paths.js";
import { type Checkpoint, type StoredCommit, decodeCommit, sha256Of } from "../commit-log.js";
import type { PackEntry, PackKind } from "../pack/format.js";
import { packKey } from "../pack/format.js";
import { readPackDirectory, scanEntries } from "../pack/reader.js";
import { objectSource } from "../pack/source.js";
import type { ParityStore } from "../parity/group-store.js";
import type { RecordOpener } from "../pack/record.js";
import { ByteReader } from "../tree/bytes.js";
import { readState, summaryOf } from "../tree/codec.js";
import type { Delta, DeltaChange } from "../tree/delta.js";
import type { LeafEntry } from "../tree/node.js";
import { type LoadNode, diffTrees, treeLeaves } from "../tree/reader.js";
import type { ChunkId } from "../types.js";
import type { Catalog } from "./catalog.js";
import { STATE_OFFSET } from "./entry-index.js";
import { type Fragment, decodeFragment } from "./fragments.js";
import type { LevelOperation } from "./level-store.js";
import { suspectLost, takeInLost, takeInMarks } from "./lost-packs.js";

export interface CatchUpContext {
  readonly backend: Backend;
  readonly opener: RecordOpener;
  readonly catalog: Catalog;
  readonly loadNode: LoadNode;
  readonly parity: ParityStore;
  readonly log: Logger;
}

/** Why a catalog cannot be caught up and has to be made again; undefined when it can. */
export async function reasonToRebuild(
  context: CatchUpContext,
  epoch: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { backend, catalog } = context;
  if (catalog.isNew) return undefined;
  if (catalog.isStale) return "a repair brought back what it does not know of";
  if (catalog.epoch !== epoch) return "a garbage collection ran that it does not know of";
  const present = new Set(await listKeys(backend, "commits/", signal));
  for (const { key } of catalog.commits.applied()) if (!present.has(key)) return `it knows ${key}, the store does not`;
  const segments = new Set(await listKeys(backend, "wal/", signal));
  for (const holder of catalog.chunks.holders()) {
    if (holder.kind === "w" && !segments.has(`wal/${holder.name}.seg`)) return `the log segment ${holder.name} is gone`;
  }
  return undefined;
}

/** Takes in what is new; returns the largest commit number seen. Damage is logged and left to `check`. */
export async function catchUp(context: CatchUpContext, signal: AbortSignal): Promise<number> {
  const { backend, catalog } = context;
  const commitKeys = await listKeys(backend, "commits/", signal);
  await takeInPacks(context, signal);
  const commits: StoredCommit[] = [];
  for (const key of commitKeys) {
    if (catalog.commits.isApplied(key)) continue;
    const commit = await readCommit(context, key, signal);
    if (commit !== undefined) commits.push(commit);
  }
  commits.sort((a, b) => a.header.number - b.header.number);
  await applyCommits(context, commits, signal);
  let lastSeq = 0;
  for (const applied of catalog.commits.applied()) lastSeq = Math.max(lastSeq, applied.lastSeq, applied.number);
  return lastSeq;
}

async function listKeys(backend: Backend, prefix: string, signal: AbortSignal): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of backend.list(prefix, signal)) keys.push(key);
  return keys;
}

async function readCommit(
  { backend, opener, log }: CatchUpContext,
  key: string,
  signal: AbortSignal,
): Promise<StoredCommit | undefined> {
  try {
    return decodeCommit(opener, key, await backend.get(key, signal));
  } catch (error) {
    if (!hasCode(error, "RECORD_DAMAGED")) throw error;
    log.error("commit.damaged", { key, reason: error.message });
    return undefined;
  }
}

// --- packs -----------------------------------------------------------------------------------------------------------

async function takeInPacks(context: CatchUpContext, signal: AbortSignal): Promise<void> {
  const { backend, catalog } = context;
  const fragments = new Map<string, Fragment>();
  let damaged = 0;
  for (const key of await listKeys(backend, "index/", signal)) {
    const name = key.slice("index/".length);
    if (catalog.commits.hasFragment(name)) continue;
    const fragment = await readFragment(context, name, signal);
    if (fragment === undefined) damaged += 1;
    else fragments.set(name, fragment);
  }
  const superseded = new Set([...fragments.values()].flatMap((fragment) => fragment.supersedes));
  for (const [name, fragment] of fragments) {
    const operations: LevelOperation[] = [];
    if (!superseded.has(name)) for (const pack of fragment.packs) catalog.chunks.putPack(operations, pack, name);
    catalog.commits.putFragment(operations, name);
    await catalog.write(operations);
  }
  if (damaged > 0 || catalog.isNew) {
    const present = await takeInUnlistedPacks(context, signal);
    await takeInLost(context, present, signal);
    await suspectLost(context, present);
  }
  await takeInMarks(context, signal);
}

async function readFragment(
  { backend, opener, log }: CatchUpContext,
  name: string,
  signal: AbortSignal,
): Promise<Fragment | undefined> {
  try {
    const bytes = await backend.get(`index/${name}`, signal);
    if (sha256Of(bytes) !== name) throw new HoldfastError("RECORD_DAMAGED", "its content is not what its name says");
    return decodeFragment(opener.open(bytes).plain);
  } catch (error) {
    if (!hasCode(error, "RECORD_DAMAGED")) throw error;
    log.error("fragment.damaged", { fragment: name, reason: messageOf(error) });
    return undefined;
  }
}

/**
 * Packs that no whole fragment lists: by their trailers, and where those are damaged by their records. Gives the keys of
 * all packs that are there.
 */
async function takeInUnlistedPacks(context: CatchUpContext, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const { backend, catalog, log } = context;
  const present = new Set<string>();
  for (const kind of ["d", "m"] as const) {
    for await (const { key, sizeBytes } of backend.list(`packs/${kind}/`, signal)) {
      const sha256 = key.slice(key.lastIndexOf("/") + 1);
      present.add(key);
      if (!/^[0-9a-f]{64}$/.test(sha256) || catalog.chunks.holderNamed(kind, sha256) !== undefined) continue;
      const entries = await readEntries(context, { kind, sha256, sizeBytes }, signal);
      log.info("pack.found", { kind, pack: sha256, records: entries.length });
      const operations: LevelOperation[] = [];
      catalog.chunks.putPack(operations, { kind, sha256, sizeBytes, entries }, "");
      await catalog.write(operations);
    }
  }
  return present;
}

async function readEntries(
  { backend, opener, log }: CatchUpContext,
  pack: { readonly kind: PackKind; readonly sha256: string; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<readonly PackEntry[]> {
  const source = objectSource(backend, packKey(pack.kind, pack.sha256), pack.sizeBytes);
  try {
    return (await readPackDirectory(source, opener, signal)).entries;
  } catch (error) {
    if (!hasCode(error, "OBJECT_DAMAGED") && !hasCode(error, "RECORD_DAMAGED")) throw error;
    log.error("pack.damaged", { pack: pack.sha256, reason: error.message });
    return await scanEntries(source, opener, signal);
  }
}

// --- commits ---------------------------------------------------------------------------------------------------------

async function applyCommits(
  context: CatchUpContext,
  commits: readonly StoredCommit[],
  signal: AbortSignal,
): Promise<void> {
  const { catalog } = context;
  const withTrees = catalog.isNew ? checkpointsToRead(commits) : new Set<StoredCommit>();
  const roots = new Map<string, ChunkId>();
  for (const commit of commits) {
    signal.throwIfAborted();
    const { body } = commit.header;
    try {
      if (body.kind === "deltas") for (const delta of commit.deltas()) await applyDelta(catalog, delta);
      if ((body.kind === "backup" || body.kind === "base") && withTrees.has(commit)) {
        await applyTrees(context, body, roots, signal);
      }
    } catch (error) {
      if (!hasCode(error, "RECORD_DAMAGED") && !hasCode(error, "CHUNK_MISSING")) throw error;
      context.log.error("commit.damaged", { key: commit.key, reason: error.message });
    }
    const operations: LevelOperation[] = [];
    catalog.commits.putCommit(operations, commit);
    await catalog.write(operations);
  }
}

/**
 * Deltas that the last base stands in for were thinned out: what they said is read from that base's trees and those of
 * the kept backups before it. Trees of removed backups and older bases may be collected already.
 */
function checkpointsToRead(commits: readonly StoredCommit[]): Set<StoredCommit> {
  const base = commits.findLast(({ header }) => header.body.kind === "base");
  if (base?.header.body.kind !== "base") return new Set();
  const { coversSeq } = base.header.body;
  const removals = lastRemovals(commits);
  const kept = commits.filter(
    ({ header: { number, body } }) =>
      body.kind === "backup" && body.coversSeq <= coversSeq && number > (removals.get(body.manifest.backup_id) ?? 0),
  );
  return new Set([...kept, base]);
}

/** The number of the last removal of each backup: an id can be given again, so only a later removal counts. */
function lastRemovals(commits: readonly StoredCommit[]): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const { header } of commits) {
    if (header.body.kind !== "removal") continue;
    for (const id of header.body.backupIds) numbers.set(id, Math.max(header.number, numbers.get(id) ?? 0));
  }
  return numbers;
}

async function applyDelta(catalog: Catalog, delta: Delta): Promise<void> {
  const operations: LevelOperation[] = [];
  catalog.entries.apply(operations, delta);
  await catalog.write(operations);
}

/** What the trees of a checkpoint tell beyond the checkpoint before it, as if it had come as deltas. */
async function applyTrees(
  context: CatchUpContext,
  body: Checkpoint & { readonly kind: "backup" | "base" },
  roots: Map<string, ChunkId>,
  signal: AbortSignal,
): Promise<void> {
  const { catalog, loadNode } = context;
  for (const { name, root } of body.sources) {
    for await (const { path, after } of diffTrees(loadNode, roots.get(name), root, signal)) {
      if (after === undefined) continue; // gone from a backup can mean absent or removed: only a base knows
      const state = readState(new ByteReader(after));
      const changes: DeltaChange[] = [{ kind: "upsert", path, state }];
      await applyDelta(catalog, { source: name, seq: state.seq, timeMs: state.timeMs, changes });
    }
    roots.set(name, root);
    if (body.kind === "base") await removeMissing(context, { ...body, source: name, root }, signal);
  }
}

/** Removes current entries that the base does not have: both come in path order. */
async function removeMissing(
  { catalog, loadNode }: CatchUpContext,
  base: Omit<Checkpoint, "sources"> & { readonly source: string; readonly root: ChunkId },
  signal: AbortSignal,
): Promise<void> {
  const { source, root, coversSeq, coversMs } = base;
  const kept = pathsOf(treeLeaves(loadNode, root, undefined, signal));
  let next = await kept.next();
  for await (const page of catalog.entries.currentPages(source)) {
    for (const { path, value } of page) {
      if (summaryOf(value, STATE_OFFSET).seq > coversSeq) continue; // made after the base
      while (next.done !== true && next.value < path) next = await kept.next();
      if (next.done !== true && next.value === path) continue;
      const changes: DeltaChange[] = [{ kind: "remove", path }];
      await applyDelta(catalog, { source, seq: coversSeq, timeMs: coversMs, changes });
    }
  }
}

async function* pathsOf(leaves: AsyncIterable<readonly LeafEntry[]>): AsyncGenerator<BytePath, undefined> {
  for await (const leaf of leaves) for (const { path } of leaf) yield path;
  return undefined;
}
