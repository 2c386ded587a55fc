/**
 * Thinning of versions: delta commits older than a given time are replaced by one base, a checkpoint of all sources as
 * they stood after the last of them. Versions that the base and the kept backups do not hold are forgotten. All is
 * decided by commit numbers, so that what the catalog forgets is exactly what a rebuilt catalog would not find.
 */
import type { CommitIndex } from "./index/commit-index.js";
import type { SourceRoot } from "./commit-log.js";
import type { RepositoryCore } from "./core.js";
import type { BytePath } from "../base/paths.js";
import { type CurrentRecord, STATE_OFFSET, type VersionRecord, stateOf } from "./index/entry-index.js";
import type { LevelOperation } from "./index/level-store.js";
import { TreeBuilder } from "./tree/builder.js";
import { NodeWriter } from "./tree/checkpoint-tree.js";
import { encodeState, isMarkedAbsent } from "./tree/codec.js";
import { type DeltaChange, encodeDelta } from "./tree/delta.js";
import { oldBeforeMs } from "./version-age.js";
import { type PathHistory, pathHistories } from "./versions.js";

export interface ThinningPlan {
  /** Every delta up to this number is in a commit that is retired. */
  readonly throughSeq: number;
  /** The newest time of the retired deltas, wall ms. */
  readonly throughMs: number;
  /** Keys of the delta commits that the base stands in for. */
  readonly retires: readonly string[];
}

/** Fewer old delta commits than this are left alone: a base costs more than they do. */
const RETIRED_MIN = 8;
/** Removals of one delta. */
const REMOVALS_MAX = 10_000;
/** Catalog operations written at once. */
const OPERATIONS_MAX = 10_000;

/** Which delta commits can go so that every version younger than `keptMs` stays. Undefined: not worth it. */
export function planThinning(commits: CommitIndex, nowMs: number, keptMs: number): ThinningPlan | undefined {
  const deltas = [...commits.applied()].filter((commit) => commit.kind === "deltas");
  const beforeMs = oldBeforeMs(commits.applied(), nowMs, keptMs);
  const newest = new Map<string, number>();
  for (const { writer, seq } of deltas) newest.set(writer, Math.max(seq, newest.get(writer) ?? 0));
  // The newest one of each writer stays: it says where that writer's log goes on.
  const isOld = (commit: (typeof deltas)[number]): boolean =>
    commit.timeMs < beforeMs && newest.get(commit.writer) !== commit.seq;
  const firstKept = Math.min(...deltas.filter((commit) => !isOld(commit)).map((commit) => commit.firstSeq ?? 0));
  const retired = deltas.filter((commit) => isOld(commit) && commit.lastSeq < firstKept);
  if (retired.length < RETIRED_MIN) return undefined;
  return {
    throughSeq: firstKept - 1,
    throughMs: Math.max(...retired.map(({ timeMs }) => timeMs)),
    retires: retired.map(({ key }) => key),
  };
}

/**
 * Records the removal of paths that have been absent for longer than versions are kept: from then on they are versions
 * like others, and go in their time.
 */
export async function removeLongAbsent(core: RepositoryCore, keptMs: number, signal: AbortSignal): Promise<number> {
  const { clock, catalog } = core.parts;
  const beforeMs = oldBeforeMs(catalog.commits.applied(), clock.nowMs(), keptMs);
  let removed = 0;
  for (const source of catalog.entries.sourceNames) {
    const gone: BytePath[] = [];
    for await (const page of catalog.entries.currentPages(source)) {
      for (const record of page) if (isAbsentBefore(record, beforeMs)) gone.push(record.path);
      if (gone.length >= REMOVALS_MAX)
        removed += await commitRemovals(core, { source, paths: gone.splice(0), beforeMs }, signal);
    }
    removed += await commitRemovals(core, { source, paths: gone, beforeMs }, signal);
  }
  return removed;
}

function isAbsentBefore(record: CurrentRecord, beforeMs: number): boolean {
  if (!isMarkedAbsent(record.value, STATE_OFFSET)) return false;
  return (stateOf(record).absentSinceMs ?? beforeMs) < beforeMs;
}

