/** Routes about what is protected: sources, pauses, why a path is treated as it is. */
import { HoldfastError } from "../../base/errors.js";
import * as contract from "../contract.js";
import { type Answer, BASE, type Call, type Route, created, list, ok, param, pathOf, queryPath } from "../route.js";
import type { ProtectRequest } from "../watch-service.js";

export const watchRoutes: readonly Route[] = [
  {
    method: "GET",
    path: `${BASE}/sources`,
    role: "viewer",
    summary: "What is protected, and how it stands.",
    query: contract.pageQuery,
    handle: async (call) => list(await call.services.watch.sources()),
  },
  {
    method: "POST",
    path: `${BASE}/sources`,
    role: "admin",
    summary: "Protect more paths; kept across restarts.",
    body: contract.protectBody,
    handle: protect,
  },
  {
    method: "GET",
    path: `${BASE}/sources/:name`,
    role: "viewer",
    summary: "One source.",
    handle: async (call) => {
      const name = param(call, "name");
      const source = (await call.services.watch.sources()).find((each) => each.name === name);
      if (source === undefined) throw new HoldfastError("SOURCE_NOT_FOUND", `there is no source "${name}"`);
      return ok(source);
    },
  },
  {
    method: "PATCH",
    path: `${BASE}/sources/:name`,
    role: "admin",
    summary: "Change a source that was added at run time; null takes a setting back to the configured default.",
    body: contract.changeSourceBody,
    handle: async (call) => {
      const { paths, ...settings } = call.body as contract.ChangeSourceBody;
      const request = { ...settings, ...(paths === undefined ? {} : { paths: paths.map(pathOf) }) };
      return ok(await call.services.watch.change(param(call, "name"), request));
    },
  },
  {
    method: "DELETE",
    path: `${BASE}/sources/:name`,
    role: "admin",
    summary: "Stop protecting a source (by name, or by one of its paths, percent-encoded); its backups stay.",
    handle: async (call) => ok(await call.services.watch.unprotect(param(call, "name"))),
  },
  {
    method: "POST",
    path: `${BASE}/pause`,
    role: "backup_operator",
    summary: "Maintenance window: changes are recorded, nothing is healed.",
    body: contract.pauseBody,
    handle: async (call) => {
      const wanted = call.body as contract.PauseBody;
      const path = wanted.path === undefined ? undefined : pathOf(wanted.path);
      return ok(await call.services.watch.pause(path, wanted.duration_seconds * 1000, wanted.reason ?? ""));
    },
  },
  {
    method: "POST",
    path: `${BASE}/resume`,
    role: "backup_operator",
    summary: "End a maintenance window.",
    body: contract.pathBody,
    handle: async (call) => {
      const { path } = (call.body ?? {}) as contract.PathBody;
      return ok({ items: await call.services.watch.resume(path === undefined ? undefined : pathOf(path)) });
    },
  },
  {
    method: "GET",
    path: `${BASE}/explain`,
    role: "viewer",
    summary: "Which rule decides about a path, and why.",
    query: contract.versionsQuery,
    handle: async (call) => ok(await call.services.watch.explain(queryPath(call.query as contract.PathQuery))),
  },
];

async function protect(call: Call): Promise<Answer> {
  const { path, paths, ...wanted } = call.body as contract.ProtectBody;
  const texts = [...(paths ?? []), ...(path === undefined ? [] : [path])];
  if (texts.length === 0) throw new HoldfastError("USAGE", "no path was given", { hint: "Add path or paths." });
  const request: ProtectRequest = { paths: texts.map(pathOf), ...wanted };
  const sources = await call.services.watch.protect(request);
  return created({ items: sources }, `${BASE}/sources/${encodeURIComponent(sources[0]?.name ?? "")}`);
}
