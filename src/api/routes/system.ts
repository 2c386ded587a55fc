/** Routes about the daemon itself: status, health, jobs, schedules, alerts, configuration. */
import * as contract from "../contract.js";
import { BASE, type Route, list, ok, param } from "../route.js";

export const systemRoutes: readonly Route[] = [
  {
    method: "GET",
    path: `${BASE}/status`,
    role: "viewer",
    summary: "Everything that fits one screen.",
    handle: async (call) => ok(await call.services.system.status()),
  },
  {
    method: "GET",
    path: `${BASE}/stats`,
    role: "viewer",
    summary: "Figures of the repository.",
    handle: async (call) => ok(await call.services.repository.describe()),
  },
  {
    method: "GET",
    path: `${BASE}/health`,
    aliases: ["/api/backup/health"],
    role: "viewer",
    summary: "Health with its checks; 503 when failing.",
    handle: async (call) => {
      const health = await call.services.system.health();
      return { kind: "document", status: health.state === "failing" ? 503 : 200, body: health };
    },
  },
  {
    method: "GET",
    path: `${BASE}/schedules`,
    role: "viewer",
    summary: "What is due when.",
    query: contract.pageQuery,
    handle: async (call) => list(await call.services.system.schedules()),
  },
  {
    method: "GET",
    path: `${BASE}/jobs`,
    role: "viewer",
    summary: "Long work: running and lately finished.",
    query: contract.pageQuery,
    handle: async (call) => list(await call.services.system.jobs()),
  },
  {
    method: "GET",
    path: `${BASE}/jobs/:id`,
    role: "viewer",
    summary: "One job, at once or when it has ended.",
    query: contract.jobQuery,
    handle: async (call) => {
      const { wait_ms = 0 } = call.query as contract.JobQuery;
      return ok(await call.services.system.job(param(call, "id"), wait_ms, call.signal));
    },
  },
  {
    method: "DELETE",
    path: `${BASE}/jobs/:id`,
    role: "backup_operator",
    summary: "Cancel a job.",
    handle: async (call) => ok(await call.services.system.cancelJob(param(call, "id"))),
  },
  {
    method: "GET",
    path: `${BASE}/alerts`,
    role: "viewer",
    summary: "Alerts that are active.",
    query: contract.alertsQuery,
    handle: async (call) => {
      return list(await call.services.alerts.alerts((call.query as contract.AlertsQuery).all ?? false));
    },
  },
  {
    method: "POST",
    path: `${BASE}/alerts/:id/ack`,
    role: "backup_operator",
    summary: "Acknowledge an alert.",
    handle: async (call) => ok(await call.services.alerts.acknowledge(param(call, "id"))),
  },
  {
    method: "POST",
    path: `${BASE}/alerts/silence`,
    role: "backup_operator",
    summary: "Say nothing about a condition for a while.",
    body: contract.silenceBody,
    handle: async (call) => {
      const { condition, duration_seconds } = call.body as contract.SilenceBody;
      await call.services.alerts.silence(condition, duration_seconds * 1000);
      return ok({ condition, duration_seconds });
    },
  },
  {
    method: "POST",
    path: `${BASE}/alerts/test/:channel`,
    role: "admin",
    summary: "Send a test message through a channel now.",
    handle: async (call) => {
      await call.services.alerts.test(param(call, "channel"));
      return ok({ channel: param(call, "channel"), outcome: "delivered" });
    },
  },
  {
    method: "GET",
    path: `${BASE}/config`,
    role: "admin",
    summary: "The configuration in force; secrets are not shown.",
    handle: async (call) => ok(await call.services.system.config()),
  },
  {
    method: "POST",
    path: `${BASE}/config/reload`,
    role: "admin",
    summary: "Take the configuration anew: all of it or nothing.",
    handle: async (call) => ok(await call.services.system.reload()),
  },
];
