/** Routes about the audit log: who did what, and whether anybody changed it since. */
import * as contract from "../contract.js";
import { BASE, type Route, list, ok } from "../route.js";

export const auditRoutes: readonly Route[] = [
  {
    method: "GET",
    path: `${BASE}/audit`,
    role: "admin",
    summary: "The audit log, newest first: who did what.",
    query: contract.pageQuery,
    handle: (call) => list(call.services.audit.entries()),
  },
  {
    method: "GET",
    path: `${BASE}/audit/verify`,
    role: "admin",
    summary: "Follow the hash chain of the audit log: what was changed, removed or put in shows.",
    handle: async (call) => ok(await call.services.audit.verify(call.signal)),
  },
];
