/** An audit log of one entry, for tests of routes and commands. */
import type { AuditService } from "../../src/api/audit-service.js";

/** Whole, and always the same. */
export function fakeAudit(): AuditService {
  const entry = { seq: 1, at: "2026-01-15T12:00:00.000Z", action: "api.write", by: "uid 0", detail: {} };
  return {
    entries: async function* () {
      await Promise.resolve();
      yield { ...entry, prev: "0".repeat(64), hash: "1".repeat(64) };
    },
    verify: () => Promise.resolve({ entries: 1, first: null, last: null, problems: [] }),
  };
}
