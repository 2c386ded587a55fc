/** Scans, recoveries and incidents over the API. */
import { HoldfastError } from "../../base/errors.js";
import { pathFields, pathText } from "../../base/paths.js";
import type { ScanReport } from "../../monitor/ports.js";
import type { ScanReport as ScanDocument, RecoverRequest, RecoveryService } from "../../api/services.js";
import { batchDocument, incidentDocument, putBackDocument, recoverReport } from "../documents.js";
import { startJob } from "../job-documents.js";
import type { Operation } from "../operation.js";
import type { Parts } from "../parts.js";

const INCIDENTS_MAX = 1_000;

export function recoveryService(parts: Parts, operation: Operation): RecoveryService {
  const { jobs, healer, monitor, ground } = parts;
  return {
    async scan(path) {
      await operation.readyToScan();
      if (path !== undefined) parts.book.needAt(path);
      return startJob(jobs, "scan", "read", async (job) => {
        const startedMs = ground.clock.monotonicMs();
        const report = await monitor.scan(path === undefined ? {} : { path }, job.signal);
        return scanDocument(report, ground.clock.monotonicMs() - startedMs);
      });
    },
    async recover(request) {
      await operation.readyToScan();
      const source = sourceOf(parts, request);
      return startJob(jobs, "recover", "heal", async (job) => {
        const seenAtMs = ground.clock.nowMs();
        const result = await healer.recover(source, request.file, recoverOptions(request), job.signal);
        return recoverReport(result, seenAtMs);
      });
    },
    async recoverAll() {
      await operation.readyToScan();
      return startJob(jobs, "recover", "heal", async (job) => {
        const { findings } = await monitor.scan({}, job.signal);
        return batchDocument(await healer.recoverAll(findings, job.signal));
      });
    },
    async incidents(onlyOpen, limit) {
      const found = await healer.incidents({ onlyOpen, limit: Math.min(limit, INCIDENTS_MAX) });
      return found.map((incident) => incidentDocument(incident));
    },
    incident: async (id) =>
      incidentDocument(await healer.incident(id), (path) => monitor.lastGood(path)?.registeredAtMs),
    async approve(idOrPrefix) {
      const { id } = await healer.incident(idOrPrefix);
      return startJob(jobs, "recover", "heal", async (job) => batchDocument(await healer.approve(id, job.signal)));
    },
    async deny(idOrPrefix) {
      const { id } = await healer.incident(idOrPrefix);
      return incidentDocument(await healer.deny(id));
    },
    async restoreQuarantined(idOrPrefix) {
      const { id } = await healer.incident(idOrPrefix);
      return putBackDocument(await healer.restoreQuarantined(id, ground.signal));
    },
  };
}

/** The source that protects the file, or that did when it was stored. Throws SOURCE_NOT_FOUND. */
function sourceOf(parts: Parts, request: RecoverRequest): string {
  const name = parts.book.holding(request.file)?.name ?? parts.repository.current(request.file)?.source;
  if (name !== undefined && parts.book.find(name) !== undefined) return name;
  throw new HoldfastError("SOURCE_NOT_FOUND", `${pathText(request.file)} is not protected`, {
    hint: "Protect its folder first (`holdfast protect`), or take a version out of a backup: `holdfast restore --files`.",
  });
}

function recoverOptions(request: RecoverRequest): Parameters<Parts["healer"]["recover"]>[2] {
  return {
    ...(request.strategy === "auto" ? {} : { strategy: request.strategy }),
    ...(request.at_ms === undefined ? {} : { atMs: request.at_ms }),
    ...(request.to === undefined ? {} : { to: request.to }),
    explain: request.explain,
  };
}

function scanDocument(report: ScanReport, durationMs: number): ScanDocument {
  const missing = report.findings.filter((finding) => finding.kind === "deleted").length;
  return {
    files_checked: report.filesChecked,
    missing,
    damaged: report.findings.length - missing,
    duration_seconds: durationMs / 1000,
    findings: report.findings.map((finding) => ({
      ...pathFields(finding.path),
      source: finding.source,
      kind: finding.kind,
      detail: finding.detail,
    })),
  };
}
