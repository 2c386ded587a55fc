/** In what state a source is, and why its changes may be noticed late. */
import type { EventBus } from "../base/events.js";
import type { MonitorMetrics, SourceContext } from "./context.js";
import type { SourceStatus } from "./ports.js";

/** What is said of a source, the worst first. */
export function stateOf(
  context: SourceContext,
  facts: {
    readonly goneReason: string | undefined;
    readonly degraded: string | undefined;
    /** Until everything has been looked at once. */
    readonly isScanning: boolean;
  },
): Pick<SourceStatus, "state" | "reason"> {
  if (facts.goneReason !== undefined) return { state: "root_gone", reason: facts.goneReason };
  if (facts.degraded !== undefined) return { state: "degraded", reason: facts.degraded };
  if (facts.isScanning) return { state: "scanning", reason: "looking at everything for the first time" };
  const { pauses } = context.shared;
  const paused = context.source.roots
    .map((root) => pauses.covering(root.folder, context.nowMs()))
    .find((pause) => pause !== undefined);
  if (paused !== undefined) return { state: "paused", reason: paused.reason };
  return { state: "protected", reason: undefined };
}

export interface DegradationParts {
  readonly bus: EventBus;
  readonly metrics: Pick<MonitorMetrics, "degraded">;
  /** Of the source. */
  readonly name: string;
  /** Aborted when the source is no longer watched: nothing is told any more. */
  readonly signal: AbortSignal;
}

/** There may be several reasons at once, each with a key; each is told when it begins, and the end when none is left. */
export class Degradation {
  readonly #parts: DegradationParts;
  readonly #reasons = new Map<string, string>();

  constructor(parts: DegradationParts) {
    this.#parts = parts;
    this.#show();
  }

  /** The first of the reasons; undefined: everything is noticed in time. */
  get reason(): string | undefined {
    return this.#reasons.values().next().value;
  }

  /** Begins, changes or (undefined) ends the reason of a key. What is told is told again only when its kind changes. */
  set(key: string, reason: string | undefined): void {
    const { bus, name, signal } = this.#parts;
    const was = this.#reasons.get(key);
    if (signal.aborted || was === reason) return;
    if (reason === undefined) this.#reasons.delete(key);
    else this.#reasons.set(key, reason);
    this.#show();
    if (reason !== undefined && withoutNumbers(reason) !== withoutNumbers(was ?? ""))
      bus.emit("watch.degraded", { source: name, reason });
    else if (this.#reasons.size === 0) bus.emit("watch.restored", { source: name });
  }

  #show(): void {
    const { metrics, name } = this.#parts;
    metrics.degraded.set(this.#reasons.size > 0 ? 1 : 0, { source: name });
  }
}

/** A count in a reason may move with every look. */
function withoutNumbers(reason: string): string {
  return reason.replace(/\d+/g, "#");
}
