/** Who tells people: the alert dispatcher, which a reload of the configuration replaces by another one. */
import type { AlertDispatcher } from "../alerts/dispatcher.js";
import { type AlertRules, resolveRules } from "../alerts/rules.js";
import type { AlertsConfiguration } from "../config/configuration.js";

type Opener = (alerts: AlertsConfiguration) => Promise<AlertDispatcher>;

export class Telling implements AsyncDisposable {
  #open: Opener | undefined;
  #dispatcher: AlertDispatcher | undefined;

  /** How a dispatcher is opened; without one nobody is told. */
  openWith(open: Opener): void {
    this.#open = open;
  }

  get dispatcher(): AlertDispatcher | undefined {
    return this.#dispatcher;
  }

  /** Tells by these channels and rules from now on; what is in the outbox goes on. */
  async take(alerts: AlertsConfiguration): Promise<void> {
    await this.#dispatcher?.[Symbol.asyncDispose]();
    this.#dispatcher = await this.#open?.(alerts);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dispatcher?.[Symbol.asyncDispose]();
    this.#dispatcher = undefined;
  }
}

/** The rules in force. Throws CONFIG_INVALID. */
export function alertRules(alerts: AlertsConfiguration): AlertRules {
  const rules = alerts.rules.map(({ autoRetry, threshold, ...rule }) => ({
    ...rule,
    ...(threshold === undefined ? {} : { threshold }),
    ...(autoRetry === undefined ? {} : { autoRetry }),
  }));
  return resolveRules(
    rules,
    alerts.channels.map((channel) => channel.name),
  );
}
