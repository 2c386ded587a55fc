/**
 * What happened lately, for people who follow along (`GET …/events`, the foreground daemon): a bounded ring of events
 * with growing numbers, and live followers. A follower that does not keep up loses the oldest, never the daemon's
 * memory; it sees the gap in the numbers.
 */
import type { Clock } from "../base/clock.js";
import { isoTime } from "../base/clock.js";
import { deferred, type Deferred } from "../base/concurrency.js";
import type { EventBus, EventName } from "../base/events.js";
import { pathText, type BytePath } from "../base/paths.js";
import type { DaemonEvent } from "../api/services.js";

const EVENTS_KEPT = 1_000;
const FOLLOWER_BACKLOG_MAX = 1_000;
const PATHS_SHOWN = 100;

const FOLLOWED: readonly EventName[] = [
  "file.removed",
  "file.lost",
  "file.returned",
  "mass.loss",
  "attack.held",
  "commit.durable",
  "backup.finished",
  "backup.failed",
  "backup.overdue",
  "backup.timely",
  "incident.opened",
  "incident.healed",
  "incident.failed",
  "incident.held",
  "incident.closed",
  "attacker.stopped",
  "files.missing",
  "files.expected",
  "source.removed",
  "watch.ready",
  "watch.degraded",
  "watch.restored",
  "root.gone",
  "root.returned",
  "store.full",
  "store.roomy",
  "integrity.failed",
  "integrity.passed",
];

interface Follower {
  readonly backlog: DaemonEvent[];
  wake: Deferred<undefined>;
}

export class EventLog {
  readonly #clock: Clock;
  readonly #ring: DaemonEvent[] = [];
  readonly #followers = new Set<Follower>();
  #nextId = 1;

  constructor(bus: EventBus, clock: Clock) {
    this.#clock = clock;
    for (const name of FOLLOWED) bus.on(name, (event) => this.#note(name, event));
  }

  /** Events numbered above `afterId` that are still kept, then live ones until the signal aborts. */
  async *follow(afterId: number | undefined, signal: AbortSignal): AsyncIterable<DaemonEvent> {
    const follower: Follower = { backlog: [], wake: deferred<undefined>() };
    if (afterId !== undefined) follower.backlog.push(...this.#ring.filter((event) => event.id > afterId));
    this.#followers.add(follower);
    const abort = (): void => follower.wake.resolve(undefined);
    signal.addEventListener("abort", abort, { once: true });
    try {
      while (!signal.aborted) {
        const event = follower.backlog.shift();
        if (event !== undefined) {
          yield event;
          continue;
        }
        await follower.wake.promise;
        follower.wake = deferred<undefined>();
      }
    } finally {
      signal.removeEventListener("abort", abort);
      this.#followers.delete(follower);
    }
  }

  #note(name: EventName, event: object): void {
    const noted: DaemonEvent = {
      id: this.#nextId++,
      name,
      at: isoTime(this.#clock.nowMs()),
      data: plainData(event),
    };
    this.#ring.push(noted);
    if (this.#ring.length > EVENTS_KEPT) this.#ring.shift();
    for (const follower of this.#followers) {
      follower.backlog.push(noted);
      if (follower.backlog.length > FOLLOWER_BACKLOG_MAX) follower.backlog.shift();
      follower.wake.resolve(undefined);
    }
  }
}

/** Event fields as JSON: paths as text, long lists cut to `PATHS_SHOWN` with a count beside them. */
function plainData(event: object): Record<string, unknown> {
  const data: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(event) as [string, unknown][]) {
    if (key === "path" || key === "root") data[key] = pathText(value as BytePath);
    else if (key === "paths" && Array.isArray(value)) {
      data["paths"] = value.slice(0, PATHS_SHOWN).map((path) => pathText(path as BytePath));
      data["paths_total"] = value.length;
    } else if (key === "losses" && Array.isArray(value)) data["losses_total"] = value.length;
    else data[key] = value;
  }
  return data;
}
