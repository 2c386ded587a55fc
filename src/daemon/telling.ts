/** Who tells people: the alert dispatcher, which a reload of the configuration replaces by another one. */
import type { AlertChannel } from "../alerts/channel.js";
import type { AlertDispatcher } from "../alerts/dispatcher.js";
import { type AlertRules, resolveRules } from "../alerts/rules.js";
import type { AlertsConfiguration } from "../config/configuration.js";
import { DEFAULT_FULL_SHARE } from "../policy/space.js";

/** How a dispatcher comes to be, in two steps: the first can fail and touches nothing. */
export interface TellingPorts {
  /** Reads secrets; throws SECRET_UNREADABLE, CONFIG_INVALID. */
  channels(alerts: AlertsConfiguration): Promise<readonly AlertChannel[]>;
  /** Takes up the outbox, which only one dispatcher can have. Takes over the channels. */
  open(alerts: AlertsConfiguration, channels: readonly AlertChannel[]): Promise<AlertDispatcher>;
}

export class Telling implements AsyncDisposable {
  #ports: TellingPorts | undefined;
  #dispatcher: AlertDispatcher | undefined;

  /** How a dispatcher is opened; without one nobody is told. */
  openWith(ports: TellingPorts): void {
    this.#ports = ports;
  }

  get dispatcher(): AlertDispatcher | undefined {
    return this.#dispatcher;
  }

  /**
   * Tells by these channels and rules from now on; what is in the outbox goes on. When it cannot, it tells by those of
   * `before` as it did (undefined: by none) and throws.
   */
  async take(next: AlertsConfiguration, before: AlertsConfiguration | undefined): Promise<void> {
    const ports = this.#ports;
    if (ports === undefined) return;
    const channels = await ports.channels(next);
    const channelsBefore = before === undefined ? undefined : await ports.channels(before).catch(() => undefined);
    await this.#dispatcher?.[Symbol.asyncDispose]();
    this.#dispatcher = undefined;
    try {
      this.#dispatcher = await ports.open(next, channels);
      await closeAll(channelsBefore ?? []);
    } catch (error) {
      await closeAll(channels);
      if (before !== undefined && channelsBefore !== undefined)
        this.#dispatcher = await ports.open(before, channelsBefore);
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispatcher?.[Symbol.asyncDispose]();
    this.#dispatcher = undefined;
  }
}

async function closeAll(channels: readonly AlertChannel[]): Promise<void> {
  for (const channel of channels) await channel[Symbol.asyncDispose]();
}

/** Used share of the store from which it counts as full, 0 to 1. */
export function fullShareOf(alerts: AlertsConfiguration): number {
  return alerts.rules.find(({ when }) => when === "storage_full")?.threshold ?? DEFAULT_FULL_SHARE;
}

/** The rules in force. Throws CONFIG_INVALID. */
export function alertRules(alerts: AlertsConfiguration): AlertRules {
  const rules = alerts.rules.map(({ autoRetry, severity, threshold, ...rule }) => ({
    ...rule,
    ...(severity === undefined ? {} : { severity }),
    ...(threshold === undefined ? {} : { threshold }),
    ...(autoRetry === undefined ? {} : { autoRetry }),
  }));
  return resolveRules(
    rules,
    alerts.channels.map((channel) => channel.name),
  );
}
