/**
 * One round of a backup's reading: what the workers made of some thousands of paths, brought into commits and catalog.
 * Between a path's walk and its round an on-change commit may have stored a newer version: that one stays.
 */
import type { BytePath } from "../base/paths.js";
import { DELTA_BYTES_AIM, ENTRY_BYTES_MAX, isUnchanged, refreshStats } from "./commit.js";
import type { RepositoryCore } from "./core.js";
import { type CurrentRecord, type KnownUpsert, STATE_OFFSET } from "./index/entry-index.js";
import type { LevelOperation } from "./index/level-store.js";
import type { FinishedPack } from "./pack/format.js";
import { type CommitTimes, datesAfter, looksRotten } from "./rot.js";
import { isMarkedAbsent, summaryOf } from "./tree/codec.js";
import { decodeDelta, type Delta, encodeUpserts, type UnstampedUpsert } from "./tree/delta.js";
import { nodeOfUnstamped } from "./tree/unstamped.js";
import type { Entry, FileNode } from "./types.js";
import type { FileOutcome } from "./workers/pool.js";

/** Paths that commits beside a backup changed are remembered up to here, 200 bytes each; beyond it all are looked up. */
const TOUCHED_MAX = 50_000;

/** A job of the workers and what came of it. */
export interface Round {
  readonly job: number;
  /** Nothing in it was read before, wall ms. */
  readonly startMs: number;
  readonly outcomes: FileOutcome[];
  readonly packs: FinishedPack[];
  /** The current record of each path in it when the walk came by. */
  readonly known: Map<BytePath, CurrentRecord | undefined>;
  /** Reappeared paths whose content need not be read: their last version, unstamped. */
  readonly returned: { readonly path: BytePath; readonly unstamped: Buffer }[];
  readonly running: Set<Promise<void>>;
  files: number;
  bytes: number;
}

/** Paths of a source that other commits changed since its reading began. */
export class TouchedPaths {
  readonly #paths = new Set<BytePath>();