async function commitRemovals(
  core: RepositoryCore,
  {
    source,
    paths,
    beforeMs,
  }: { readonly source: string; readonly paths: readonly BytePath[]; readonly beforeMs: number },
  signal: AbortSignal,
): Promise<number> {
  const names = paths.map((path) => `${source}\0${path}`);
  return await core.pathLocks.run(names, async () => {
    const still = paths.filter((path) => {
      const record = core.parts.catalog.entries.current(source, path);
      return record !== undefined && isAbsentBefore(record, beforeMs);
    });
    if (still.length === 0) return 0;
    await core.appendGate.shared(async () => {
      const seq = core.nextSeq();
      const changes = still.map((path): DeltaChange => ({ kind: "remove", path }));
      const delta = { source, seq, timeMs: core.parts.clock.nowMs(), changes };
      await core.commit({ kind: "deltas", firstSeq: seq, lastSeq: seq }, [encodeDelta(delta)], signal);
      await core.applyDelta(delta);
    });
    return still.length;
  });
}

/** Writes the base; the retired commits may be deleted once it is there. */
export async function writeBase(core: RepositoryCore, plan: ThinningPlan, signal: AbortSignal): Promise<void> {
  const { keys, chunkSet, catalog } = core.parts;
  await using writer = new NodeWriter({
    ...{ newPack: () => core.newPack("m"), keys, compression: "lz4" as const },
    isStored: (id) => chunkSet.isDurable(id),
  });
  const sources: SourceRoot[] = [];
  for (const name of catalog.entries.sourceNames) {
    const builder = new TreeBuilder((bytes) => writer.store(bytes));
    for await (const history of pathHistories(catalog.entries, name, signal)) {
      const state = baseVersion(history, plan.throughSeq)?.state;
      if (state === undefined) continue;
      const wait = builder.add(history.path, encodeState(state));
      if (wait !== undefined) await wait;
    }
    const { id: root, entryCount } = await builder.finish();
    sources.push({ name, root, entryCount });
  }
  await core.storePacks(await writer.finish(), signal);
  const { throughSeq: coversSeq, throughMs: coversMs, retires } = plan;
  await core.commit({ kind: "base", sources, coversSeq, coversMs, retires }, [], signal);
}

/** The version that a base holds of a path: its newest up to the base's number, an absence mark being part of it. */
function baseVersion({ versions, current }: PathHistory, throughSeq: number): VersionRecord | undefined {
  const isMark = (version: VersionRecord): boolean => version.state === undefined && !Number.isInteger(version.seq);
  const found = versions.find((version) => version.seq <= throughSeq && !isMark(version));
  // What is not current and has no removal behind it was removed all the same: earlier collections forgot removals.
  const isRemoved = current === undefined && found === versions[0];
  return isRemoved ? undefined : found;
}

/** Forgets the versions that neither the base nor a kept backup holds; gives their number. */
export async function forgetVersions(
  core: RepositoryCore,
  plan: ThinningPlan,
  isInBackup: (source: string, path: string, seq: number) => boolean,
  signal: AbortSignal,
): Promise<number> {
  const { entries } = core.parts.catalog;
  let forgotten = 0;
  for (const source of entries.sourceNames) {
    let operations: LevelOperation[] = [];
    for await (const history of pathHistories(entries, source, signal)) {
      for (const seq of forgettable(history, plan.throughSeq, (each) => isInBackup(source, history.path, each))) {
        entries.dropVersion(operations, source, history.path, seq);
        forgotten += 1;
      }
      if (operations.length < OPERATIONS_MAX) continue;
      await core.parts.catalog.write(operations);
      operations = [];
    }
    await core.parts.catalog.write(operations);
  }
  return forgotten;
}

/**
 * Numbers of the older versions of a path that neither a base through this number nor a kept backup holds. The removal
 * of a version that stays is none: without it the version would count as what is there still.
 */
export function forgettable(
  history: PathHistory,
  throughSeq: number,
  isInBackup: (seq: number) => boolean,
): readonly number[] {
  const kept = baseVersion(history, throughSeq);
  const isHeld = ({ seq }: VersionRecord): boolean =>
    seq > throughSeq || (kept?.state !== undefined && Math.floor(seq) === kept.seq) || isInBackup(seq);
  const older = history.versions.slice(history.current === undefined ? 0 : firstOlder(history));
  const forgotten: number[] = [];
  let staysBefore = false;
  for (const version of older.reverse()) {
    if (version.state !== undefined) staysBefore = isHeld(version);
    if (!isHeld(version) && !(version.state === undefined && staysBefore)) forgotten.push(version.seq);
  }
  return forgotten;
}

/** Index of the first version that is in the history and not the current one. */
function firstOlder({ versions }: PathHistory): number {
  return versions.findIndex(({ state }) => state !== undefined) + 1;
}

/** The newest base commit, whose trees must be kept. */
export function newestBaseKey(commits: CommitIndex): string | undefined {
  const bases = [...commits.applied()].filter(({ kind }) => kind === "base");
  return bases.sort((a, b) => b.number - a.number)[0]?.key;
}
