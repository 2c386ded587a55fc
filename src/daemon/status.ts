/** The one screen: how everything is, why it is not healthy, what to do next. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isoTime } from "../base/clock.js";
import { pathFields, pathText } from "../base/paths.js";
import { counted, formatDuration } from "../base/units.js";
import type { HealthDocument, HealthLevel } from "../api/health-document.js";
import type { RepositoryDocument, StatusDocument } from "../api/services.js";
import type { SourceDocument } from "../api/watch-service.js";
import type { Incident } from "../recovery/incident.js";
import type { Operation } from "./operation.js";
import type { Parts } from "./parts.js";
import { sourceDocuments } from "./services/watch.js";

const DAY_MS = 86_400_000;
/** Incidents looked at for the summary. */
const INCIDENTS_LOOKED_AT = 500;
/** Below this share of free space the store is worth a warning. */
const FREE_SHARE_MIN = 0.1;

export async function repositoryDocument(parts: Parts): Promise<RepositoryDocument> {
  const { repository, ground } = parts;
  const [stats, space] = await Promise.all([repository.stats(), repository.spaceInfo()]);
  return {
    id: repository.id,
    url: ground.configuration.storeUrl, // the one that is open, whatever a reload has taken
    encrypted: repository.encrypted,
    chunks: stats.chunks,
    unique_bytes: stats.uniqueBytes,
    stored_bytes: stats.storedBytes,
    logical_bytes: stats.logicalBytes,
    packs: stats.packs,
    suspect_chunks: stats.suspectChunks,
    unread_objects: stats.unreadObjects,
    backups: stats.backups,
    free_bytes: space?.freeBytes ?? null,
    total_bytes: space?.totalBytes ?? null,
  };
}

export async function statusDocument(parts: Parts, operation: Operation): Promise<StatusDocument> {
  const { ground, telling } = parts;
  const store = await repositoryDocument(parts);
  const sources = sourceDocuments(parts, operation);
  const incidents = await parts.healer.incidents({ onlyOpen: false, limit: INCIDENTS_LOOKED_AT });
  const nowMs = ground.clock.nowMs();
  const healed = incidents.filter((incident) => incident.state === "healed");
  const findings = judge({ parts, store, sources, incidents });
  const lastBackup = operation.freshness.lastBackup();
  return {
    version: ground.version,
    pid: process.pid,
    daemon: ground.isDaemon,
    started_at: isoTime(parts.startedAtMs),
    state: stateOf(findings),
    reasons: findings.map((finding) => finding.text),
    store,
    sources,
    incidents: {
      waiting: incidents.filter((incident) => incident.state === "waiting").length,
      failed: incidents.filter((incident) => incident.state === "failed").length,
      healed_today: healed.filter((incident) => nowMs - (incident.closedAtMs ?? 0) < DAY_MS).length,
    },
    last_heal: lastHeal(healed[0]),
    last_backup: lastBackup === undefined ? null : { backup_id: lastBackup.backupId, at: isoTime(lastBackup.atMs) },
    next_runs: operation.plan.schedules().slice(0, 5),
    paused: operation.plan.pauses(),
    alerts_active: telling.dispatcher?.list(false).length ?? 0,
    alerts_undelivered: telling.dispatcher?.undelivered ?? 0,
    next_step: findings.find((finding) => finding.nextStep !== undefined)?.nextStep ?? defaultStep(sources),
  };
}

export async function healthDocument(parts: Parts, operation: Operation): Promise<HealthDocument> {
  const status = await statusDocument(parts, operation);
  const incidents = await parts.healer.incidents({ onlyOpen: true, limit: INCIDENTS_LOOKED_AT });
  const findings = judge({ parts, store: status.store, sources: status.sources, incidents });
  const isFailing = findings.some((finding) => finding.level === "failing");
  const isBreached = findings.some((finding) => finding.level === "breached");
  return {
    exit_code: isFailing ? 1 : isBreached ? 5 : 0,
    state: stateOf(findings),
    checks: CHECKS.map((name) => {
      const found = findings.filter((finding) => finding.check === name);
      const [worst] = found;
      const detail = found.map((finding) => finding.text).join("; ") || "well";
      return { name, ok: worst === undefined, level: worst?.level ?? "ok", detail };
    }),
  };
}

const CHECKS = ["store", "watching", "incidents", "backups", "alerts"] as const;

interface Finding {
  readonly check: (typeof CHECKS)[number];
  readonly level: HealthLevel;
  readonly text: string;
  readonly nextStep?: string;
}

interface Judged {
  readonly parts: Parts;
  readonly store: RepositoryDocument;
  readonly sources: readonly SourceDocument[];
  readonly incidents: readonly Incident[];
}

/** Everything that is not as it should be, worst first. */
function judge(judged: Judged): readonly Finding[] {
  const order = ["failing", "breached", "attention"];
  const findings = [...storeFindings(judged), ...sourceFindings(judged), ...incidentFindings(judged.incidents)];
  const undelivered = judged.parts.telling.dispatcher?.undelivered ?? 0;
  if (undelivered > 0) {
    const text = `${String(undelivered)} messages are not delivered yet`;
    findings.push({ check: "alerts", level: "attention", text, nextStep: "holdfast alerts list" });
  }
  return findings.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
}

