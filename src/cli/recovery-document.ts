/** What the report of a recovery says, whatever its form: sums, files, candidates, and where and when it was made. */
import { hostname } from "node:os";
import type { BatchReport, RecoverReport } from "../api/services.js";
import type { PathDocument } from "../api/path-document.js";
import { formatDuration } from "../base/units.js";

/** What a report says; its JSON form as it stands. */
export interface RecoveryReportDocument extends BatchReport {
  readonly report: "recovery";
  readonly holdfast: string;
  readonly hostname: string;
  readonly created_at: string;
  /** True: nothing was written back, it only tells what would be. */
  readonly is_explanation: boolean;
}

/** A report over one file or many. `nowMs` in wall ms. */
export function reportOf(
  outcome: RecoverReport | BatchReport,
  about: { readonly version: string; readonly nowMs: number },
): RecoveryReportDocument {
  const batch = "results" in outcome ? outcome : batchOfOne(outcome, about.nowMs);
  return {
    report: "recovery",
    holdfast: about.version,
    hostname: hostname(),
    created_at: new Date(about.nowMs).toISOString(),
    is_explanation: batch.results.length > 0 && batch.results.every((result) => result.outcome === "explained"),
    ...batch,
  };
}

function batchOfOne(result: RecoverReport, nowMs: number): BatchReport {
  const is = (...outcomes: readonly RecoverReport["outcome"][]): number => Number(outcomes.includes(result.outcome));
  return {
    started_at: new Date(nowMs - result.duration_ms).toISOString(),
    paths_total: 1,
    healed: is("healed"),
    failed: is("failed", "waiting"),
    returned: is("returned"),
    duration_ms: result.duration_ms,
    results: [result],
  };
}

/** The sentence that sums a report up. */
export function summaryText(report: RecoveryReportDocument): string {
  if (report.is_explanation) return "Nothing was written back: this tells what was found and what would be taken.";
  const { paths_total: total, healed, returned, failed, duration_ms: durationMs } = report;
  return `${healed} of ${total} came back, ${returned} were there already, ${failed} did not come back; ${formatDuration(durationMs)} in all.`;
}

/** A path as a reader sees it: bytes that are no text are spelled out, so that two names never look the same. */
export function shownPath({ path, path_b64: bytes }: PathDocument): string {
  if (bytes === undefined) return path;
  const latin1 = Buffer.from(bytes, "base64").toString("latin1");
  return latin1.replace(/[\u0080-\u00ff]/g, (character) => `\\x${character.charCodeAt(0).toString(16)}`);
}
