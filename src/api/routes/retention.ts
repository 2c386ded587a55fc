/** Routes about retention: which backups stay, by which policy, and the cleanup that carries it out. */
import * as contract from "../contract.js";
import type { PolicyRequest } from "../retention-service.js";
import { BASE, type Route, accepted, created, list, ok, param } from "../route.js";

const POLICIES = `${BASE}/retention/policies`;

export const retentionRoutes: readonly Route[] = [
  {
    method: "GET",
    path: POLICIES,
    role: "viewer",
    summary:
      "Retention policies: `default` is the configuration's `rotation`, the others are for the sources they name.",
    query: contract.pageQuery,
    handle: async (call) => list(await call.services.retention.policies()),
  },
  {
    method: "POST",
    path: POLICIES,
    role: "admin",
    summary: "Add a retention policy for some sources; kept across restarts.",
    body: contract.newPolicyBody,
    handle: async (call) => {
      const { id, ...request } = call.body as contract.NewPolicyBody;
      return created(await call.services.retention.create(id, request), `${POLICIES}/${encodeURIComponent(id)}`);
    },
  },
  {
    method: "GET",
    path: `${POLICIES}/:id`,
    role: "viewer",
    summary: "One retention policy.",
    handle: async (call) => ok(await call.services.retention.policy(param(call, "id"))),
  },
  {
    method: "PUT",
    path: `${POLICIES}/:id`,
    role: "admin",
    summary: "Replace a retention policy; rules that are left out are those of the configuration again.",
    body: contract.policyBody,
    handle: async (call) => {
      return ok(await call.services.retention.replace(param(call, "id"), call.body as PolicyRequest));
    },
  },
  {
    method: "DELETE",
    path: `${POLICIES}/:id`,
    role: "admin",
    summary: "Remove a retention policy; its sources are under `default` again.",
    handle: async (call) => ok(await call.services.retention.remove(param(call, "id"))),
  },
  {
    method: "GET",
    path: `${BASE}/retention/preview`,
    role: "viewer",
    summary: "Which backups a cleanup would keep and remove now, and why.",
    handle: async (call) => ok(await call.services.retention.preview()),
  },
  {
    method: "POST",
    path: `${BASE}/retention/cleanup`,
    role: "admin",
    summary: "Remove the backups that retention does not keep.",
    body: contract.cleanupBody,
    handle: async (call) => {
      const { dry_run: dryRun = false, force = false } = (call.body ?? {}) as contract.CleanupBody;
      return accepted(await call.services.repository.cleanup({ dry_run: dryRun, force }));
    },
  },
];
