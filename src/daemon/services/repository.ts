/** The repository itself over the API: facts, check, garbage, retention, keys. */
import { isoTime } from "../../base/clock.js";
import { check } from "../../engine/check.js";
import { repair } from "../../engine/repair.js";
import type { RepositoryService } from "../../api/services.js";
import { collectGarbage } from "../cleanup-work.js";
import { checkDocument } from "../documents.js";
import { startJob } from "../job-documents.js";
import type { Operation } from "../operation.js";
import type { Parts } from "../parts.js";
import { repairDocument } from "../repair-document.js";
import { shownRecoveryKey } from "../recovery-key.js";
import { repositoryDocument } from "../status.js";

export function repositoryService(parts: Parts, operation: Operation): RepositoryService {
  const { repository, jobs, bus, storeGauges } = parts;
  return {
    describe: async () => await repositoryDocument(parts),
    async tiers() {
      const { storeUrl: url, versionsKeptMs } = parts.settings.current;
      const space = await repository.spaceInfo();
      const used = space === undefined ? null : space.totalBytes - space.freeBytes;
      const free = space?.freeBytes ?? null;
      return [
        { tier: "hot", url, used_bytes: used, free_bytes: free, versions_kept_seconds: versionsKeptMs / 1000 },
      ] as const;
    },
    async check(request) {
      return await Promise.resolve(
        startJob(jobs, "check", "read", async (job) => {
          const report = checkDocument(await check(repository, request, job.signal));
          if (report.problems.length === 0 && request.level === "full") await storeGauges.noteWholeCheck();
          if (report.problems.length === 0) bus.emit("integrity.passed", { what: "store" });
          else bus.emit("integrity.failed", { what: "store", code: "RECORD_DAMAGED", message: report.summary });
          return report;
        }),
      );
    },
    async repair(request) {
      return await Promise.resolve(
        startJob(jobs, "repair", "write", async (job) => {
          const options = { dryRun: request.dry_run, readData: request.read_data, copyUrl: request.from };
          const report = await repair(repository, options, job.signal);
          const document = repairDocument(report);
          if (report.problemCount === 0) bus.emit("integrity.passed", { what: "store" });
          else bus.emit("integrity.failed", { what: "store", code: "RECORD_DAMAGED", message: document.summary });
          return document;
        }),
      );
    },
    async collectGarbage({ dry_run: dryRun, allow_share: allowShare }) {
      return await Promise.resolve(
        startJob(jobs, "gc", "write", async (job) => {
          const report = await collectGarbage(parts, { dryRun, allowShare }, job.signal);
          return { dry_run: dryRun, chunks_removed: report.chunksRemoved, bytes_freed: report.bytesFreed };
        }),
      );
    },
    async cleanup({ dry_run: dryRun, force = false }) {
      return await Promise.resolve(
        startJob(jobs, "cleanup", "write", (job) => operation.plan.cleanUp({ dryRun, force }, job)),
      );
    },
    async recoveryKey() {
      const { configuration, password, keyService, signal } = parts.ground;
      const { storeUrl, stateDir } = configuration;
      const place = { storeUrl, stateDir, hasPassword: password !== undefined || keyService !== undefined };
      const { recoveryKey, isNew } = await shownRecoveryKey(place, repository, signal);
      return { recovery_key: recoveryKey.reveal(), new: isNew };
    },
    async listKeys() {
      const slots = await repository.listKeys(parts.ground.signal);
      return slots.map((slot) => ({ id: slot.id, kind: slot.kind, created_at: isoTime(slot.createdMs) }));
    },
  };
}
