/** Carries retention out: plan, brakes, then removal of backups and of the chunks that nothing needs any more. */
import type { Clock } from "../base/clock.js";
import { HoldfastError } from "../base/errors.js";
import type { Observer } from "../base/observe.js";
import { type BackupStamp, REMOVED_SHARE_MAX, type PolicyOf, type RetentionPlan, planRetention } from "./retention.js";

/** What cleanup needs of the repository and of the incidents. */
export interface CleanupPorts {
  listBackups(): Promise<readonly BackupStamp[]>;
  /** Removes backups; those that are gone already are no error. */
  deleteBackups(ids: readonly string[], signal: AbortSignal): Promise<void>;
  /** Removes chunks that nothing refers to; with `dryRun` only counts them. */
  collectGarbage(dryRun: boolean, signal: AbortSignal): Promise<GarbageReport>;
  /** Why nothing may be removed now, such as an open incident of mass loss; undefined = free. */
  frozenBecause(): string | undefined | Promise<string | undefined>;
}

export interface GarbageReport {
  readonly chunksRemoved: number;
  readonly bytesFreed: number;
}

export interface CleanupOptions {
  readonly policyOf: PolicyOf;
  readonly dryRun: boolean;
  /** True: remove even a large share, because a person has seen the plan. */
  readonly force: boolean;
}

export interface CleanupResult extends GarbageReport {
  readonly dryRun: boolean;
  readonly plan: RetentionPlan;
  /** Backups that were removed (or, in a dry run, would be). */
  readonly removed: readonly string[];
}

/**
 * Plans, and unless it is a dry run, removes. Throws LIMIT_REACHED when a brake holds it; a dry run shows the refusal in
 * its plan instead. In a dry run the garbage is what is unreferenced already, before any backup is removed.
 */
export async function cleanUp(
  ports: CleanupPorts,
  options: CleanupOptions,
  context: { readonly clock: Clock; readonly observer: Observer },
  signal: AbortSignal,
): Promise<CleanupResult> {
  const stamps = await ports.listBackups();
  const plan = planRetention(stamps, options.policyOf, {
    nowMs: context.clock.nowMs(),
    frozenBecause: await ports.frozenBecause(),
    shareMax: options.force ? 1 : REMOVED_SHARE_MAX,
  });
  if (options.dryRun) {
    const garbage = await ports.collectGarbage(true, signal);
    return { dryRun: true, plan, removed: plan.remove, ...garbage };
  }
  if (plan.refusedBecause !== undefined) throw refusal(plan.refusedBecause, plan.remove.length);
  signal.throwIfAborted();
  if (plan.remove.length > 0) await ports.deleteBackups(plan.remove, signal);
  context.observer.log.info("cleanup.removed", { backups: plan.remove.length, kept: plan.kept.size });
  // An incident may have opened meanwhile; what it needs may be unreferenced by now but must not go.
  const frozen = await ports.frozenBecause();
  const garbage =
    frozen === undefined ? await ports.collectGarbage(false, signal) : { chunksRemoved: 0, bytesFreed: 0 };
  return { dryRun: false, plan, removed: plan.remove, ...garbage };
}

function refusal(reason: string, count: number): HoldfastError {
  return new HoldfastError("LIMIT_REACHED", `cleanup was stopped: ${reason}`, {
    hint: "Look at `holdfast cleanup --dry-run`; nothing was removed.",
    details: { would_remove: count },
  });
}
