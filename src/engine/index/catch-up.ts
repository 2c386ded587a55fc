/**
 * Brings the catalog up to what the store holds: commits are listed first, then index fragments (so that nothing a
 * commit needs can be missed), then packs that no whole fragment lists, and last what of them is known to be damaged. A
 * new catalog is filled the same way.
 */
import { HoldfastError, hasCode } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";
import type { Backend } from "../../storage/backend.js";
import type { BytePath } from "../../base/paths.js";
import { type Checkpoint, type StoredCommit, decodeCommit, sha256Of } from "../commit-log.js";
import type { PackEntry } from "../pack/format.js";
import { packKey } from "../pack/format.js";
import { readPackDirectory, scanEntries } from "../pack/reader.js";
import { salvaging } from "../pack/salvage.js";
import { type ByteSource, objectSource } from "../pack/source.js";
import type { ParityStore } from "../parity/group-store.js";
import type { RecordOpener } from "../pack/record.js";
import { ByteReader } from "../tree/bytes.js";
import { readState, summaryOf } from "../tree/codec.js";
import type { Delta, DeltaChange } from "../tree/delta.js";
import type { LeafEntry } from "../tree/node.js";
import { type LoadNode, diffTrees, treeLeaves } from "../tree/reader.js";
import type { ChunkId } from "../types.js";
import { UNREAD_NUMBERS, type UnreadObjects, isUnread } from "./unread-objects.js";
import type { Catalog } from "./catalog.js";
import { STATE_OFFSET } from "./entry-index.js";
import { type Fragment, type IndexedPack, decodeFragment } from "./fragments.js";
import type { LevelOperation } from "./level-store.js";
import { suspectLost, takeInLost, takeInMarks } from "./lost-packs.js";

export interface CatchUpContext {
  readonly backend: Backend;
  readonly opener: RecordOpener;
  readonly catalog: Catalog;
  readonly loadNode: LoadNode;
  readonly parity: ParityStore;
  readonly unread: UnreadObjects;
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
  // Its commits are not read again: made anew, whatever a newer key sealed is met, and refused (REPO_KEY_WRONG).
  if (catalog.keyNumber > context.opener.keys.olderRecordMasters.length) return "a newer key opened it before";
  if (catalog.epoch !== epoch) return "a garbage collection ran that it does not know of";
  const present = new Set(await listKeys(backend, "commits/", signal));
  for (const { key } of catalog.commits.applied()) if (!present.has(key)) return `it knows ${key}, the store does not`;
  // Commits after it were taken in: in their turn it may be the other way round, as with a backup and its removal.
  for (const key of catalog.commits.partial().filter((each) => present.has(each) && !catalog.commits.isApplied(each))) {
    if (await reads(context, key, signal)) return `the commit ${key} did not read before`;
  }
  const segments = new Set(await listKeys(backend, "wal/", signal));
  for (const holder of catalog.chunks.holders()) {
    if (holder.kind === "w" && !segments.has(`wal/${holder.name}.seg`)) return `the log segment ${holder.name} is gone`;
  }
  const unlike = await catalog.logEnds.firstUnlike(backend, signal);
  if (unlike !== undefined) return `the log segment ${unlike} does not hold what was taken in of it`;
  return undefined;
}

/** Takes in what is new; returns the largest commit number in use. What cannot be read is noted and left out. */
export async function catchUp(context: CatchUpContext, signal: AbortSignal): Promise<number> {
  const { backend, catalog } = context;
  const commitKeys = await listKeys(backend, "commits/", signal);
  const hadPartial = catalog.commits.partial().length > 0;
  await takeInPacks(context, signal);
  const commits: StoredCommit[] = [];
  const unreadKeys: string[] = [];
  for (const key of commitKeys) {
    if (catalog.commits.isApplied(key) && !catalog.commits.isPartial(key)) continue;
    const commit = await readCommit(context, key, signal);
    if (commit === undefined) unreadKeys.push(key);
    else commits.push(commit);
  }
  await notePartial(catalog, unreadKeys, new Set(commitKeys));
  commits.sort((a, b) => a.header.number - b.header.number);
  await applyCommits(context, commits, signal);
  let lastSeq = 0;
  for (const applied of catalog.commits.applied()) lastSeq = Math.max(lastSeq, applied.lastSeq, applied.number);
  // Backups may have been made while some of this did not read: their trees need not hold what earlier commits tell.
  if (catalog.isNew || hadPartial) catalog.entries.changedThrough(lastSeq);
  return hasUnreadNewest(catalog, commitKeys) ? lastSeq + UNREAD_NUMBERS : lastSeq;
}

