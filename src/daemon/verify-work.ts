/**
 * Verifying a backup, at four depths: the manifest and its tree; every file's digest out of the store; the same with
 * each chunk read anew; and real files restored into a private folder and compared. The outcome is noted in the
 * backup's manifest.
 */
import { lstat, mkdtemp, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isoTime } from "../base/clock.js";
import { pathFields, pathFromText, pathText } from "../base/paths.js";
import { type ContentProof, proveContent } from "../engine/content-proof.js";
import { restore } from "../engine/restore.js";
import type { Entry, Manifest } from "../engine/types.js";
import type { VerifyReport, VerifyRequest } from "../api/services.js";
import {
  RESTORE_TEST_DURATION,
  RESTORE_TEST_PHASES,
  SOURCE_GAUGES,
  VERIFICATION_METRICS,
} from "../telemetry/series.js";
import type { WorkContext } from "./job-documents.js";
import type { Parts } from "./parts.js";

/** Files restored by a `restore` verification unless told. */
const SAMPLE_DEFAULT = 20;
/** A sample fills at most this share of what is free where it is restored to. */
const SAMPLE_SPACE_SHARE = 0.5;
const PROBLEMS_MAX = 1_000;

type Problem = VerifyReport["problems"][number];

interface Outcome {
  readonly files: number;
  readonly bytes: number;
  readonly problems: readonly Problem[];
  /** Of a restore test, seconds. */
  readonly phases?: { readonly restore: number; readonly compare: number };
}

/** Verifies a backup; what is wrong is in the report. Throws BACKUP_NOT_FOUND. */
export async function verifyBackup(parts: Parts, request: VerifyRequest, context: WorkContext): Promise<VerifyReport> {
  const { repository, ground, bus } = parts;
  const manifest = await repository.backup(request.backup_id);
  const { backup_id: backupId } = manifest;
  const startedMs = ground.clock.monotonicMs();
  const outcome =
    request.level === "restore"
      ? await verifyByRestore(parts, backupId, request.sample ?? SAMPLE_DEFAULT, context)
      : await verifyContent(parts, backupId, request.level !== "manifest", context);
  const status: "passed" | "failed" = outcome.problems.length === 0 ? "passed" : "failed";
  const verifiedAt = isoTime(ground.clock.nowMs());
  const validation: Partial<Manifest["validation"]> = {
    ...(request.level === "restore" ? { restore_test: status } : { integrity_check: status }),
    verified_at: verifiedAt,
  };
  await repository.annotateBackup(backupId, { validation }, context.signal);
  measure(parts, { manifest, request, outcome, seconds: (ground.clock.monotonicMs() - startedMs) / 1000 });
  const what = `backup ${backupId}`;
  if (status === "passed") bus.emit("integrity.passed", { what });
  else
    bus.emit("integrity.failed", { what, code: "RECORD_DAMAGED", message: `${String(outcome.problems.length)} files` });
  return {
    backup_id: backupId,
    level: request.level,
    status,
    files_checked: outcome.files,
    bytes_checked: outcome.bytes,
    duration_seconds: (ground.clock.monotonicMs() - startedMs) / 1000,
    problems: outcome.problems,
  };
}

interface Verified {
  readonly manifest: Manifest;
  readonly request: VerifyRequest;
  readonly outcome: Outcome;
  readonly seconds: number;
}

/** Tells under the names that existing rules use, for the sources of the backup that are protected still. */
function measure({ book, ground }: Parts, { manifest, request, outcome, seconds }: Verified): void {
  if (request.level === "manifest") return; // no byte was looked at
  const { metrics, clock } = ground;
  for (const { source } of manifest.sources) {
    const found = book.find(source);
    if (found === undefined) continue;
    const damaged = outcome.problems.filter(({ path }) => found.holds(pathFromText(path))).length;
    metrics.gauge(VERIFICATION_METRICS.checksumFailures).set(damaged, { source });
    if (damaged === 0) metrics.gauge(SOURCE_GAUGES.verified).set(clock.nowMs() / 1000, { source });
    if (request.level !== "restore") continue;
    metrics.gauge(VERIFICATION_METRICS.restoreDuration).set(seconds, { source });
    if (damaged === 0) metrics.gauge(VERIFICATION_METRICS.restoreTested).set(clock.nowMs() / 1000, { source });
    for (const phase of RESTORE_TEST_PHASES)
      metrics.gauge(RESTORE_TEST_DURATION).set(outcome.phases?.[phase] ?? 0, { source, phase });
  }
}

