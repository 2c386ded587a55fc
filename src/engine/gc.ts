/**
 * Garbage collection: forgets old versions, then removes what nothing refers to. Commits go on beside it; only while
 * the doomed chunks are taken out of the dedup table do they wait. Backups wait until it has ended. A crash at any
 * moment loses nothing: until the plan is written nothing is deleted, and from then on the next open carries it out.
 */
import type { RepositoryCore } from "./core.js";
import { Marks, markAfterThinning, markEntries, markTrees } from "./gc-mark.js";
import { interruptedPlan } from "./index/epochs.js";
import { type SweepPlan, allowDedup, brake, finishPlan, forbidDedup, planSweep, proveKept, sweep } from "./gc-sweep.js";
import { type ParityLayout, type ParityReport, maintainParity } from "./parity.js";
import type { Repository } from "./repository.js";
import { sealOwnLog } from "./seal.js";
import { dropOldMarks } from "./suspects.js";
import { type ThinningPlan, forgetVersions, planThinning, removeLongAbsent, writeBase } from "./thinning.js";
import type { Delta } from "./tree/delta.js";
import { refuseUnknown, refuseUnread } from "./unread.js";

export interface GcOptions {
  /** Only says what would go. */
  readonly dryRun: boolean;
  /** Share of the store's bytes that may go at once, 0 to 1; default 0.3. Less than 64 MiB may always go. */
  readonly allowShare?: number;
  /** Versions younger than this are kept, ms; older ones only as far as backups hold them. Undefined: all are kept. */
  readonly versionsKeptMs?: number | undefined;
  /** Parity to bring up to the packs that are left; undefined: none is made, and what is there stays. */
  readonly parity?: ParityLayout | undefined;
}

export interface GcReport {
  readonly dryRun: boolean;
  readonly versionsRemoved: number;
  readonly chunksRemoved: number;
  /** About how many bytes of the store became (or would become) free. */
  readonly bytesFreed: number;
  readonly packsDeleted: number;
  readonly packsRewritten: number;
  /** Undefined when none was asked for, or on a dry run. */
  readonly parity?: ParityReport;
}

const ALLOW_SHARE = 0.3;
/** A brake on small stores would stop every clean-up of a test or a home folder. */
const BRAKE_FLOOR_BYTES = 64 * 2 ** 20;

/**
 * Collects. Throws LIMIT_REACHED when the brake holds it, RECORD_DAMAGED or CHUNK_MISSING when a tree or a commit cannot be read:
 * nothing was removed then.
 */
export async function gc(repository: Repository, options: GcOptions, signal: AbortSignal): Promise<GcReport> {
  const { core } = repository;
  core.writeSide();
  core.assertMine();
  return await core.longWork.run(async () => {
    const report = await collect(core, options, signal);
    if (options.parity === undefined || options.dryRun) return report;
    return { ...report, parity: await maintainParity(core, options.parity, signal) };
  }, signal);
}

async function collect(core: RepositoryCore, options: GcOptions, signal: AbortSignal): Promise<GcReport> {
  const { backend, catalog, clock } = core.parts;
  const interrupted = await interruptedPlan(backend, core.log, signal);
  if (interrupted !== undefined) await finishPlan(core, interrupted, signal);
  await refuseUnread(core, signal);
  await refuseUnknown(core, signal);
  await sealOwnLog(core, signal);
  if (options.versionsKeptMs !== undefined && !options.dryRun) {
    await removeLongAbsent(core, options.versionsKeptMs, signal);
  }
  const thinning =
    options.versionsKeptMs === undefined
      ? undefined
      : planThinning(catalog.commits, clock.nowMs(), options.versionsKeptMs);
  if (thinning !== undefined && !options.dryRun) await writeBase(core, thinning, signal);
  const marks = new Marks(catalog.chunks.counts.chunks);
  const listener = (delta: Delta): void => marks.addDelta(delta);
  core.deltaListeners.add(listener);
  try {
    const isTold = thinning !== undefined && options.dryRun;
    await markTrees(core, marks, !isTold, signal);
    if (isTold) {
      const versionsRemoved = await markAfterThinning(core, marks, thinning.throughSeq, signal);
      return await remove(core, { options, marks, thinning, versionsRemoved }, signal);
    }
    const versionsRemoved = thinning === undefined ? 0 : await forget(core, thinning, marks, signal);
    await markEntries(core, marks, signal);
    return await remove(core, { options, marks, thinning, versionsRemoved }, signal);
  } finally {
    core.deltaListeners.delete(listener);
  }
}

async function forget(core: RepositoryCore, plan: ThinningPlan, marks: Marks, signal: AbortSignal): Promise<number> {
  return await forgetVersions(core, plan, (source, path, seq) => marks.hasVersion(source, path, seq), signal);
}

interface Removal {
  readonly options: GcOptions;
  readonly marks: Marks;
  readonly thinning: ThinningPlan | undefined;
  readonly versionsRemoved: number;
}

async function remove(core: RepositoryCore, work: Removal, signal: AbortSignal): Promise<GcReport> {
  const { options, marks, thinning, versionsRemoved } = work;
  const first = await planSweep(core, marks);
  if (options.dryRun) return reportOf(first, work);
  brake(first, options.allowShare ?? ALLOW_SHARE, BRAKE_FLOOR_BYTES);
  await forbidDedup(core, first, marks);
  // Alone for a moment: every commit that may have looked a doomed chunk up before has said by now that it needs it.
  const orphans = await core.maintenance.run(
    () => core.commitGate.exclusive(() => orphanedObjects(core, signal)),
    signal,
  );
  await proveKept(core, first, marks, signal);
  const plan = await planSweep(core, marks, first);
  const commits = thinning?.retires ?? [];
  if (plan.condemned.length + plan.repacked.length + orphans.length + commits.length > 0) {
    await core.maintenance.run(() => sweep(core, plan, { marks, orphans, commits }, signal), signal);
  }
  await dropOldMarks(core, signal);
  await allowDedup(core);
  const report = reportOf(plan, { options, versionsRemoved });
  core.log.info("gc.done", { ...report, orphans: orphans.length, commits: commits.length });
  return report;
}

function reportOf(plan: SweepPlan, work: Pick<Removal, "options" | "versionsRemoved">): GcReport {
  return {
    dryRun: work.options.dryRun,
    versionsRemoved: work.versionsRemoved,
    chunksRemoved: plan.deadChunks,
    bytesFreed: plan.freedBytes,
    packsDeleted: plan.condemned.length,
    packsRewritten: plan.repacked.length,
  };
}

/** Packs and fragments that a crash or a full disk left in the store before the catalog knew of them. */
async function orphanedObjects(core: RepositoryCore, signal: AbortSignal): Promise<string[]> {
  const { backend, catalog } = core.parts;
  const orphans: string[] = [];
  for (const kind of ["d", "m"] as const) {
    for await (const { key } of backend.list(`packs/${kind}/`, signal)) {
      const name = key.slice(key.lastIndexOf("/") + 1);
      if (catalog.chunks.holderNamed(kind, name) === undefined) orphans.push(key);
    }
  }
  for await (const { key } of backend.list("index/", signal)) {
    if (!catalog.commits.hasFragment(key.slice("index/".length))) orphans.push(key);
  }
  return orphans;
}
