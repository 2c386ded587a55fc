/**
 * What is remembered of one alert (one condition of one source) between its first sign and its end, and how it changes.
 * Pure: times come in, records are plain data that live in the state database between starts.
 */
import { createHash } from "node:crypto";
import { type Severity, SEVERITIES } from "./channel.js";
import { type AlertRule, CONDITIONS, type Condition, isCondition } from "./rules.js";
import type { Raise } from "./signals.js";
import { plainText } from "./text.js";

/** Most incidents that are followed one by one; with more, the alert ends when the followed ones have ended. */
export const CAUSES_MAX = 1000;
export const SAMPLES_MAX = 5;
/** Facts of the last occurrence that are kept. */
const FACTS_MAX = 10;

export interface AlertRecord {
  /** Such as `alert_3f2a9c01d4`; new for each time the condition begins. */
  readonly id: string;
  readonly condition: Condition;
  readonly source: string;
  severity: Severity;
  sinceMs: number;
  lastMs: number;
  /** Times it was raised since it began. */
  count: number;
  /** Files concerned, summed. */
  files: number;
  /** Counted in the rule's unit against its threshold. */
  measure: number;
  /** Raised or ended, and not told yet, since then; null when everything is told. */
  untoldSinceMs: number | null;
  causes: string[];
  samples: string[];
  facts: (readonly [label: string, value: string])[];
  /** The last message was handed to the outbox then. */
  toldMs: number | null;
  resolvedMs: number | null;
  acknowledgedMs: number | null;
  /** Last outcome by channel. */
  deliveries: Record<string, string>;
}

/** The name under which a condition of a source is remembered; one alert at a time has it. */
export function recordKey(condition: Condition, source: string): string {
  return createHash("sha256").update(`${condition}\0${source}`).digest("hex").slice(0, 24);
}

/** A record that begins now; `raiseRecord` adds what happened. */
export function newRecord(condition: Condition, source: string, rule: AlertRule, nowMs: number): AlertRecord {
  const key = createHash("sha256")
    .update(`${condition}\0${source}\0${String(nowMs)}`)
    .digest("hex");
  return {
    id: `alert_${key.slice(0, 10)}`,
    condition,
    source,
    severity: rule.severity,
    sinceMs: nowMs,
    lastMs: nowMs,
    count: 0,
    files: 0,
    measure: 0,
    untoldSinceMs: null,
    causes: [],
    samples: [],
    facts: [],
    toldMs: null,
    resolvedMs: null,
    acknowledgedMs: null,
    deliveries: {},
  };
}

/** Notes one more occurrence. */
export function raiseRecord(record: AlertRecord, signal: Raise, nowMs: number): void {
  record.lastMs = nowMs;
  record.count += 1;
  record.files += signal.files;
  const unit = CONDITIONS[record.condition].thresholdUnit;
  if (signal.isUrgent === true) record.measure = Number.MAX_SAFE_INTEGER;
  else if (unit === "share") record.measure = signal.share ?? 1;
  else record.measure = Math.min(Number.MAX_SAFE_INTEGER, record.measure + (unit === "files" ? signal.files : 1));
  record.untoldSinceMs ??= nowMs;
  if (!record.causes.includes(signal.cause) && record.causes.length < CAUSES_MAX) record.causes.push(signal.cause);
  record.facts = signal.facts.slice(0, FACTS_MAX).map(([label, value]) => [label, plainText(value)]);
}

/** Notes that one cause has ended; true when none is left. */
export function clearRecord(record: AlertRecord, cause: string): boolean {
  record.causes = record.causes.filter((known) => known !== cause);
  return record.causes.length === 0;
}

/**
 * When the record's next message is due (wall ms), or undefined when there is nothing to tell: below the threshold,
 * told already, or acknowledged by a person who knows.
 */
export function nextMessageMs(record: AlertRecord, rule: AlertRule): number | undefined {
  if (record.untoldSinceMs === null) return undefined;
  const { settleMs, repeatMs } = CONDITIONS[record.condition];
  const settled = record.untoldSinceMs + settleMs;
  // An end that nobody waits for is dropped at once; one that may not last is watched for a moment.
  if (record.resolvedMs !== null) return record.toldMs === null ? record.untoldSinceMs : settled;
  if (record.acknowledgedMs !== null || record.measure < rule.threshold) return undefined;
  return record.toldMs === null ? settled : Math.max(settled, record.toldMs + repeatMs);
}

/** A record out of what was stored, or undefined when it cannot be one (a newer version wrote it, or it is damaged). */
export function parseRecord(text: string): AlertRecord | undefined {
  const value = parseObject(text);
  if (value === undefined) return undefined;
  const { id, condition, source, severity } = value;
  if (typeof id !== "string" || typeof source !== "string") return undefined;
  if (typeof condition !== "string" || !isCondition(condition)) return undefined;
  const known = SEVERITIES.find((name) => name === severity);
  if (known === undefined) return undefined;
  return {
    id,
    condition,
    source,
    severity: known,
    sinceMs: numberOr(value["sinceMs"], 0),
    lastMs: numberOr(value["lastMs"], 0),
    count: numberOr(value["count"], 1),
    files: numberOr(value["files"], 0),
    measure: numberOr(value["measure"], 1),
    untoldSinceMs: numberOr(value["untoldSinceMs"], null),
    causes: strings(value["causes"]),
    samples: strings(value["samples"]),
    facts: pairs(value["facts"]),
    toldMs: numberOr(value["toldMs"], null),
    resolvedMs: numberOr(value["resolvedMs"], null),
    acknowledgedMs: numberOr(value["acknowledgedMs"], null),
    deliveries: Object.fromEntries(pairs(Object.entries(parseInner(value["deliveries"])))),
  };
}

/** The object that a JSON text holds, or undefined. */
export function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The [string, string] items of a list; others are left out. */
export function pairs(value: unknown): (readonly [string, string])[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((item: unknown) =>
    Array.isArray(item) && typeof item[0] === "string" && typeof item[1] === "string" ? [[item[0], item[1]]] : [],
  );
}

/** The strings of a list; others are left out. */
export function strings(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : [];
}

/** A finite number, or what to take instead. */
export function numberOr<T>(value: unknown, instead: T): number | T {
  return typeof value === "number" && Number.isFinite(value) ? value : instead;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseInner(value: unknown): Record<string, unknown> {
  return isObject(value) ? value : {};
}