/** Walks the backup's tree, and with `readsContent` proves every file's digest from the stored bytes. */
async function verifyContent(
  { repository }: Parts,
  backupId: string,
  readsContent: boolean,
  context: WorkContext,
): Promise<Outcome> {
  const problems: Problem[] = [];
  const tally = { files: 0 };
  const entries = tallied(repository.backupEntries(backupId, {}, context.signal), tally);
  if (!readsContent) {
    for await (const _entry of entries);
    return { files: tally.files, bytes: 0, problems };
  }
  const listener = {
    damaged: ({ path }: Entry, problem: string) => {
      if (problems.length < PROBLEMS_MAX) problems.push({ ...pathFields(path), problem });
    },
    progress: (done: ContentProof) =>
      context.progress({ files_done: done.entries, files_total: null, bytes_done: done.bytes, bytes_total: null }),
  };
  const { bytes } = await proveContent(repository, entries, listener, context.signal);
  return { files: tally.files, bytes, problems };
}

/** The same entries; what is no folder is counted as a file, as in the manifest. */
async function* tallied(entries: AsyncIterable<Entry>, tally: { files: number }): AsyncGenerator<Entry> {
  for await (const entry of entries) {
    if (entry.node.kind !== "folder") tally.files += 1;
    yield entry;
  }
}

/**
 * Restores a random sample into a private folder. The restore reads back what it wrote and compares it; here is only
 * looked at that each file is there, and is as long as it should be.
 */
async function verifyByRestore(parts: Parts, backupId: string, sample: number, context: WorkContext): Promise<Outcome> {
  const { repository, ground } = parts;
  const folder = await mkdtemp(join(tmpdir(), "holdfast-verify-"));
  try {
    const { bavail, bsize } = await statfs(folder);
    const room = bavail * bsize * SAMPLE_SPACE_SHARE;
    const chosen = await randomFiles(repository.backupEntries(backupId, {}, context.signal), sample, room);
    const target = pathFromText(folder);
    const options = {
      overwrite: "never",
      inPlace: false,
      delete: false,
      dryRun: false,
      verify: true,
      sparse: true,
    } as const;
    const startedMs = ground.clock.monotonicMs();
    const report = await restore(repository, { entries: each(chosen), target, ...options }, context.signal);
    const restoredMs = ground.clock.monotonicMs();
    const problems: Problem[] = report.failed.map(({ path, message }) => ({ ...pathFields(path), problem: message }));
    let bytes = 0;
    for (const { path, node } of chosen) {
      const found = await lstat(Buffer.from(`${target}${path}`, "latin1")).catch(() => undefined);
      bytes += found?.size ?? 0;
      if (found?.size === node.stat.sizeBytes || problems.some((problem) => problem.path === pathText(path))) continue;
      problems.push({ ...pathFields(path), problem: "the restored file is missing or of another length" });
    }
    const phases = {
      restore: (restoredMs - startedMs) / 1000,
      compare: (ground.clock.monotonicMs() - restoredMs) / 1000,
    };
    return { files: chosen.length, bytes, problems, phases };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/**
 * A fair sample of the files, in path order (reservoir sampling: every file has the same chance); of it as many as there
 * is room for, bytes.
 */
async function randomFiles(entries: AsyncIterable<Entry>, count: number, room: number): Promise<readonly Entry[]> {
  const kept: Entry[] = [];
  let seen = 0;
  for await (const entry of entries) {
    if (entry.node.kind !== "file") continue;
    seen += 1;
    if (kept.length < count) kept.push(entry);
    else {
      const index = Math.floor(Math.random() * seen);
      if (index < count) kept[index] = entry;
    }
  }
  let bytes = 0;
  const fitting = kept.filter(({ node: { stat } }) => {
    if (bytes + stat.sizeBytes > room) return false;
    bytes += stat.sizeBytes;
    return true;
  });
  return fitting.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function* each(entries: readonly Entry[]): AsyncGenerator<Entry> {
  await Promise.resolve();
  yield* entries;
}
