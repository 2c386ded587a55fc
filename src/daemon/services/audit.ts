/** The audit log over the API. */
import type { AuditService } from "../../api/audit-service.js";
import type { AuditLog } from "../../telemetry/audit.js";

export function auditService(audit: AuditLog): AuditService {
  return {
    entries: () => audit.entries(),
    async verify(signal) {
      const { entries, first, last, problems } = await audit.verify(signal);
      return { entries, first: first ?? null, last: last ?? null, problems };
    },
  };
}
