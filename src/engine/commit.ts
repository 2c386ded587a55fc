/**
 * The on-change commit: changed paths of one source are read by the workers, what is new goes into the write-ahead log
 * together with the delta, and the caller hears of it when it is durable. A path is in one commit at a time.
 */
import { mapLimited } from "../base/concurrency.js";
import type { BytePath } from "../base/paths.js";
import type { RepositoryCore } from "./core.js";
import { type CurrentRecord, STATE_OFFSET, stateOf } from "./index/entry-index.js";
import type { LevelOperation } from "./index/level-store.js";
import type { FinishedPack } from "./pack/format.js";
import type { SealedRecord } from "./pack/record.js";
import type { CommitReceipt, PathChange } from "./repository-types.js";
import { datesAfter, readingTimeMs } from "./rot.js";
import { isMarkedAbsent, isMarkedTorn, isSameVersion } from "./tree/codec.js";
import { type DeltaChange, encodeDelta } from "./tree/delta.js";
import { nodeOfUnstamped } from "./tree/unstamped.js";
import type { Entry, FileNode, UnreadablePath } from "./types.js";
import type { FileOutcome } from "./workers/pool.js";

/** Files given to a worker at once: small enough that two workers share a burst. */
const BATCH_PATHS = 128;
/** A delta is cut at about this size; a record may hold 16 MiB. */
export const DELTA_BYTES_AIM = 4 * 2 ** 20;
/** One entry above this cannot be kept in a record: about 400,000 chunks, 100 GiB of content. */
export const ENTRY_BYTES_MAX = 15 * 2 ** 20;
const ENTRY_BYTES_BASE = 400;
const CHUNK_REF_BYTES = 36;

const UNSTOPPABLE = new AbortController().signal;

interface Sorted {
  readonly upserts: readonly { readonly path: BytePath; readonly node: FileNode }[];
  readonly removed: readonly BytePath[];
  readonly unreadable: readonly UnreadablePath[];
  readonly vanished: readonly BytePath[];
  readonly unchanged: readonly Entry[];
}

/** Reads and stores the changes; resolves when they are durable. Of two changes to one path the last counts. */
export async function commitChanges(
  core: RepositoryCore,
  source: string,
  changes: readonly PathChange[],
  signal: AbortSignal,
): Promise<CommitReceipt> {
  core.writeSide();
  const byPath = new Map(changes.map((change) => [change.path, change.kind]));
  const names = [...byPath.keys()].map((path) => `${source}\0${path}`);
  return await core.commitGate.shared(() =>
    core.pathLocks.run(names, () => {
      signal.throwIfAborted();
      return commitLocked(core, source, byPath, signal);
    }),
  );
}

async function commitLocked(
  core: RepositoryCore,
  source: string,
  byPath: ReadonlyMap<BytePath, PathChange["kind"]>,
  signal: AbortSignal,
): Promise<CommitReceipt> {
  // A catalog that takes nothing any more (its disk is full) refuses before anything is read and appended.
  await core.parts.catalog.write([]);
  const toRead = [...byPath].filter(([, kind]) => kind === "upsert").map(([path]) => path);
  const toRemove = [...byPath].filter(([, kind]) => kind === "remove").map(([path]) => path);
  const { clock } = core.parts;
  const readFromMs = readingTimeMs(clock);
  const { outcomes, records } = await ingestInline(core, toRead, signal);
  const sorted = sortOutcomes(core, source, outcomes, toRemove);
  const timeMs = clock.nowMs();
  const seq = await appendChanges(core, { source, timeMs, readFromMs, records, sorted }, signal);
  await refreshStats(core, sorted.unchanged);
  core.assertMine(); // also what is only unchanged is told to be durable
  return {
    seq,
    timeMs,
    readFromMs,
    stored: sorted.upserts.map(({ path, node }) => ({ source, path, node })),
    removed: toRemove, // also what the repository has not: whoever asked for it waits for the word
    unreadable: sorted.unreadable,
    vanished: sorted.vanished,
    unchanged: sorted.unchanged,
  };
}

/** Reads files in the workers; packs (of content too large for the log) are in the store when it resolves. */
async function ingestInline(
  core: RepositoryCore,
  paths: readonly BytePath[],
  signal: AbortSignal,
): Promise<{ outcomes: FileOutcome[]; records: SealedRecord[] }> {
  if (paths.length === 0) return { outcomes: [], records: [] };
  const { pool, chunkSet } = core.parts;
  const job = chunkSet.newJob();
  const packs: FinishedPack[] = [];
  try {
    const batches: BytePath[][] = [];
    for (let start = 0; start < paths.length; start += BATCH_PATHS)
      batches.push(paths.slice(start, start + BATCH_PATHS));
    const results = await mapLimited(batches, pool.workers, signal, async (batch, inner) => {
      const result = await pool.ingest({ job, mode: "inline", compression: "lz4", paths: batch }, inner);
      packs.push(...result.packs);
      return result;
    });
    if (packs.length > 0) await core.storePacks(packs, signal);
    chunkSet.confirmJob(job);
    return {
      outcomes: results.flatMap((result) => result.outcomes),
      records: results.flatMap((result) => result.records),
    };
  } catch (error) {
    await pool.abandon(job, packs);
    throw error;
  }
}

