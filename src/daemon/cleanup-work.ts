/** Retention carried out over this daemon's parts: which backups go, and the chunks that nothing needs any more. */
import { DEFAULT_RETENTION } from "../policy/retention.js";
import { type CleanupPorts, cleanUp } from "../policy/cleanup.js";
import { gc } from "../engine/gc.js";
import type { CleanupReport } from "../api/services.js";
import type { Parts } from "./parts.js";

/** Incidents looked at for a reason to keep everything. */
const INCIDENTS_LOOKED_AT = 1_000;

/** Applies the configured rotation. Throws LIMIT_REACHED when a brake holds it. */
export async function cleanUpStore(parts: Parts, dryRun: boolean, signal: AbortSignal): Promise<CleanupReport> {
  const { rotation } = parts.settings.current;
  const policy = {
    ...DEFAULT_RETENTION,
    hourly: rotation.hourly,
    daily: rotation.daily,
    weekly: rotation.weekly,
    monthly: rotation.monthly,
    yearly: rotation.yearly,
    minCopies: Math.max(rotation.minCopies, rotation.last),
    withinMs: rotation.withinMs,
  };
  const frozen = await frozenReason(parts);
  const ports = cleanupPorts(parts, frozen);
  const context = { clock: parts.ground.clock, observer: parts.ground.metrics };
  const result = await cleanUp(ports, { policy, dryRun, force: false }, context, signal);
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
      return (await repository.listBackups()).map((manifest) => ({
        id: manifest.backup_id,
        timeMs: Date.parse(manifest.timestamp),
        type: manifest.backup_type,
        sources: manifest.sources.map((source) => source.source),
        pinned: manifest.retention.pinned,
      }));
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
