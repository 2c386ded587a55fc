/**
 * What a rule does by itself: `auto_retry` starts the failed thing again a few times with growing waits, `auto_cleanup`
 * asks retention to make room. The doing is behind ports; a failure here is logged and changes nothing about the alert.
 */
import type { Clock, Timer } from "../base/clock.js";
import { formatDuration } from "../base/units.js";
import type { Logger } from "../base/observe.js";
import type { AlertRule, Condition } from "./rules.js";

/** At most one cleanup by itself in this time. */
export const CLEANUP_EVERY_MS = 3_600_000;
/** Longest wait before a retry. */
export const RETRY_WAIT_MAX_MS = 6 * 3_600_000;

export interface AutoPorts {
  /**
   * Starts again what failed: a backup (`backup_failed`, `backup_overdue`), a recovery (`recovery_failed`), a check.
   * `cause` is the incident id or "". Resolves when it is started; whether it works is told by an event.
   */
  retry(condition: Condition, source: string, cause: string): Promise<void>;
  /** Removes what retention does not keep. */
  cleanup(): Promise<void>;
}

interface Retrying {
  done: number;
  timer: Timer | undefined;
}

export class AutoActions implements Disposable {
  readonly #ports: AutoPorts;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #retrying = new Map<string, Retrying>();
  #cleanedUpMs: number | undefined;

  constructor(ports: AutoPorts, clock: Clock, log: Logger) {
    this.#ports = ports;
    this.#clock = clock;
    this.#log = log;
  }

  /** To be called when a condition is raised; gives a sentence for the message, or "". */
  onRaised(rule: AlertRule, source: string, cause: string): string {
    if (rule.autoCleanup) this.#cleanup();
    if (rule.autoRetry === undefined || rule.autoRetry.times === 0) return "";
    const key = `${rule.condition}\0${source}\0${cause}`;
    const state = this.#retrying.get(key) ?? { done: 0, timer: undefined };
    this.#retrying.set(key, state);
    const { times, backoffMs } = rule.autoRetry;
    if (state.done >= times) return `It was tried again ${String(times)} times without success.`;
    if (state.timer !== undefined) return "";
    const waitMs = Math.min(backoffMs * 2 ** state.done, RETRY_WAIT_MAX_MS);
    state.done += 1;
    state.timer = this.#clock.after(waitMs, () => {
      state.timer = undefined;
      this.#start("retry", { condition: rule.condition, source }, () =>
        this.#ports.retry(rule.condition, source, cause),
      );
    });
    return `It tries again in ${formatDuration(waitMs)} (${String(state.done)} of ${String(times)}).`;
  }

  /** To be called when a condition has ended: the next failure starts to count anew. */
  onCleared(condition: Condition, source: string, cause: string): void {
    const key = `${condition}\0${source}\0${cause}`;
    this.#retrying.get(key)?.timer?.cancel();
    this.#retrying.delete(key);
  }

  [Symbol.dispose](): void {
    for (const { timer } of this.#retrying.values()) timer?.cancel();
    this.#retrying.clear();
  }

  #cleanup(): void {
    const now = this.#clock.monotonicMs();
    if (this.#cleanedUpMs !== undefined && now - this.#cleanedUpMs < CLEANUP_EVERY_MS) return;
    this.#cleanedUpMs = now;
    this.#start("cleanup", {}, () => this.#ports.cleanup());
  }

  #start(action: string, fields: Readonly<Record<string, string>>, work: () => Promise<void>): void {
    this.#log.info(`alert.auto_${action}`, fields);
    work().catch((error: unknown) => this.#log.error(`alert.auto_${action}_failed`, { ...fields, error }));
  }
}
