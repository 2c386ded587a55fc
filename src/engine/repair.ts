/**
 * Repair: what a check finds damaged or missing is made good from where it still is - parity, another copy of the
 * repository, the unchanged live files. Every repaired chunk is a new record in a new pack, proven by its id; nothing is overwritten
 * and nothing is discarded: damaged packs stay until a garbage collection finds that all they hold is held elsewhere.
 */
import type { Backend } from "../storage/backend.js";
import { check, type CheckProblem } from "./check.js";
import type { RepositoryCore } from "./core.js";
import { findInCopy, openCopy } from "./repair/from-copy.js";
import { findInLiveFiles } from "./repair/from-live.js";
import { findInParity, restoreMissingPacks } from "./repair/from-parity.js";
import { FoundRecords } from "./repair/found-records.js";
import { findLost, type LostChunks } from "./repair/lost.js";
import { readsAgain, repairObjects } from "./repair/objects.js";
import { damagedParity, dropParity } from "./parity.js";
import type { Repository } from "./repository.js";
import { TREE_LEVEL_MAX } from "./tree/node.js";

/** Where repaired chunks came from, in the order in which the places are asked. */
export const REPAIR_ORIGINS = ["parity", "copy", "live"] as const;
export type RepairOrigin = (typeof REPAIR_ORIGINS)[number];

export interface RepairOptions {
  /** Only says what would be repaired, and from where. */
  readonly dryRun: boolean;
  /** True: reads and proves everything stored first; else what earlier checks and reads found is repaired. */
  readonly readData?: boolean;
  /** A folder or URL with another copy of the repository. */
  readonly copyUrl?: string | undefined;
}

export interface RepairReport {
  readonly dryRun: boolean;
  /** Chunks and tree nodes of which no whole place was known. */
  readonly chunksLost: number;
  readonly chunksRepaired: Readonly<Record<RepairOrigin, number>>;
  /** Packs that were gone and came back whole out of parity, bytes. */
  readonly packBytesRestored: number;
  /** Damaged parity objects that were removed; a collection makes them again. */
  readonly parityDropped: number;
  /** Size of the new packs that were written. */
  readonly bytesWritten: number;
  /** Keys of configuration copies, key slots, commits and fragments that were made good. */
  readonly objectsRepaired: readonly string[];
  /** True: commits came back, or may read now. They are known after the next open; a repair then goes on with what they refer to. */
  readonly reopenNeeded: boolean;
  /** What is still wrong afterwards, by a check of the structure. */
  readonly problems: readonly CheckProblem[];
  readonly problemCount: number;
}

interface Totals {
  lost: number;
  bytesWritten: number;
  readonly repaired: Record<RepairOrigin, number>;
}

/** Repairs. Throws what reading and writing the store throws, and USAGE for a copy that is none; damage is in the report. */
export async function repair(
  repository: Repository,
  options: RepairOptions,
  signal: AbortSignal,
): Promise<RepairReport> {
  const { core } = repository;
  core.writeSide();
  core.assertMine();
  const copy = options.copyUrl === undefined ? undefined : await openCopy(core, options.copyUrl, signal);
  try {
    return await core.longWork.run(() => repairAll(repository, { ...options, copy }, signal), signal);
  } finally {
    await copy?.[Symbol.asyncDispose]();
  }
}

interface Work extends RepairOptions {
  readonly copy: Backend | undefined;
}

async function repairAll(repository: Repository, work: Work, signal: AbortSignal): Promise<RepairReport> {
  const { core } = repository;
  const objectsRepaired = await repairObjects({ core, copy: work.copy, writes: !work.dryRun, signal });
  await check(repository, { level: work.readData === true ? "full" : "structure" }, signal);
  const totals: Totals = { lost: 0, bytesWritten: 0, repaired: { parity: 0, copy: 0, live: 0 } };
  const packBytesRestored = work.dryRun ? 0 : await restoreMissingPacks(core, signal);
  // A tree node that was repaired shows what is lost below it.
  for (let round = 0; round <= TREE_LEVEL_MAX + 1; round += 1) {
    const lost = await findLost(core, signal);
    const before = lost.size;
    await repairChunks(core, lost, { work, totals }, signal);
    if (lost.size === before || work.dryRun) {
      totals.lost += lost.size;
      break;
    }
  }
  // Only now: parity that is damaged in one place gives what it has of all others, also to a later repair.
  const parityDropped = work.readData === true && totals.lost === 0 ? await damagedParity(core, signal) : [];
  if (!work.dryRun) await dropParity(core, parityDropped, signal);
  const { problems, problemCount } = await check(repository, { level: "structure" }, signal);
  const { lost: left, repaired, bytesWritten } = totals;
  const chunksLost = left + Object.values(repaired).reduce((sum, count) => sum + count, 0);
  const { dryRun } = work;
  const isForNextStart = (key: string): boolean => key.startsWith("commits/") || key.startsWith("wal/");
  const reopenNeeded = !dryRun && (objectsRepaired.some(isForNextStart) || (await readsAgain(core, signal)));
  const report = {
    dryRun,
    chunksLost,
    chunksRepaired: repaired,
    packBytesRestored,
    parityDropped: parityDropped.length,
    bytesWritten,
    objectsRepaired,
    reopenNeeded,
  };
  core.log.info("repair.done", { ...report, problemCount });
  return { ...report, problems, problemCount };
}

/** Asks each place in turn for what is still lost; what was found is off `lost` afterwards. */
async function repairChunks(
  core: RepositoryCore,
  lost: LostChunks,
  { work, totals }: { readonly work: Work; readonly totals: Totals },
  signal: AbortSignal,
): Promise<void> {
  if (lost.size === 0) return;
  await using found = new FoundRecords(core, lost, !work.dryRun);
  await findInParity(core, lost, found, signal);
  totals.repaired.parity += found.count;
  const fromParity = found.count;
  if (work.copy !== undefined) await findInCopy(core, work.copy, { lost, found }, signal);
  totals.repaired.copy += found.count - fromParity;
  const fromCopy = found.count;
  await findInLiveFiles(core, lost, found, signal);
  totals.repaired.live += found.count - fromCopy;
  totals.bytesWritten += await found.store(signal);
}
