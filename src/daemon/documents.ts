/** From the parts' own shapes to the API's documents: names in snake_case, times in ISO 8601, paths as text. Pure. */
import { isoTime } from "../base/clock.js";
import { type BytePath, pathFields, pathText } from "../base/paths.js";
import type { Configuration } from "../config/configuration.js";
import type { CheckReport as StoreCheckReport } from "../engine/check.js";
import type { Entry, Version } from "../engine/types.js";
import type { Pause } from "../monitor/monitor.js";
import type { Incident, JudgedCandidate } from "../recovery/incident.js";
import type { BatchReport as HealReport, RecoveryResult } from "../recovery/report.js";
import type { QuarantinedFile } from "../recovery/quarantine.js";
import { totalOf } from "../recovery/score.js";
import type {
  BatchReport,
  CandidateDocument,
  CheckReport,
  EntryDocument,
  IncidentDocument,
  RecoverReport,
  VersionDocument,
} from "../api/services.js";
import type { PauseDocument } from "../api/watch-service.js";

const NS_PER_MS = 1_000_000n;
/** How far a `Date` reaches in both directions: the years -271821 to 275760. */
const DATE_MS_MAX = 8.64e15;
/** Files that went back from quarantine which are listed. */
const PUT_BACK_SHOWN = 1_000;

/** Nanoseconds since the epoch as ISO 8601 (to the millisecond; of a time beyond all dates the last date). */
export function isoNanoseconds(timeNs: bigint): string {
  return isoTime(Math.min(DATE_MS_MAX, Math.max(-DATE_MS_MAX, Number(timeNs / NS_PER_MS))));
}

