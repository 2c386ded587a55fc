/**
 * What is worth telling: the alert conditions, how bad each is, whom to tell and what to try by itself. The defaults
 * are right without any configuration: everything goes to every channel.
 */
import { HoldfastError } from "../base/errors.js";
import type { Severity } from "./channel.js";

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

export interface ConditionTraits {
  readonly severity: Severity;
  /** What a rule's threshold counts. */
  readonly thresholdUnit: "files" | "failures" | "share" | "none";
  readonly threshold: number;
  /** How long to gather more of the same, and to see whether it ends by itself, before the first message. */
  readonly settleMs: number;
  /** At most one message about the same thing in this time while it lasts. */
  readonly repeatMs: number;
  /** True: it is over when it is told. False: it lasts until an event ends it, and that is told too. */
  readonly isMoment: boolean;
  /** True: after a start it is raised again if it still holds; if it is not, it has ended while holdfast was down. */
  readonly isRaisedAnew: boolean;
}

const lasting = {
  severity: "critical",
  thresholdUnit: "none",
  threshold: 1,
  isMoment: false,
  isRaisedAnew: false,
} as const;
const files = { ...lasting, thresholdUnit: "files" } as const;
const share = { ...lasting, thresholdUnit: "share", threshold: 0.9 } as const;

export const CONDITIONS = {
  // Most losses are healed within seconds and then told as file_recovered; only those that last are worth a message.
  file_lost: { ...files, severity: "warning", settleMs: 15 * SECOND_MS, repeatMs: 4 * HOUR_MS },
  file_recovered: { ...files, severity: "info", settleMs: 10 * SECOND_MS, repeatMs: 15 * MINUTE_MS, isMoment: true },
  recovery_failed: { ...files, severity: "critical", settleMs: 5 * SECOND_MS, repeatMs: 4 * HOUR_MS },
  incident_waiting: { ...files, severity: "critical", settleMs: 2 * SECOND_MS, repeatMs: 4 * HOUR_MS },
  backup_failed: { ...lasting, thresholdUnit: "failures", settleMs: 5 * SECOND_MS, repeatMs: 4 * HOUR_MS },
  backup_overdue: { ...lasting, settleMs: 5 * SECOND_MS, repeatMs: 12 * HOUR_MS, isRaisedAnew: true },
  storage_full: { ...share, settleMs: 5 * SECOND_MS, repeatMs: 4 * HOUR_MS, isRaisedAnew: true },
  integrity_check_failed: { ...lasting, settleMs: 5 * SECOND_MS, repeatMs: 12 * HOUR_MS },
  // The watcher heals itself by a rescan, as a rule within a minute.
  watch_degraded: {
    ...lasting,
    severity: "warning",
    settleMs: 2 * MINUTE_MS,
    repeatMs: 12 * HOUR_MS,
    isRaisedAnew: true,
  },
  expected_missing: {
    ...lasting,
    severity: "warning",
    settleMs: 5 * SECOND_MS,
    repeatMs: 12 * HOUR_MS,
    isRaisedAnew: true,
  },
} as const satisfies Record<string, ConditionTraits>;

export type Condition = keyof typeof CONDITIONS;

/** Most retries by themselves; beyond this a person is needed. */
export const AUTO_RETRY_TIMES_MAX = 20;

export interface AutoRetry {
  readonly times: number;
  /** Before the first retry; doubled before each further one. */
  readonly backoffMs: number;
}

/** A rule as configured; what is left out is the condition's default. */
export interface AlertRuleOptions {
  readonly when: string;
  readonly severity?: Severity;
  /** In the condition's unit: files, failures in a row, or a share between 0 and 1. */
  readonly threshold?: number;
  /** Names of channels; empty = only list it in `holdfast alerts`. */
  readonly actions?: readonly string[];
  readonly autoRetry?: AutoRetry;
  readonly autoCleanup?: boolean;
}

/** A rule in force. */
export interface AlertRule {
  readonly condition: Condition;
  readonly severity: Severity;
  readonly threshold: number;
  readonly actions: readonly string[];
  readonly autoRetry: AutoRetry | undefined;
  readonly autoCleanup: boolean;
}

export type AlertRules = ReadonlyMap<Condition, AlertRule>;

/** True for the name of a condition. */
export function isCondition(name: string): name is Condition {
  return Object.hasOwn(CONDITIONS, name);
}

/**
 * One rule for each condition. Throws CONFIG_INVALID for an unknown condition or channel, for a second rule of the same
 * condition, and for a threshold or retry out of range.
 */
export function resolveRules(configured: readonly AlertRuleOptions[], channels: readonly string[]): AlertRules {
  const rules = new Map<Condition, AlertRule>();
  for (const options of configured) {
    const { when } = options;
    if (!isCondition(when)) throw invalid(`there is no alert condition "${when}"`, `Use ${conditionNames()}.`);
    if (rules.has(when)) throw invalid(`the alert condition "${when}" has two rules`, "Join them into one.");
    rules.set(when, resolveRule(when, options, channels));
  }
  for (const condition of Object.keys(CONDITIONS)) {
    if (isCondition(condition) && !rules.has(condition))
      rules.set(condition, resolveRule(condition, { when: condition }, channels));
  }
  return rules;
}

function resolveRule(condition: Condition, options: AlertRuleOptions, channels: readonly string[]): AlertRule {
  const defaults = CONDITIONS[condition];
  const threshold = options.threshold ?? defaults.threshold;
  if (!(threshold > 0) || (defaults.thresholdUnit === "share" && threshold > 1))
    throw invalid(`the threshold ${String(threshold)} of "${condition}" is out of range`, "Use a number above 0.");
  const unknown = options.actions?.find((action) => !channels.includes(action));
  if (unknown !== undefined)
    throw invalid(
      `the rule for "${condition}" names the channel "${unknown}", which does not exist`,
      `Add it under alerts.channels, or use one of: ${channels.join(", ") || "(none)"}.`,
    );
  const { autoRetry } = options;
  if (
    autoRetry !== undefined &&
    !(autoRetry.times >= 0 && autoRetry.times <= AUTO_RETRY_TIMES_MAX && autoRetry.backoffMs > 0)
  )
    throw invalid(
      `auto_retry of "${condition}" is out of range`,
      `Use 0 to ${String(AUTO_RETRY_TIMES_MAX)} times and a backoff above 0.`,
    );
  return {
    condition,
    severity: options.severity ?? defaults.severity,
    threshold,
    actions: options.actions ?? channels,
    autoRetry,
    autoCleanup: options.autoCleanup ?? false,
  };
}

function conditionNames(): string {
  return Object.keys(CONDITIONS).join(", ");
}

function invalid(message: string, hint: string): HoldfastError {
  return new HoldfastError("CONFIG_INVALID", message, { hint });
}
