/** The report of a repair as a document of the API. Pure. */
import type { RepairDocument } from "../api/upkeep-service.js";
import type { RepairReport } from "../engine/repair.js";
import { problemDocuments } from "./documents.js";

export function repairDocument(report: RepairReport): RepairDocument {
  return {
    dry_run: report.dryRun,
    summary: summaryOf(report),
    chunks_lost: report.chunksLost,
    chunks_repaired: report.chunksRepaired,
    pack_bytes_restored: report.packBytesRestored,
    bytes_written: report.bytesWritten,
    parity_dropped: report.parityDropped,
    objects_repaired: report.objectsRepaired,
    restart_needed: report.reopenNeeded,
    problems: problemDocuments(report.problems),
  };
}

function summaryOf(report: RepairReport): string {
  const { chunksLost, chunksRepaired, objectsRepaired, packBytesRestored, problemCount } = report;
  const repaired = Object.values(chunksRepaired).reduce((sum, count) => sum + count, 0);
  const isWhole = chunksLost + objectsRepaired.length + packBytesRestored + problemCount === 0;
  if (isWhole) return "the store is sound: there is nothing to repair";
  const did = report.dryRun ? "can be repaired" : "repaired";
  const left = problemCount === 0 ? "the store is sound" : `${String(problemCount)} problems are left`;
  return `${String(repaired)} of ${String(chunksLost)} lost chunks and ${String(objectsRepaired.length)} objects ${did}; ${left}`;
}