/** Permission bits as four octal digits, such as `0644`. */
export function octalMode(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

export function entryDocument(entry: Entry): EntryDocument {
  const { node } = entry;
  return {
    ...pathFields(entry.path),
    source: entry.source,
    kind: node.kind,
    size_bytes: node.stat.sizeBytes,
    mode: octalMode(node.mode),
    uid: node.uid,
    gid: node.gid,
    modified_at: isoNanoseconds(node.stat.mtimeNs),
    sha256: node.sha256 ?? null,
    link_target: node.linkTarget === undefined ? null : Buffer.from(node.linkTarget, "latin1").toString("utf8"),
    ...(node.inodeFlags === undefined ? {} : { inode_flags: node.inodeFlags }),
  };
}

export function versionDocument(version: Version): VersionDocument {
  const { node } = version;
  return {
    ...pathFields(version.path),
    source: version.source,
    time: isoTime(version.timeMs),
    change: node === undefined ? "removed" : "stored",
    size_bytes: node?.stat.sizeBytes ?? null,
    sha256: node?.sha256 ?? null,
    modified_at: node === undefined ? null : isoNanoseconds(node.stat.mtimeNs),
    mode: node === undefined ? null : octalMode(node.mode),
  };
}

export function candidateDocument(candidate: JudgedCandidate, seenAtMs: number): CandidateDocument {
  const ageMs = candidate.modifiedAtMs === undefined ? null : seenAtMs - candidate.modifiedAtMs;
  return {
    strategy: candidate.strategy,
    origin: candidate.origin,
    fidelity: candidate.fidelity,
    modified_at: candidate.modifiedAtMs === undefined ? null : isoTime(candidate.modifiedAtMs),
    age_seconds: ageMs === null ? null : Math.max(0, ageMs / 1000),
    size_bytes: candidate.sizeBytes ?? null,
    sha256: candidate.sha256 ?? null,
    checks: candidate.checks,
    score: candidate.score === undefined ? null : totalOf(candidate.score),
    score_parts: candidate.score ?? null,
    verdict: candidate.verdict,
    why: candidate.why,
    command: candidate.command ?? null,
  };
}

export function recoverReport(result: RecoveryResult, seenAtMs: number): RecoverReport {
  return {
    ...pathFields(result.path),
    outcome: result.outcome,
    message: result.message,
    incident_id: result.incidentId ?? null,
    strategy: result.taken?.strategy ?? null,
    origin: result.taken?.origin ?? null,
    identical: result.taken?.identical ?? null,
    age_seconds: result.taken?.ageMs === undefined ? null : result.taken.ageMs / 1000,
    duration_ms: Math.round(result.durationMs),
    candidates: result.candidates.map((candidate) => candidateDocument(candidate, seenAtMs)),
    searched: result.searched,
    notes: result.notes,
    gaps: result.taken?.gaps ?? [],
    manual_commands: result.manualCommands,
  };
}

export function batchDocument(report: HealReport): BatchReport {
  return {
    started_at: isoTime(report.startedAtMs),
    paths_total: report.pathsTotal,
    healed: report.healed,
    failed: report.failed + report.waiting,
    returned: report.returned,
    duration_ms: Math.round(report.durationMs),
    results: report.results.map((result) => recoverReport(result, report.startedAtMs)),
  };
}

/** `lastGoodMs` tells when the last good version of a path became durable; not given: it is left out. */
export function incidentDocument(
  incident: Incident,
  lastGoodMs?: (path: BytePath) => number | undefined,
): IncidentDocument {
  const lastGoodAt = (path: BytePath): { readonly last_good_at?: string | null } => {
    const timeMs = lastGoodMs?.(path);
    return lastGoodMs === undefined ? {} : { last_good_at: timeMs === undefined ? null : isoTime(timeMs) };
  };
  return {
    id: incident.id,
    source: incident.source,
    kind: incident.kind,
    state: incident.state,
    opened_at: isoTime(incident.openedAtMs),
    closed_at: incident.closedAtMs === undefined ? null : isoTime(incident.closedAtMs),
    noticed_by: incident.noticedBy,
    detail: incident.reason === "" ? incident.detail : `${incident.detail}; ${incident.reason}`,
    paths_total: incident.pathCount,
    paths: incident.paths.map((path) => ({ ...pathFields(path), ...lastGoodAt(path) })),
    strategy: incident.taken?.strategy ?? null,
    origin: incident.taken?.origin ?? null,
    age_seconds: incident.taken?.ageMs === undefined ? null : incident.taken.ageMs / 1000,
    duration_ms: incident.durationMs === undefined ? null : Math.round(incident.durationMs),
    quarantined: incident.quarantined.length > 0,
    candidates: incident.candidates.map((candidate) => candidateDocument(candidate, incident.seenAtMs)),
    searched: incident.searched ?? [],
    notes: incident.notes,
    manual_commands: incident.manualCommands,
    next_step: nextStep(incident),
  };
}

/** An incident of which quarantined files went back to their places. */
export function putBackDocument({
  incident,
  putBack,
}: {
  readonly incident: Incident;
  readonly putBack: readonly QuarantinedFile[];
}): IncidentDocument {
  const put_back = putBack.slice(0, PUT_BACK_SHOWN).map(({ path, node, keptAt }) => ({
    ...pathFields(path),
    size_bytes: node.stat.sizeBytes,
    modified_at: isoNanoseconds(node.stat.mtimeNs),
    quarantined_at: keptAt,
  }));
  return { ...incidentDocument(incident), put_back };
}

export function pauseDocument(pause: Pause): PauseDocument {
  return {
    path: pause.path === undefined ? null : pathText(pause.path),
    until: isoTime(pause.untilMs),
    reason: pause.reason,
  };
}

function nextStep(incident: Incident): string | null {
  if (incident.kind === "expected_missing")
    return incident.state === "noted" ? `holdfast incidents deny ${incident.id}   (to hear no more of it)` : null;
  switch (incident.state) {
    case "waiting":
      return `holdfast incidents approve ${incident.id}   (or: deny)`;
    case "noted":
      return `holdfast incidents approve ${incident.id}   (to heal it after all)`;
    case "failed":
      return incident.manualCommands[0] ?? `holdfast incidents show ${incident.id}`;
    case "healed":
      return incident.quarantined.length > 0
        ? `holdfast incidents restore-quarantined ${incident.id}   (to undo)`
        : null;
    case "open":
    case "healing":
    case "denied":
    case "returned":
    case "respected":
      return null;
  }
}

/** The configuration as JSON: paths as text, nothing secret (secrets are kept as references). */
export function configDocument(configuration: Configuration): unknown {
  return {
    ...configuration,
    sources: configuration.sources.map((source) => ({ ...source, paths: source.paths.map(pathText) })),
    sourceDefaults: undefined,
  };
}

/** A check's report; the problems are bounded already, the worst first. */
export function checkDocument(report: StoreCheckReport): CheckReport {
  const count = report.problemCount;
  const first = report.problems[0]?.detail ?? "";
  return {
    level: report.level,
    summary: count === 0 ? "the store is sound" : `${String(count)} problems, the first: ${first}`,
    packs_checked: report.packsChecked,
    packs_skipped: report.packsSkipped,
    records_checked: report.recordsChecked,
    bytes_checked: report.bytesChecked,
    problems: problemDocuments(report.problems),
  };
}

/** Problems of a store as documents. */
export function problemDocuments(problems: StoreCheckReport["problems"]): CheckReport["problems"] {
  return problems.map(({ kind, detail, paths }) => ({
    kind,
    detail,
    paths: paths.map(({ path }) => pathFields(path)),
  }));
}
