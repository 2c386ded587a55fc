/** In what state a source is, and why its changes may be noticed late. */
import type { SourceContext } from "./context.js";
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

/** Each reason has a key, and the first of them is shown. */
export class Degradation {
  readonly #context: SourceContext;
  readonly #reasons = new Map<string, string>();

  constructor(context: SourceContext) {
    this.#context = context;
  }

  /** Undefined: changes are noticed in time. */
  get reason(): string | undefined {
    const [first] = this.#reasons.values();
    return first;
  }

  /** Sets or (undefined) takes back the reason of a key; told when the first comes or the last goes. */
  set(key: string, reason: string | undefined): void {
    const { shared, name, signal } = this.#context;
    if (signal.aborted) return;
    const was = this.#reasons.size > 0;
    if (reason === undefined) this.#reasons.delete(key);
    else this.#reasons.set(key, reason);
    const is = this.#reasons.size > 0;
    if (was === is) return;
    shared.metrics.degraded.set(is ? 1 : 0, { source: name });
    if (is) shared.bus.emit("watch.degraded", { source: name, reason: reason ?? "" });
    else shared.bus.emit("watch.restored", { source: name });
  }
}