function storeFindings({ parts, store }: Judged): Finding[] {
  const findings: Finding[] = [...stateFindings(parts)];
  if (parts.queue.isStoreBad) {
    findings.push({
      check: "store",
      level: "failing",
      text: "changes cannot be stored at the moment",
      nextStep: "holdfast alerts list",
    });
  }
  if (store.suspect_chunks > 0) {
    const text = `${String(store.suspect_chunks)} stored chunks are damaged`;
    findings.push({ check: "store", level: "failing", text, nextStep: "holdfast check --read-data" });
  }
  if (store.unread_objects > 0) {
    const text = `${counted(store.unread_objects, "object")} of the store cannot be read; nothing is removed meanwhile`;
    findings.push({ check: "store", level: "failing", text, nextStep: "holdfast check" });
  }
  if (
    store.free_bytes !== null &&
    store.total_bytes !== null &&
    store.free_bytes < store.total_bytes * FREE_SHARE_MIN
  ) {
    const percent = Math.round((store.free_bytes / store.total_bytes) * 100);
    findings.push({
      check: "store",
      level: "attention",
      text: `only ${String(percent)} % of the store's space is free`,
      nextStep: "holdfast cleanup --dry-run",
    });
  }
  return findings;
}

/** What was opened in the state folder works on, but at the next start the key that lies there as a rule is missed. */
function stateFindings({ ground, repository }: Parts): Finding[] {
  const { stateDir } = ground.configuration;
  if (existsSync(join(stateDir, "index"))) return [];
  const text = `the state folder ${stateDir} was removed or moved: put it back, or make sure of a key, before the next start`;
  const nextStep = repository.encrypted ? "holdfast keys recovery" : "holdfast doctor";
  return [{ check: "store", level: "failing", text, nextStep }];
}

function sourceFindings({ parts, sources }: Judged): Finding[] {
  if (sources.length === 0) {
    return [
      { check: "watching", level: "attention", text: "nothing is protected yet", nextStep: "holdfast protect PATH" },
    ];
  }
  const findings: Finding[] = [];
  for (const source of sources) {
    const reason = source.reason ?? source.state;
    if (source.state === "root_gone")
      findings.push({ check: "watching", level: "failing", text: `${source.name}: ${reason}` });
    if (source.state === "degraded")
      findings.push({ check: "watching", level: "attention", text: `${source.name}: ${reason}` });
    if (source.state === "paused")
      findings.push({
        check: "watching",
        level: "attention",
        text: `${source.name} is paused`,
        nextStep: "holdfast resume",
      });
    if (source.files_unreadable > 0) {
      const [first] = parts.queue.unreadable(source.name);
      const example = first === undefined ? "" : `, such as ${pathText(first.path)} (${first.errno})`;
      const text = `${source.name}: files that cannot be read: ${String(source.files_unreadable)}${example}`;
      findings.push({ check: "backups", level: "attention", text, nextStep: "holdfast doctor" });
    }
    for (const missing of source.expected_missing) {
      const text = `${source.name}: expected files are missing, ${missing}`;
      findings.push({ check: "watching", level: "attention", text, nextStep: "holdfast incidents" });
    }
    const overdueMs = overdue(parts, source);
    if (overdueMs > 0) {
      const text = `${source.name}: changes have waited ${formatDuration(overdueMs)} longer than their target`;
      findings.push({ check: "backups", level: "breached", text, nextStep: "holdfast create --type incremental" });
    }
  }
  return findings;
}

/** How far pending changes of a source are beyond its recovery point target, ms; 0 when they are not. */
function overdue(parts: Parts, source: SourceDocument): number {
  if (source.pending_changes === 0 || source.rpo_seconds === null || source.newest_commit_at === null) return 0;
  const ageMs = parts.ground.clock.nowMs() - Date.parse(source.newest_commit_at);
  return Math.max(0, ageMs - source.rpo_seconds * 1000);
}

function incidentFindings(incidents: readonly Incident[]): Finding[] {
  const findings: Finding[] = [];
  const failed = incidents.filter((incident) => incident.state === "failed");
  const waiting = incidents.filter((incident) => incident.state === "waiting");
  if (failed[0] !== undefined) {
    const text = `${counted(failed.length, "incident")} could not be healed`;
    findings.push({ check: "incidents", level: "failing", text, nextStep: `holdfast incidents show ${failed[0].id}` });
  }
  if (waiting[0] !== undefined) {
    const files = waiting.reduce((sum, incident) => sum + incident.pathCount, 0);
    const verb = waiting.length === 1 ? "waits" : "wait";
    const text = `${counted(waiting.length, "incident")} (${counted(files, "file")}) ${verb} for your decision`;
    findings.push({
      check: "incidents",
      level: "attention",
      text,
      nextStep: `holdfast incidents show ${waiting[0].id}`,
    });
  }
  return findings;
}

function stateOf(findings: readonly Finding[]): StatusDocument["state"] {
  if (findings.some((finding) => finding.level === "failing")) return "failing";
  return findings.length > 0 ? "attention" : "healthy";
}

function lastHeal(incident: Incident | undefined): StatusDocument["last_heal"] {
  const path = incident?.paths[0];
  if (incident === undefined || path === undefined) return null;
  return {
    ...pathFields(path),
    incident_id: incident.id,
    at: isoTime(incident.closedAtMs ?? incident.updatedAtMs),
    duration_ms: Math.round(incident.durationMs ?? 0),
    strategy: incident.taken?.strategy ?? "",
  };
}

function defaultStep(sources: readonly SourceDocument[]): string | null {
  return sources.length === 0 ? "holdfast protect PATH" : null;
}