function sortOutcomes(
  core: RepositoryCore,
  source: string,
  outcomes: readonly FileOutcome[],
  toRemove: readonly BytePath[],
): Sorted {
  const { entries } = core.parts.catalog;
  const sorted = {
    upserts: [] as { path: BytePath; node: FileNode }[],
    removed: toRemove.filter((path) => entries.current(source, path) !== undefined),
    unreadable: [] as UnreadablePath[],
    vanished: [] as BytePath[],
    unchanged: [] as Entry[],
  };
  for (const outcome of outcomes) {
    const { path } = outcome;
    if (outcome.kind === "vanished") sorted.vanished.push(path);
    else if (outcome.kind === "unreadable") sorted.unreadable.push({ path, errno: outcome.errno });
    else if (outcome.kind === "read") {
      const node = nodeOfUnstamped(outcome.unstamped);
      if (entryBytes(node) > ENTRY_BYTES_MAX) sorted.unreadable.push({ path, errno: "EFBIG" });
      else if (isUnchanged(entries.current(source, path), node)) sorted.unchanged.push({ source, path, node });
      else sorted.upserts.push({ path, node });
    }
  }
  return sorted;
}

/** True when the current version of a path is the same to whoever restores it. */
export function isUnchanged(known: CurrentRecord | undefined, node: FileNode): boolean {
  if (known === undefined || isMarkedAbsent(known.value, STATE_OFFSET)) return false;
  if (isMarkedTorn(known.value, STATE_OFFSET) !== (node.torn === true)) return false;
  return isSameVersion(stateOf(known).node, node);
}

/** About how many bytes a node takes in a delta. */
export function entryBytes(node: FileNode): number {
  let xattrBytes = 0;
  for (const [name, value] of node.xattrs ?? []) xattrBytes += name.length + value.length + 8;
  return ENTRY_BYTES_BASE + (node.chunks?.length ?? 0) * CHUNK_REF_BYTES + xattrBytes;
}

interface Appendable {
  readonly source: string;
  readonly timeMs: number;
  readonly readFromMs: number;
  readonly records: readonly SealedRecord[];
  readonly sorted: Pick<Sorted, "upserts" | "removed">;
}

/** Appends records and deltas to the log; gives the number of the last commit, 0 when there was nothing to write. */
async function appendChanges(core: RepositoryCore, work: Appendable, signal: AbortSignal): Promise<number> {
  const { source, timeMs, readFromMs, sorted } = work;
  const groups = cutChanges(sorted);
  const dateOf = datesAfter({ nowMs: timeMs, readFromMs });
  // Chunks without a change still count: they replace copies that were found damaged.
  if (groups.length === 0 && work.records.length > 0) groups.push({ upserts: [], removed: [] });
  let records = work.records;
  let last = 0;
  for (const group of groups) {
    signal.throwIfAborted();
    last = await core.appendGate.shared(async () => {
      const seq = core.nextSeq();
      const upserts = group.upserts.map(({ path, node }): DeltaChange => ({
        kind: "upsert",
        path,
        state: { node, timeMs: dateOf?.(node.stat.ctimeNs) ?? timeMs, seq },
      }));
      const removals = group.removed.map((path): DeltaChange => ({ kind: "remove", path }));
      const delta = { source, seq, timeMs, changes: [...upserts, ...removals] };
      const payload = encodeDelta(delta);
      const { wal } = core.writeSide();
      // Not abortable from here: what the log has must also be noted.
      const receipt = await wal.append({ records, payload }, UNSTOPPABLE);
      const placed = receipt.places.flatMap((place, index) => {
        const record = records[index];
        return record === undefined ? [] : [{ ...record, place }];
      });
      const log = { writer: core.parts.writerId, tail: core.tail, segmentPath: (n: number) => wal.segmentPath(n) };
      await core.applyLogCommit(log, { ...receipt, payload, records: placed }, delta);
      return seq;
    });
    records = [];
  }
  return last;
}

/** Changes that fit one delta. */
export interface ChangeGroup {
  readonly upserts: Sorted["upserts"][number][];
  readonly removed: BytePath[];
}

/** Cuts the changes into groups that fit one delta each. */
export function cutChanges(sorted: Pick<Sorted, "upserts" | "removed">): ChangeGroup[] {
  const groups: ChangeGroup[] = [];
  let bytes = Number.POSITIVE_INFINITY;
  const groupFor = (moreBytes: number): ChangeGroup => {
    const last = groups.at(-1);
    if (last !== undefined && bytes + moreBytes <= DELTA_BYTES_AIM) {
      bytes += moreBytes;
      return last;
    }
    const made: ChangeGroup = { upserts: [], removed: [] };
    groups.push(made);
    bytes = moreBytes;
    return made;
  };
  for (const upsert of sorted.upserts) {
    groupFor(upsert.path.length + entryBytes(upsert.node)).upserts.push(upsert);
  }
  for (const path of sorted.removed) groupFor(path.length + ENTRY_BYTES_BASE).removed.push(path);
  return groups;
}

/** Keeps the fresh stat of unchanged files, so that the next scan need not read them. Lost with the index: no harm. */
export async function refreshStats(core: RepositoryCore, unchanged: readonly Entry[]): Promise<void> {
  const { catalog } = core.parts;
  const operations: LevelOperation[] = [];
  for (const { source, path, node } of unchanged) {
    const known = catalog.entries.current(source, path);
    if (known === undefined) continue;
    const state = stateOf(known);
    catalog.entries.putCurrent(operations, { source, path, slot: known.slot }, { ...state, node });
  }
  if (operations.length > 0) await catalog.write(operations);
}