  note(delta: Delta): void {
    for (const { path } of delta.changes) if (this.#paths.size <= TOUCHED_MAX) this.#paths.add(path);
  }

  get isEmpty(): boolean {
    return this.#paths.size === 0;
  }

  has(path: BytePath): boolean {
    return this.#paths.size > TOUCHED_MAX || this.#paths.has(path);
  }
}

export interface RoundCommit {
  readonly source: string;
  readonly touched: TouchedPaths;
  /** When a reading began that found a path with this content, wall ms. */
  readonly verifiedMs: (path: BytePath, sha256: string) => number | undefined;
  /** Told of every path that is in the backup. */
  readonly noteSeen: (slot: number) => void;
  /** The same, for what was in the catalog and not absent. */
  readonly noteStillThere: (slot: number) => void;
  /** Told of every path whose last good version is kept because it could not be read. */
  readonly noteUnreadable: () => void;
  /** Told of every path whose last good version is kept because what stands there cannot have been written. */
  readonly noteSuspect: (path: BytePath) => void;
}

interface Upsert {
  readonly path: BytePath;
  readonly unstamped: Buffer;
  readonly known: CurrentRecord | undefined;
}

/** Commits a round whose packs are in the store. The caller holds the locks of its paths. */
export async function commitRound(
  core: RepositoryCore,
  round: Round,
  commit: RoundCommit,
  signal: AbortSignal,
): Promise<void> {
  const { entries } = core.parts.catalog;
  const upserts: Upsert[] = [];
  const unchanged: Entry[] = [];
  for (const { path, unstamped } of round.returned) {
    const known = entries.current(commit.source, path);
    if (known !== undefined && isMarkedAbsent(known.value, STATE_OFFSET)) upserts.push({ path, unstamped, known });
  }
  for (const outcome of round.outcomes) {
    if (outcome.kind === "vanished" || outcome.kind === "skipped") continue;
    const current = currentFor(core, round, commit, outcome.path);
    if (current === "newer") continue;
    const { known } = current;
    // What is marked absent is in no tree, and gets into one only by being read.
    if (known !== undefined && !isMarkedAbsent(known.value, STATE_OFFSET)) commit.noteStillThere(known.slot);
    if (outcome.kind === "unreadable" || outcome.unstamped.length > ENTRY_BYTES_MAX) {
      commit.noteUnreadable();
      continue;
    }
    const { path, unstamped } = outcome;
    const fate = fateOf(known, unstamped, commit);
    if (fate === "rotten") commit.noteSuspect(path);
    else if (fate === "new") upserts.push({ path, unstamped, known });
    else unchanged.push({ source: commit.source, path, node: fate });
  }
  for (const group of groupsOf(upserts)) await commitGroup(core, { round, group }, commit, signal);
  await refreshStats(core, unchanged);
}

/** What was read: a new version, what cannot have been written, or (its node) what is stored already. */
function fateOf(
  known: CurrentRecord | undefined,
  unstamped: Buffer,
  { verifiedMs }: RoundCommit,
): "new" | "rotten" | FileNode {
  if (known === undefined) return "new";
  const node = nodeOfUnstamped(unstamped);
  if (isUnchanged(known, node)) return node;
  return looksRotten(known, node, verifiedMs) ? "rotten" : "new";
}

/** The current record of a path, or "newer" when a commit came between walk and now: its version is as good as ours. */
function currentFor(
  core: RepositoryCore,
  round: Round,
  { source, touched }: RoundCommit,
  path: BytePath,
): "newer" | { readonly known: CurrentRecord | undefined } {
  const before = round.known.get(path);
  if (!touched.has(path)) return { known: before };
  const known = core.parts.catalog.entries.current(source, path);
  return seqOf(known) === seqOf(before) ? { known } : "newer";
}

function seqOf(record: CurrentRecord | undefined): number {
  return record === undefined ? -1 : summaryOf(record.value, STATE_OFFSET).seq;
}

/** Cuts the upserts into groups that fit one delta each. */
function* groupsOf(upserts: readonly Upsert[]): Generator<Upsert[]> {
  let group: Upsert[] = [];
  let bytes = 0;
  for (const upsert of upserts) {
    const more = upsert.path.length + upsert.unstamped.length;
    if (group.length > 0 && bytes + more > DELTA_BYTES_AIM) {
      yield group;
      group = [];
      bytes = 0;
    }
    group.push(upsert);
    bytes += more;
  }
  if (group.length > 0) yield group;
}

/** The upserts with the time of each version where that is not the commit's. */
function dated(group: readonly Upsert[], times: CommitTimes): readonly UnstampedUpsert[] {
  const dateOf = datesAfter(times);
  if (dateOf === undefined) return group;
  return group.map(({ path, unstamped }) => ({
    ...{ path, unstamped },
    timeMs: dateOf(nodeOfUnstamped(unstamped).stat.ctimeNs),
  }));
}

async function commitGroup(
  core: RepositoryCore,
  { round, group }: { readonly round: Round; readonly group: readonly Upsert[] },
  { source, noteSeen }: RoundCommit,
  signal: AbortSignal,
): Promise<void> {
  const { catalog, clock } = core.parts;
  await core.appendGate.shared(async () => {
    const seq = core.nextSeq();
    const delta = { source, seq, timeMs: clock.nowMs() };
    const { payload, states } = encodeUpserts(delta, dated(group, { nowMs: delta.timeMs, readFromMs: round.startMs }));
    await core.commit({ kind: "deltas", firstSeq: seq, lastSeq: seq }, [payload], signal);
    const upserts = group.flatMap(({ path, known }, index): KnownUpsert[] => {
      const state = states[index];
      return state === undefined ? [] : [{ path, state, known }];
    });
    const operations: LevelOperation[] = [];
    catalog.entries.applyUpserts(operations, delta, upserts, noteSeen);
    await catalog.write(operations);
    // Nobody else listens while a backup runs, unless something marks what is needed: then it hears the whole.
    if (core.deltaListeners.size > 1) {
      const whole = decodeDelta(payload);
      for (const listener of core.deltaListeners) listener(whole);
    }
  });
}