/** Notes what is to be taken in with its trees once it reads, and forgets what was given up. */
async function notePartial(
  catalog: Catalog,
  unreadKeys: readonly string[],
  present: ReadonlySet<string>,
): Promise<void> {
  const operations: LevelOperation[] = [];
  for (const key of unreadKeys) catalog.commits.notePartial(operations, key, true);
  for (const key of catalog.commits.partial()) {
    if (key.startsWith("commits/") && !present.has(key)) catalog.commits.notePartial(operations, key, false);
  }
  await catalog.write(operations);
}

/** True when the newest commit of a writer was not taken in: numbers above all known ones may be in use. */
function hasUnreadNewest(catalog: Catalog, commitKeys: readonly string[]): boolean {
  const newest = new Map<string, string>();
  for (const key of commitKeys) newest.set(key.slice(0, key.lastIndexOf("/")), key); // they come in order
  return [...newest.values()].some((key) => !catalog.commits.isApplied(key));
}

async function reads({ backend, opener }: CatchUpContext, key: string, signal: AbortSignal): Promise<boolean> {
  try {
    decodeCommit(opener, key, await backend.get(key, signal)).assertDeltas();
    return true;
  } catch (error) {
    if (!isUnread(error)) throw error;
    return false;
  }
}

async function listKeys(backend: Backend, prefix: string, signal: AbortSignal): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of backend.list(prefix, signal)) keys.push(key);
  return keys;
}

async function readCommit(
  { backend, opener, unread }: CatchUpContext,
  key: string,
  signal: AbortSignal,
): Promise<StoredCommit | undefined> {
  try {
    return decodeCommit(opener, key, await backend.get(key, signal));
  } catch (error) {
    if (!isUnread(error)) throw error;
    unread.add(key, error.message);
    return undefined;
  }
}

// --- packs -----------------------------------------------------------------------------------------------------------

async function takeInPacks(context: CatchUpContext, signal: AbortSignal): Promise<void> {
  const damaged = await takeInFragments(context, signal);
  if (damaged > 0 || context.catalog.isNew) {
    const present = await takeInUnlistedPacks(context, signal);
    await takeInLost(context, present, signal);
    await suspectLost(context, present);
  } else {
    await takeInPartialPacks(context, signal);
  }
  await takeInMarks(context, signal);
}

/** Takes in the fragments that this index does not know; gives the number of those that cannot be read. */
export async function takeInFragments(context: CatchUpContext, signal: AbortSignal): Promise<number> {
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
  return damaged;
}

async function readFragment(
  { backend, opener, unread, log }: CatchUpContext,
  name: string,
  signal: AbortSignal,
): Promise<Fragment | undefined> {
  try {
    const bytes = await backend.get(`index/${name}`, signal);
    if (sha256Of(bytes) !== name) throw new HoldfastError("RECORD_DAMAGED", "its content is not what its name says");
    return decodeFragment(opener.open(bytes).plain);
  } catch (error) {
    if (!isUnread(error)) throw error;
    // A damaged one only repeats what the packs say; one that may read again later tells of packs that are lost by then.
    if (error.code === "STORE_IO") unread.add(`index/${name}`, error.message);
    else log.error("fragment.damaged", { fragment: name, reason: error.message });
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
      const records = await takeInPack(context, { kind, sha256, sizeBytes }, signal);
      log.info("pack.found", { kind, pack: sha256, records });
    }
  }
  return present;
}

type StoredPack = Omit<IndexedPack, "entries">;

/** Takes in a pack by what it says itself; gives the number of its records. */
async function takeInPack(context: CatchUpContext, pack: StoredPack, signal: AbortSignal): Promise<number> {
  const { catalog, unread } = context;
  const key = packKey(pack.kind, pack.sha256);
  const { entries, isWhole } = await readEntries(context, pack, signal);
  // Of what a scan did not find nothing is known: a collection must not take the pack for one that holds no more.
  if (!isWhole) unread.add(key, "places of it do not read");
  const operations: LevelOperation[] = [];
  const fragment = catalog.chunks.holderNamed(pack.kind, pack.sha256)?.fragment ?? "";
  catalog.chunks.putPack(operations, { ...pack, entries }, fragment);
  catalog.commits.notePartial(operations, key, !isWhole);
  await catalog.write(operations);
  return entries.length;
}

