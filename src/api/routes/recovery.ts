/** Routes about healing: scans, recoveries, incidents and their decisions. */
import { HoldfastError } from "../../base/errors.js";
import { requirePlaceOfChoice } from "../access.js";
import * as contract from "../contract.js";
import { type Answer, BASE, type Call, type Route, accepted, list, ok, param, pathOf, timeMsOf } from "../route.js";

export const recoveryRoutes: readonly Route[] = [
  {
    method: "POST",
    path: `${BASE}/recovery/scan`,
    aliases: ["/api/recovery/scan"],
    role: "backup_operator",
    summary: "Look for missing and damaged files now.",
    body: contract.pathBody,
    handle: async (call) => {
      const { path } = (call.body ?? {}) as contract.PathBody;
      return accepted(await call.services.recovery.scan(path === undefined ? undefined : pathOf(path)));
    },
  },
  {
    method: "POST",
    path: `${BASE}/recovery/recover`,
    aliases: ["/api/recovery/recover"],
    role: "backup_operator",
    summary: "Recover one file; to another place as admin only.",
    body: contract.recoverBody,
    handle: recover,
  },
  {
    method: "POST",
    path: `${BASE}/recovery/batch`,
    role: "backup_operator",
    summary: "Recover everything that is missing or damaged now.",
    handle: async (call) => accepted(await call.services.recovery.recoverAll()),
  },
  {
    method: "GET",
    path: `${BASE}/incidents`,
    role: "viewer",
    summary: "What was lost or damaged and what was done, newest first.",
    query: contract.incidentsQuery,
    handle: async (call) => {
      const { open, limit } = call.query as contract.IncidentsQuery;
      const most = limit ?? contract.API_LIMITS.pageDefault;
      return list(await call.services.recovery.incidents(open ?? false, most));
    },
  },
  {
    method: "GET",
    path: `${BASE}/incidents/:id`,
    role: "viewer",
    summary: "One incident; here as in what follows, the id may be a unique prefix.",
    handle: async (call) => ok(await call.services.recovery.incident(param(call, "id"))),
  },
  {
    method: "POST",
    path: `${BASE}/incidents/:id/approve`,
    role: "backup_operator",
    summary: "Bring back everything that an incident holds.",
    handle: async (call) => accepted(await call.services.recovery.approve(param(call, "id"))),
  },
  {
    method: "POST",
    path: `${BASE}/incidents/:id/deny`,
    role: "backup_operator",
    summary: "Accept the loss; all versions stay.",
    handle: async (call) => ok(await call.services.recovery.deny(param(call, "id"))),
  },
  {
    method: "POST",
    path: `${BASE}/incidents/:id/restore-quarantined`,
    role: "backup_operator",
    summary: "Undo a heal: put back what was in the file's place.",
    handle: async (call) => ok(await call.services.recovery.restoreQuarantined(param(call, "id"))),
  },
];

async function recover(call: Call): Promise<Answer> {
  const wanted = (call.body ?? {}) as contract.RecoverBody;
  const file = wanted.file ?? wanted.file_path;
  if (file === undefined) throw new HoldfastError("USAGE", "no file was given", { hint: "Add file." });
  if (wanted.to !== undefined && wanted.explain !== true) requirePlaceOfChoice(call.caller);
  const at = wanted.at ?? wanted.target_timestamp ?? undefined;
  const job = await call.services.recovery.recover({
    file: pathOf(file),
    strategy: wanted.strategy ?? "auto",
    explain: wanted.explain ?? false,
    ...(at === undefined ? {} : { at_ms: timeMsOf(at) }),
    ...(wanted.to === undefined ? {} : { to: pathOf(wanted.to) }),
  });
  return accepted(job);
}
