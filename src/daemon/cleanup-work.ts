/** Retention carried out over this daemon's parts: which backups go, and the chunks that nothing needs any more. */
import { HoldfastError } from "../base/errors.js";
import { counted } from "../base/units.js";
import type { Configuration } from "../config/configuration.js";
import type { Manifest } from "../engine/types.js";
import {
  type BackupStamp,
  type KeptBackups,
  type PolicyOf,
  REMOVED_SHARE_MAX,
  type RetentionPlan,
  type RetentionPolicy,
  planRetention,
} from "../policy/retention.js";
import { type CleanupPorts, type GarbageReport, cleanUp } from "../policy/cleanup.js";
import { gc } from "../engine/gc.js";
import type { IncidentState } from "../recovery/healer.js";
import type { CleanupReport } from "../api/services.js";
import type { Parts } from "./parts.js";

/** Open incidents looked at for a reason to keep something; beyond, all versions are kept. */
const INCIDENTS_LOOKED_AT = 1_000;
/** Incidents in these states may still need an old version: to be healed by itself, or when a person says so. */
const UNDECIDED: ReadonlySet<IncidentState> = new Set(["open", "waiting", "healing", "failed"]);

export interface CleanupWork {
  readonly dryRun: boolean;
  /** True: a person has seen the plan, the brake on a large share is off. */
  readonly force: boolean;
}

/** What the rotation of the configuration keeps: for every source that no policy of its own names. */
export function standardPolicy({ rotation }: Configuration): RetentionPolicy {
  return { ...rotation };
}

/** The policies in force. */
export function policiesOf({ settings, retention }: Parts): PolicyOf {
  const standard = standardPolicy(settings.current);
  return (source) => retention.policyOf(source, standard);
}

/** What a cleanup would do with the backups now. */
export async function previewCleanup(parts: Parts): Promise<RetentionPlan> {
  return planRetention((await parts.repository.listBackups()).map(stampOf), policiesOf(parts), {
    nowMs: parts.ground.clock.nowMs(),
    frozenBecause: await frozenReason(parts),
    shareMax: REMOVED_SHARE_MAX,
  });
}

export function keptDocuments(kept: KeptBackups): CleanupReport["kept"] {
  return [...kept].map(([id, rules]) => ({ backup_id: id, kept_by: rules }));
}

/** A backup as retention sees it. */
export function stampOf(manifest: Manifest): BackupStamp {
  return {
    id: manifest.backup_id,
    timeMs: Date.parse(manifest.timestamp),
    type: manifest.backup_type,
    sources: manifest.sources.map((source) => source.source),
    pinned: manifest.retention.pinned,
  };
}

/** Applies the configured rotation. Throws LIMIT_REACHED when a brake holds it. */
export async function cleanUpStore(
  parts: Parts,
  { dryRun, force }: CleanupWork,
  signal: AbortSignal,
): Promise<CleanupReport> {
  const ports = cleanupPorts(parts);
  const context = { clock: parts.ground.clock, observer: parts.ground.metrics };
  const result = await cleanUp(ports, { policyOf: policiesOf(parts), dryRun, force }, context, signal);
  return {
    dry_run: dryRun,
    kept: keptDocuments(result.plan.kept),
    removed: result.removed,
    chunks_removed: result.chunksRemoved,
    bytes_freed: result.bytesFreed,
    refused_because: result.plan.refusedBecause ?? null,
  };
}

/**
 * Removes what nothing refers to, and versions whose time is up. Throws LIMIT_REACHED when a brake holds it or a mass loss
 * waits for a person.
 */
export async function collectGarbage(
  parts: Parts,
  { dryRun, allowShare }: { readonly dryRun: boolean; readonly allowShare?: number | undefined },
  signal: AbortSignal,
): Promise<GarbageReport> {
  const frozen = dryRun ? undefined : await frozenReason(parts);
  if (frozen !== undefined)
    throw new HoldfastError("LIMIT_REACHED", `nothing is removed: ${frozen}`, {
      hint: "Approve or deny the incident first: `holdfast incidents`.",
    });
  const { parity } = parts.settings.current;
  const limits = { versionsKeptMs: await versionsKeptMs(parts), ...(allowShare === undefined ? {} : { allowShare }) };
  const report = await gc(parts.repository, { dryRun, ...limits, parity }, signal);
  return { chunksRemoved: report.chunksRemoved, bytesFreed: report.bytesFreed };
}

/** While a loss is undecided no version goes: the last good one may be older than versions are kept. */
async function versionsKeptMs(parts: Parts): Promise<number | undefined> {
  const open = await parts.healer.incidents({ onlyOpen: true, limit: INCIDENTS_LOOKED_AT });
  const undecided = open.find(({ state }) => UNDECIDED.has(state));
  if (undecided === undefined && open.length < INCIDENTS_LOOKED_AT) return parts.settings.current.versionsKeptMs;
  parts.ground.metrics.log.info("cleanup.versions_kept", { incident: undecided?.id ?? "", open: open.length });
  return undefined;
}

function cleanupPorts(parts: Parts): CleanupPorts {
  const { repository } = parts;
  return {
    async listBackups() {
      return (await repository.listBackups()).map(stampOf);
    },
    deleteBackups: (ids, signal) => repository.deleteBackups(ids, signal),
    collectGarbage: (dryRun, signal) => collectGarbage(parts, { dryRun }, signal),
    frozenBecause: () => frozenReason(parts),
  };
}

/**
 * While a mass loss waits for a person nothing may be removed: its files may live only in old backups. Nor while the
 * policies are not known.
 */
export async function frozenReason(parts: Parts): Promise<string | undefined> {
  if (parts.retention.unreadableBecause !== undefined) return parts.retention.unreadableBecause;
  const open = await parts.healer.incidents({ onlyOpen: true, limit: Number.POSITIVE_INFINITY });
  const mass = open.find((incident) => incident.kind === "mass");
  return mass === undefined
    ? undefined
    : `the incident ${mass.id} (${counted(mass.pathCount, "file")} lost at once) is open`;
}
