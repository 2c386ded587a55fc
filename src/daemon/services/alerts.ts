/** Alerts over the API: what is active, acknowledged, silenced; and whether a channel works. */
import { isoTime } from "../../base/clock.js";
import { HoldfastError } from "../../base/errors.js";
import type { AlertDispatcher, AlertView } from "../../alerts/dispatcher.js";
import type { AlertDocument, AlertService } from "../../api/services.js";
import type { Parts } from "../parts.js";

export function alertService(parts: Parts): AlertService {
  const dispatcher = (): AlertDispatcher => {
    const { dispatcher: current } = parts.telling;
    if (current !== undefined) return current;
    throw new HoldfastError("DAEMON_UNREACHABLE", "alerts are kept by the daemon, and none is running");
  };
  return {
    alerts: async (includeResolved) => await Promise.resolve(dispatcher().list(includeResolved).map(alertDocument)),
    acknowledge: async (id) => alertDocument(await dispatcher().acknowledge(id)),
    async silence(condition, durationMs) {
      const untilMs = parts.ground.clock.nowMs() + durationMs;
      await dispatcher().silence({ condition, source: "*", untilMs, by: "a person", reason: "" });
    },
    test: async (channel) => await dispatcher().test(channel),
  };
}

function alertDocument(view: AlertView): AlertDocument {
  const { record } = view;
  return {
    id: record.id,
    condition: record.condition,
    severity: record.severity,
    source: record.source === "" ? null : record.source,
    summary: view.summary,
    since: isoTime(record.sinceMs),
    count: record.count,
    state: view.state,
    deliveries: Object.entries(record.deliveries).map(([channel, outcome]) => ({ channel, outcome })),
  };
}
