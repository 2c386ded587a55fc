/** The daemon itself over the API: status, health, configuration, jobs, metrics, events. */
import { HoldfastError } from "../../base/errors.js";
import type { Configuration } from "../../config/configuration.js";
import { diffConfigurations } from "../../config/diff.js";
import type { SystemService } from "../../api/services.js";
import { configDocument } from "../documents.js";
import { jobDocument } from "../job-documents.js";
import type { Operation } from "../operation.js";
import type { Parts } from "../parts.js";
import { healthDocument, statusDocument } from "../status.js";
import { alertChannels } from "../plugins.js";
import { alertRules } from "../telling.js";

export function systemService(parts: Parts, operation: Operation, load: () => Promise<Configuration>): SystemService {
  const { jobs, ground, settings, events } = parts;
  return {
    status: async () => await statusDocument(parts, operation),
    health: async () => await healthDocument(parts, operation),
    schedules: async () => await Promise.resolve(operation.plan.schedules()),
    config: async () => await Promise.resolve(configDocument(settings.current)),
    async reload() {
      if (!ground.isDaemon) throw new HoldfastError("DAEMON_UNREACHABLE", "there is no daemon to take a configuration");
      const reloaded = ground.metrics.gauge(RELOAD_SUCCESS);
      reloaded.set(0);
      const next = await load();
      await verify(parts, next);
      const { plan, needsRestart } = diffConfigurations(settings.current, next);
      await operation.take(next);
      reloaded.set(1);
      const restart = needsRestart.map((key) => `! ${key} takes effect after a restart`);
      return { plan: [...plan, ...restart] };
    },
    jobs: async () => await Promise.resolve(jobs.list().map(jobDocument)),
    job: async (id) => await Promise.resolve(jobDocument(jobs.get(id))),
    cancelJob: async (id) => await Promise.resolve(jobDocument(jobs.cancel(id))),
    metrics: async () => await ground.metrics.render(),
    events: (afterId, signal) => events.follow(afterId, signal),
  };
}

export const RELOAD_SUCCESS = {
  name: "holdfast_config_last_reload_success",
  help: "1 when the last configuration that was offered was taken.",
} as const;

/** Every part looks at the new configuration before any takes it. Throws what is wrong with it. */
async function verify(parts: Parts, next: Configuration): Promise<void> {
  const { repository, ground } = parts;
  const channels = await alertChannels(next.alerts.channels, () => undefined, ground.signal);
  for (const channel of channels) await channel[Symbol.asyncDispose]();
  alertRules(next.alerts);
  const closed = next.sources.find((source) => source.encryptionRequired);
  if (closed !== undefined && !repository.encrypted) {
    throw new HoldfastError(
      "ENCRYPTION_REQUIRED",
      `the source ${closed.name} demands encryption and the store has none`,
    );
  }
}
