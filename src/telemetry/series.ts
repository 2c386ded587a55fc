/**
 * Makes the series of contract.md's metrics exist from the start, at zero: an alert rule must tell "nothing happened"
 * from "nobody measures". A module still declares its own metrics beside its code; the names and labels here are the
 * public promise, and a module that declares one differently fails at start.
 */
import { DAMAGE_KINDS } from "../base/events.js";
import { BACKUP_TYPES } from "../base/ids.js";
import type { Labels, MetricSpec, Observer } from "../base/observe.js";

export const BACKUP_OUTCOMES = ["success", "partial", "failed"] as const;

function bySource(name: string, help: string): MetricSpec<"source"> {
  return { name, help, labels: ["source"] };
}

/** Gauges of one source and what they say before anything has happened. */
export const SOURCE_GAUGES = {
  registered: bySource(
    "holdfast_source_registered_timestamp_seconds",
    "When the source was first protected, Unix time.",
  ),
  lastSuccess: bySource(
    "holdfast_backup_last_success_timestamp_seconds",
    "When the last backup of the source that stored everything readable ended, Unix time; 0 = never.",
  ),
  lastAttempt: bySource(
    "holdfast_backup_last_attempt_timestamp_seconds",
    "When the last backup of the source ended, well or not, Unix time; 0 = never.",
  ),
  newestCopy: bySource(
    "holdfast_source_newest_copy_timestamp_seconds",
    "Until when everything seen in the source is durable, Unix time; 0 = nothing is stored yet.",
  ),
  lastDuration: bySource("holdfast_backup_last_duration_seconds", "How long the last backup of the source took."),
  files: bySource("holdfast_source_files", "Protected files of the source."),
  bytes: bySource("holdfast_source_bytes", "Bytes of the protected files of the source."),
  pendingChanges: bySource("holdfast_source_pending_changes", "Changes of the source that are not durable yet."),
  rpo: bySource("holdfast_source_rpo_seconds", "Target: the most work that may be lost, as time; 0 = none set."),
  rto: bySource("holdfast_source_rto_seconds", "Target: the longest a restore may take; 0 = none set."),
  watchDegraded: bySource("holdfast_watch_degraded", "1 while changes of the source may be noticed late."),
  verified: bySource(
    "backup_verification_last_success_timestamp",
    "When the source was last verified well, Unix time.",
  ),
} as const satisfies Record<string, MetricSpec<"source">>;

export const BACKUPS_TOTAL: MetricSpec<"source" | "type" | "outcome"> = {
  name: "holdfast_backups_total",
  help: "Backups by source, type and outcome.",
  labels: ["source", "type", "outcome"],
};

export const FILES_LOST_TOTAL: MetricSpec<"source" | "kind"> = {
  name: "holdfast_files_lost_total",
  help: "Files found lost or damaged, by source and kind.",
  labels: ["source", "kind"],
};
export const RECOVERIES_TOTAL: MetricSpec<"source" | "outcome"> = {
  name: "holdfast_recoveries_total",
  help: "Paths that were to be recovered, by what came of it.",
  labels: ["source", "outcome"],
};
const RECOVERY_OUTCOMES = ["healed", "failed", "returned", "waiting"] as const;

/** Names that the alert rules of earlier tools use. */
export const VERIFICATION_METRICS = {
  restoreDuration: {
    name: "backup_verification_restore_duration_seconds",
    help: "How long the last restore test of the source took.",
    labels: ["source"],
  },
  checksumFailures: {
    name: "backup_verification_checksum_failures",
    help: "Damaged files that the last verification of the source found.",
    labels: ["source"],
  },
  restoreTested: {
    name: "holdfast_restore_test_last_success_timestamp_seconds",
    help: "When files of the source were last restored for a test, and were whole, Unix time; 0: never.",
    labels: ["source"],
  },
} as const satisfies Record<string, MetricSpec<"source">>;

export const RESTORE_TEST_PHASES = ["restore", "compare"] as const;
export const RESTORE_TEST_DURATION: MetricSpec<"source" | "phase"> = {
  name: "holdfast_restore_test_duration_seconds",
  help: "How long the parts of the last restore test of the source took.",
  labels: ["source", "phase"],
};

/** What the store holds; measured now and then, since counting everything takes a while. */
export const STORE_METRICS = {
  bytes: {
    name: "holdfast_store_bytes",
    help: "Bytes of the store: current files, distinct chunks before compression, and what lies on disk.",
    labels: ["kind"],
  },
  chunks: { name: "holdfast_store_chunks", help: "Distinct chunks in the store.", labels: [] },
  corrupt: {
    name: "holdfast_store_corrupt_chunks",
    help: "Chunks of which no whole copy is known.",
    labels: ["tier"],
  },
} as const satisfies Record<string, MetricSpec>;

