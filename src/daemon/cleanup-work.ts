/** Retention carried out over this daemon's parts: which backups go, and the chunks that nothing needs any more. */
import type { Configuration } from "../config/configuration.js";
import type { Manifest } from "../engine/types.js";
import type { BackupStamp, RetentionPolicy } from "../policy/retention.js";
import { type CleanupPorts, cleanUp } from "../policy/cleanup.js";
import { gc } from "../engine/gc.js";
import type { CleanupReport } from "../api/services.js";
import type { Parts } from "./parts.js";

/** Incidents looked at for a reason to keep everything. */
const INCIDENTS_LOOKED_AT = 1_000;

export interface CleanupWork {
  readonly dryRun: boolean;
  /** True: a person has seen the plan, the brake on a large share is off. */
  readonly force: boolean;
}

/** What the rotation of the configuration keeps. */
export function retentionPolicy({ rotation }: Configuration): RetentionPolicy {
  return { ...rotation };
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
  const policy = retentionPolicy(parts.settings.current);
  const frozen = await frozenReason(parts);
  const ports = cleanupPorts(parts, frozen);
  const context = { clock: parts.ground.clock, observer: parts.ground.metrics };
  const result = await cleanUp(ports, { policy, dryRun, force }, context, signal);
  return {
    dry_run: dryRun,
    kept: [...result.plan.kept].map(([id, rules]) => ({ backup_id: id, kept_by: rules })),
    removed: result.removed,
    chunks_removed: result.chunksRemoved,
    bytes_freed: result.bytesFreed,
    refused_because: result.plan.refusedBecause ?? null,
  };
}

function cleanupPorts(parts: Parts, frozen: string | undefined): CleanupPorts {
  const { repository, settings } = parts;
  return {
    async listBackups() {
      return (await repository.listBackups()).map(stampOf);
    },
    deleteBackups: (ids, signal) => repository.deleteBackups(ids, signal),
    async collectGarbage(dryRun, signal) {
      const report = await gc(repository, { dryRun, versionsKeptMs: settings.current.versionsKeptMs }, signal);
      return { chunksRemoved: report.chunksRemoved, bytesFreed: report.bytesFreed };
    },
    frozenBecause: () => frozen,
  };
}

/** While a mass loss waits for a person nothing may be removed: its files may live only in old backups. */
async function frozenReason(parts: Parts): Promise<string | undefined> {
  const open = await parts.healer.incidents({ onlyOpen: true, limit: INCIDENTS_LOOKED_AT });
  const mass = open.find((incident) => incident.kind === "mass");
  return mass === undefined
    ? undefined
    : `the incident ${mass.id} (${String(mass.pathCount)} files lost at once) is open`;
}
