/** Routes for machines that watch: metrics, liveness, readiness, events. `/openapi.json` is added by the router. */
import type { Clock } from "../../base/clock.js";
import { HoldfastError } from "../../base/errors.js";
import { API_LIMITS } from "../contract.js";
import { type Answer, BASE, type Call, type Route, ok } from "../route.js";
import type { DaemonEvent } from "../services.js";

/** A comment goes to each event stream this often, so that a dead one is noticed. */
const HEARTBEAT_MS = 15_000;

/** The routes; `clock` drives the heartbeats of event streams, `closing` ends the streams. */
export function observeRoutes(clock: Clock, closing: AbortSignal): readonly Route[] {
  const streams = { count: 0 };
  return [
    {
      method: "GET",
      path: "/metrics",
      role: "viewer",
      summary: "Metrics for Prometheus.",
      handle: async (call) => {
        const contentType = "text/plain; version=0.0.4; charset=utf-8";
        return { kind: "text", contentType, body: await call.services.system.metrics() };
      },
    },
    {
      method: "GET",
      path: "/healthz",
      role: "viewer",
      summary: "Alive: answers as long as the daemon's main loop turns.",
      handle: () => ok({ status: "alive" }),
    },
    {
      method: "GET",
      path: "/readyz",
      role: "viewer",
      summary: "Ready to protect: 503 while failing.",
      handle: async (call) => {
        const health = await call.services.system.health();
        const status = health.state === "failing" ? 503 : 200;
        return { kind: "document", status, body: { status: health.state, checks: health.checks } };
      },
    },
    {
      method: "GET",
      path: `${BASE}/events`,
      role: "viewer",
      summary: "Events as they happen (server-sent events); `Last-Event-ID` replays what was missed.",
      handle: (call) => {
        const signal = AbortSignal.any([call.signal, closing]);
        return openStream(call, { clock, streams, signal });
      },
    },
  ];
}

interface StreamParts {
  readonly clock: Clock;
  readonly streams: { count: number };
  readonly signal: AbortSignal;
}

function openStream(call: Call, parts: StreamParts): Answer {
  if (parts.streams.count >= API_LIMITS.eventStreamsMax) {
    throw new HoldfastError("LIMIT_REACHED", `${API_LIMITS.eventStreamsMax} event streams are open already`);
  }
  const given = call.headers["last-event-id"];
  const lastId = typeof given === "string" && /^\d{1,15}$/.test(given) ? Number(given) : undefined;
  const events = call.services.system.events(lastId, parts.signal);
  return { kind: "bytes", contentType: "text/event-stream", parts: streamEvents(events, parts) };
}

async function* streamEvents(events: AsyncIterable<DaemonEvent>, parts: StreamParts): AsyncIterable<Buffer> {
  parts.streams.count += 1;
  const iterator = events[Symbol.asyncIterator]();
  try {
    yield Buffer.from(": holdfast events\n\n");
    let next = iterator.next();
    while (!parts.signal.aborted) {
      const first = await firstOf(next, parts.clock);
      if (first === "heartbeat") {
        yield Buffer.from(": alive\n\n");
        continue;
      }
      if (first.done === true) return;
      yield Buffer.from(eventText(first.value));
      next = iterator.next();
    }
  } finally {
    parts.streams.count -= 1;
    await iterator.return?.();
  }
}

async function firstOf<T>(next: Promise<T>, clock: Clock): Promise<T | "heartbeat"> {
  let cancel = (): void => undefined;
  const beat = new Promise<"heartbeat">((resolve) => {
    const timer = clock.after(HEARTBEAT_MS, () => resolve("heartbeat"));
    cancel = () => timer.cancel();
  });
  try {
    return await Promise.race([next, beat]);
  } finally {
    cancel();
  }
}

function eventText(event: DaemonEvent): string {
  const name = event.name.replace(/[\r\n]/g, " ");
  return `id: ${event.id}\nevent: ${name}\ndata: ${JSON.stringify(event)}\n\n`;
}
