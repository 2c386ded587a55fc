/**
 * Verifying a backup, at four depths: the manifest and its tree; every file's digest out of the store; the same with
 * each chunk read anew; and real files restored into a private folder and compared. The outcome is noted in the
 * backup's manifest.
 */
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isoTime } from "../base/clock.js";
import { messageOf } from "../base/errors.js";
import { pathFields, pathFromText, pathText } from "../base/paths.js";
import { restore } from "../engine/restore.js";
import type { Entry, Manifest } from "../engine/types.js";
import type { VerifyReport, VerifyRequest } from "../api/services.js";
import { SOURCE_GAUGES, VERIFICATION_METRICS } from "../telemetry/series.js";
import type { WorkContext } from "./job-documents.js";
import type { Parts } from "./parts.js";

/** Files restored by a `restore` verification unless told. */
const SAMPLE_DEFAULT = 20;
const PROBLEMS_MAX = 1_000;

type Problem = VerifyReport["problems"][number];

interface Outcome {
  readonly files: number;
  readonly bytes: number;
  readonly problems: readonly Problem[];
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
    if (request.level === "restore") metrics.gauge(VERIFICATION_METRICS.restoreDuration).set(seconds, { source });
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
  let files = 0;
  let bytes = 0;
  for await (const entry of repository.backupEntries(backupId, {}, context.signal)) {
    context.signal.throwIfAborted();
    files += 1;
    if (!readsContent || entry.node.kind !== "file") continue;
    try {
      for await (const part of repository.readContent(entry.node, context.signal)) bytes += part.length;
    } catch (error) {
      context.signal.throwIfAborted();
      if (problems.length < PROBLEMS_MAX) problems.push({ ...pathFields(entry.path), problem: messageOf(error) });
    }
    context.progress({ files_done: files, files_total: null, bytes_done: bytes, bytes_total: null });
  }
  return { files, bytes, problems };
}

/** Restores a random sample into a private folder and compares what is on disk. */
async function verifyByRestore(parts: Parts, backupId: string, sample: number, context: WorkContext): Promise<Outcome> {
  const { repository } = parts;
  const chosen = await randomFiles(repository.backupEntries(backupId, {}, context.signal), sample);
  const folder = await mkdtemp(join(tmpdir(), "holdfast-verify-"));
  try {
    const target = pathFromText(folder);
    const options = {
      overwrite: "never",
      inPlace: false,
      delete: false,
      dryRun: false,
      verify: true,
      sparse: true,
    } as const;
    const report = await restore(repository, { entries: each(chosen), target, ...options }, context.signal);
    const problems: Problem[] = report.failed.map(({ path, message }) => ({ ...pathFields(path), problem: message }));
    let bytes = 0;
    for (const entry of chosen) {
      const content = await readFile(Buffer.from(`${target}${entry.path}`, "latin1")).catch(() => undefined);
      bytes += content?.length ?? 0;
      const digest = content === undefined ? undefined : createHash("sha256").update(content).digest("hex");
      if (digest === entry.node.sha256 || problems.some((problem) => problem.path === pathText(entry.path))) continue;
      problems.push({ ...pathFields(entry.path), problem: "the restored file differs from what was stored" });
    }
    return { files: chosen.length, bytes, problems };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A fair sample of the files, in path order (reservoir sampling: every file has the same chance). */
async function randomFiles(entries: AsyncIterable<Entry>, count: number): Promise<readonly Entry[]> {
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
  return kept.sort((a, b) => (a.path < b.path ? -1 : 1));
}

async function* each(entries: readonly Entry[]): AsyncGenerator<Entry> {
  await Promise.resolve();
  yield* entries;
}