export const VERIFY_OLDEST_AGE: MetricSpec<never> = {
  name: "holdfast_verify_oldest_age_seconds",
  help: "Time since everything stored was last read and found whole; before the first time, since the first start.",
};

/** Label sets of the counters that no source owns. */
const PROCESS_COUNTERS: readonly { readonly spec: MetricSpec; readonly series: readonly Labels[] }[] = [
  {
    spec: { name: "holdfast_watch_events_total", help: "File system events heard, by kind.", labels: ["kind"] },
    series: ["create", "update", "delete"].map((kind) => ({ kind })),
  },
  {
    spec: {
      name: "holdfast_watch_rescans_total",
      help: "Times that a source or a part of it was looked through again, by reason.",
      labels: ["reason"],
    },
    series: ["start", "sweep", "poll", "overflow", "late", "restarted", "root_returned", "new_folders"].map(
      (reason) => ({ reason }),
    ),
  },
];
const STRATEGY_OUTCOMES = ["taken", "offered", "nothing", "failed"] as const;

/** Makes the series that no source owns exist, at zero. `strategies` are the names of all recovery strategies. */
export function addProcessSeries(observer: Observer, strategies: readonly string[]): void {
  for (const { spec, series } of PROCESS_COUNTERS) for (const labels of series) observer.counter(spec).add(0, labels);
  const asked = observer.counter({
    name: "holdfast_recovery_strategy_total",
    help: "Recovery strategies asked, by what came of it (taken, offered, nothing, failed).",
    labels: ["strategy", "outcome"],
  });
  for (const strategy of strategies) for (const outcome of STRATEGY_OUTCOMES) asked.add(0, { strategy, outcome });
  for (const kind of ["logical", "unique", "stored"]) observer.gauge(STORE_METRICS.bytes).set(0, { kind });
  observer.gauge(STORE_METRICS.chunks).set(0);
  observer.gauge(STORE_METRICS.corrupt).set(0, { tier: "hot" });
  observer.gauge(VERIFY_OLDEST_AGE).set(0);
}

export interface SourceFacts {
  readonly name: string;
  /** When it was first protected, wall ms. */
  readonly registeredAtMs: number;
  /** Target in ms, or undefined when none is set. */
  readonly rpoMs?: number;
  readonly rtoMs?: number;
}

/** Makes all series of a source exist, at zero, and sets its targets. Call it once, before other parts measure. */
export function addSourceSeries(observer: Observer, source: SourceFacts): void {
  for (const spec of [...Object.values(SOURCE_GAUGES), ...Object.values(VERIFICATION_METRICS)])
    observer.gauge(spec).set(0, { source: source.name });
  for (const phase of RESTORE_TEST_PHASES) observer.gauge(RESTORE_TEST_DURATION).set(0, { source: source.name, phase });
  const backups = observer.counter(BACKUPS_TOTAL);
  for (const type of BACKUP_TYPES) {
    for (const outcome of BACKUP_OUTCOMES) backups.add(0, { source: source.name, type, outcome });
  }
  const [lost, recoveries] = [observer.counter(FILES_LOST_TOTAL), observer.counter(RECOVERIES_TOTAL)];
  for (const kind of DAMAGE_KINDS) lost.add(0, { source: source.name, kind });
  for (const outcome of RECOVERY_OUTCOMES) recoveries.add(0, { source: source.name, outcome });
  updateSourceTargets(observer, source);
}

/** Sets what is known of a source from its configuration; what was measured stays. */
export function updateSourceTargets(observer: Observer, source: SourceFacts): void {
  const labels: Labels<"source"> = { source: source.name };
  observer.gauge(SOURCE_GAUGES.registered).set(source.registeredAtMs / 1000, labels);
  observer.gauge(SOURCE_GAUGES.rpo).set((source.rpoMs ?? 0) / 1000, labels);
  observer.gauge(SOURCE_GAUGES.rto).set((source.rtoMs ?? 0) / 1000, labels);
}

/** Drops the gauges of a source that is no longer protected; its counters stay until the next start. */
export function removeSourceSeries(observer: Observer, source: string): void {
  for (const spec of [...Object.values(SOURCE_GAUGES), ...Object.values(VERIFICATION_METRICS)])
    observer.gauge(spec).remove({ source });
  for (const phase of RESTORE_TEST_PHASES) observer.gauge(RESTORE_TEST_DURATION).remove({ source, phase });
}
