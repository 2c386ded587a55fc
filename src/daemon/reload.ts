/**
 * Taking another configuration while everything runs: one reload at a time, verified by every part before any takes it,
 * and then taken whole or not at all.
 */
import { HoldfastError } from "../base/errors.js";
import type { Gauge, MetricSpec } from "../base/observe.js";
import type { Configuration } from "../config/configuration.js";
import { diffConfigurations } from "../config/diff.js";
import type { Operation } from "./operation.js";
import type { Parts } from "./parts.js";
import { alertChannels } from "./plugins.js";
import { alertRules } from "./telling.js";

export interface ReloadReport {
  /** What changed, as lines for people. */
  readonly plan: readonly string[];
}

const SUCCESS: MetricSpec<never> = {
  name: "holdfast_config_last_reload_success",
  help: "1 when the last configuration that was offered, at the start or later, was taken.",
};
const SUCCESS_TIMESTAMP: MetricSpec<never> = {
  name: "holdfast_config_last_reload_success_timestamp_seconds",
  help: "When a configuration was last taken, at the start or later, Unix time.",
};

export class Reloads {
  readonly #parts: Parts;
  readonly #operation: Operation;
  readonly #load: () => Promise<Configuration>;
  /** What holds until a restart for the settings that need one, whatever was taken since. */
  readonly #started: Configuration;
  readonly #success: Gauge;
  readonly #successTimestamp: Gauge;
  #running: Promise<unknown> = Promise.resolve();
  /** The one that has not begun: it takes what stands in the file when it does, for everybody who asks meanwhile. */
  #next: Promise<ReloadReport> | undefined;

  /** To be made when the first configuration has been taken; `load` loads it as it was loaded at the start. */
  constructor(parts: Parts, operation: Operation, load: () => Promise<Configuration>) {
    this.#parts = parts;
    this.#operation = operation;
    this.#load = load;
    this.#started = parts.settings.current;
    const { metrics } = parts.ground;
    this.#success = metrics.gauge(SUCCESS);
    this.#successTimestamp = metrics.gauge(SUCCESS_TIMESTAMP);
    this.#taken();
  }

  /** Takes the configuration anew. Throws what is wrong with it (CONFIG_INVALID and others); the old one stays then. */
  async reload(): Promise<ReloadReport> {
    this.#next ??= this.#runAfter(this.#running);
    return await this.#next;
  }

  async #runAfter(running: Promise<unknown>): Promise<ReloadReport> {
    await running;
    const work = this.#reload();
    this.#next = undefined;
    this.#running = work.catch(() => undefined);
    return await work;
  }

  async #reload(): Promise<ReloadReport> {
    const { settings } = this.#parts;
    this.#success.set(0);
    const next = await this.#load();
    await verify(this.#parts, next);
    const { plan } = diffConfigurations(settings.current, next);
    const { needsRestart } = diffConfigurations(this.#started, next);
    await this.#operation.take(next);
    this.#taken();
    return { plan: [...plan, ...needsRestart.map((key) => `! ${key} takes effect after a restart`)] };
  }

  #taken(): void {
    this.#success.set(1);
    this.#successTimestamp.set(this.#parts.ground.clock.nowMs() / 1000);
  }
}

/** Every part looks at the new configuration before any takes it. Throws what is wrong with it. */
async function verify({ repository, ground }: Parts, next: Configuration): Promise<void> {
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