/** Packs of which an earlier start could not read all. */
async function takeInPartialPacks(context: CatchUpContext, signal: AbortSignal): Promise<void> {
  const { backend, catalog } = context;
  for (const key of catalog.commits.partial()) {
    const [, kind, sha256] = /^packs\/([dm])\/[0-9a-f]{2}\/([0-9a-f]{64})$/.exec(key) ?? [];
    if (sha256 === undefined) continue;
    const info = await backend.stat(key, signal);
    if (info === undefined) {
      const operations: LevelOperation[] = [];
      catalog.commits.notePartial(operations, key, false);
      await catalog.write(operations);
      continue;
    }
    await takeInPack(context, { kind: kind === "d" ? "d" : "m", sha256, sizeBytes: info.sizeBytes }, signal);
  }
}

async function readEntries(
  { backend, opener, log }: CatchUpContext,
  pack: StoredPack,
  signal: AbortSignal,
): Promise<{ readonly entries: readonly PackEntry[]; readonly isWhole: boolean }> {
  const key = packKey(pack.kind, pack.sha256);
  const source = salvaging(objectSource(backend, key, pack.sizeBytes));
  try {
    return { entries: (await readPackDirectory(source, opener, signal)).entries, isWhole: true };
  } catch (error) {
    if (!isUnread(error)) throw error;
    log.error("pack.damaged", { pack: pack.sha256, reason: error.message });
  }
  const entries = await scanOrNothing(source, opener, signal);
  return { entries: entries ?? [], isWhole: entries !== undefined && source.badPieces === 0 };
}

/** Undefined when too much of a pack does not read. */
async function scanOrNothing(
  source: ByteSource,
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<readonly PackEntry[] | undefined> {
  try {
    return await scanEntries(source, opener, signal);
  } catch (error) {
    if (!hasCode(error, "STORE_IO")) throw error;
    return undefined;
  }
}

// --- commits ---------------------------------------------------------------------------------------------------------

async function applyCommits(
  context: CatchUpContext,
  commits: readonly StoredCommit[],
  signal: AbortSignal,
): Promise<void> {
  const { catalog } = context;
  const isLacking = [...context.unread.keys()].some((key) => key.startsWith("commits/"));
  const trees = {
    roots: new Map<string, ChunkId>(),
    withTrees: catalog.isNew ? checkpointsToRead(commits, isLacking) : new Set<StoredCommit>(),
  };
  for (const commit of commits) {
    signal.throwIfAborted();
    const isWhole = await applyContent(context, commit, trees, signal);
    // Deltas are taken in whole or not at all; of a checkpoint more than its trees is of use.
    if (!isWhole && commit.header.body.kind === "deltas") continue;
    const operations: LevelOperation[] = [];
    if (!catalog.commits.isApplied(commit.key)) catalog.commits.putCommit(operations, commit);
    catalog.commits.notePartial(operations, commit.key, !isWhole);
    await catalog.write(operations);
  }
}

/** Takes in what a commit says of paths; false when something of it cannot be read. */
async function applyContent(
  context: CatchUpContext,
  commit: StoredCommit,
  { roots, withTrees }: { readonly roots: Map<string, ChunkId>; readonly withTrees: ReadonlySet<StoredCommit> },
  signal: AbortSignal,
): Promise<boolean> {
  const { catalog, unread } = context;
  const { body } = commit.header;
  try {
    if (body.kind === "deltas") {
      commit.assertDeltas();
      for (const delta of commit.deltas()) await applyDelta(catalog, delta);
    }
    const isWanted = withTrees.has(commit) || catalog.commits.isPartial(commit.key);
    if ((body.kind === "backup" || body.kind === "base") && isWanted) await applyTrees(context, body, roots, signal);
    return true;
  } catch (error) {
    if (!isUnread(error) && !hasCode(error, "CHUNK_MISSING")) throw error;
    unread.add(commit.key, error.message);
    return false;
  }
}

/**
 * Deltas that the last base stands in for were thinned out: what they said is read from that base's trees and those of
 * the kept backups before it. Trees of removed backups and older bases may be collected already. When a commit could not
 * be read, it may have been the base, or deltas: then all kept backups tell what they can.
 */
function checkpointsToRead(commits: readonly StoredCommit[], isLacking: boolean): Set<StoredCommit> {
  const base = commits.findLast(({ header }) => header.body.kind === "base");
  if (base?.header.body.kind !== "base" && !isLacking) return new Set();
  const coversSeq =
    base?.header.body.kind === "base" && !isLacking ? base.header.body.coversSeq : Number.POSITIVE_INFINITY;
  const removals = lastRemovals(commits);
  const kept = commits.filter(
    ({ header: { number, body } }) =>
      body.kind === "backup" && body.coversSeq <= coversSeq && number > (removals.get(body.manifest.backup_id) ?? 0),
  );
  return new Set([...kept, ...(base === undefined ? [] : [base])]);
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
