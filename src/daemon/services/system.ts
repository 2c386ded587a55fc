/** The daemon itself over the API: status, health, configuration, jobs, metrics, events. */
import { HoldfastError } from "../../base/errors.js";
import type { Configuration } from "../../config/configuration.js";
import type { SystemService } from "../../api/services.js";
import { configDocument } from "../documents.js";
import { jobDocument } from "../job-documents.js";
import type { Operation } from "../operation.js";
import type { Parts } from "../parts.js";
import { Reloads } from "../reload.js";
import { healthDocument, statusDocument } from "../status.js";

export function systemService(parts: Parts, operation: Operation, load: () => Promise<Configuration>): SystemService {
  const { jobs, ground, settings, events } = parts;
  const reloads = new Reloads(parts, operation, load);
  return {
    status: async () => await statusDocument(parts, operation),
    health: async () => await healthDocument(parts, operation),
    schedules: async () => await Promise.resolve(operation.plan.schedules()),
    config: async () => await Promise.resolve(configDocument(settings.current)),
    async reload() {
      if (!ground.isDaemon) throw new HoldfastError("DAEMON_UNREACHABLE", "there is no daemon to take a configuration");
      return await reloads.reload();
    },
    jobs: async () => await Promise.resolve(jobs.list().map(jobDocument)),
    job: async (id, waitMs, signal) => jobDocument(await jobs.endedWithin(id, waitMs, signal)),
    cancelJob: async (id) => await Promise.resolve(jobDocument(jobs.cancel(id))),
    metrics: async () => await ground.metrics.render(),
    events: (afterId, signal) => events.follow(afterId, signal),
  };
}
