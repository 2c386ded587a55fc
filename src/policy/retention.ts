/**
 * GFS retention: which backups a policy keeps, and why. Pure: no clock, no I/O. Periods are UTC; the newest backup of a
 * period stands for it. Every source is looked at by itself, so that frequent backups of one source never push out the
 * rare ones of another.
 */
import type { BackupType } from "../base/ids.js";
import { oldBeforeMs } from "../engine/version-age.js";

export interface RetentionPolicy {
  /** So many newest backups of each source are kept. */
  readonly last: number;
  /** How many newest periods keep one backup each; 0 = that rule keeps nothing. */
  readonly hourly: number;
  readonly daily: number;
  readonly weekly: number;
  readonly monthly: number;
  readonly yearly: number;
  /** The newest ones of each source that are kept whatever the rules say; at least 1. */
  readonly minCopies: number;
  /** Everything younger than this is kept, ms, also by a clock that is ahead; 0 = no such rule. */
  readonly withinMs: number;
}

export const DEFAULT_RETENTION: RetentionPolicy = {
  last: 0,
  hourly: 24,
  daily: 7,
  weekly: 4,
  monthly: 12,
  yearly: 5,
  minCopies: 2,
  withinMs: 0,
};

/** The policy of a source; sources that are no longer protected have one too. */
export type PolicyOf = (source: string) => RetentionPolicy;

export interface BackupStamp {
  readonly id: string;
  /** Wall ms, UTC. */
  readonly timeMs: number;
  readonly type: BackupType;
  readonly sources: readonly string[];
  readonly pinned: boolean;
}

/** Backups by the rules that keep them, in the order of the rules. What is not in the map may go. */
export type KeptBackups = ReadonlyMap<string, readonly string[]>;

type PeriodRule = "hourly" | "daily" | "weekly" | "monthly" | "yearly";

const PERIODS: readonly (readonly [PeriodRule, (date: Date) => string])[] = [
  ["hourly", (date) => date.toISOString().slice(0, 13)],
  ["daily", (date) => date.toISOString().slice(0, 10)],
  ["weekly", isoWeek],
  ["monthly", (date) => date.toISOString().slice(0, 7)],
  ["yearly", (date) => date.toISOString().slice(0, 4)],
];

/**
 * Maps each kept backup to the rules that keep it; a backup of several sources stays while one of them needs it. Of
 * every source the newest, and the newest full one, are always kept: a wrong policy must not empty a repository.
 */
export function keptBackups(stamps: readonly BackupStamp[], policyOf: PolicyOf, nowMs: number): KeptBackups {
  const kept = new Map<string, Set<string>>();
  const keep = (stamp: BackupStamp | undefined, rule: string): void => {
    if (stamp !== undefined) kept.set(stamp.id, (kept.get(stamp.id) ?? new Set()).add(rule));
  };
  for (const stamp of stamps) {
    if (stamp.pinned) keep(stamp, "pinned");
    if (stamp.sources.length === 0) keep(stamp, "no_source"); // nothing says what it is for: not ours to remove
  }
  const inOrder = newestFirst(stamps).map(({ timeMs }, index) => ({ number: -index, timeMs }));
  for (const [source, ofSource] of bySource(stamps)) {
    const policy = policyOf(source);
    // The other rules count backups and periods that have some: these a wrong clock cannot make old.
    const withinFromMs = policy.withinMs > 0 ? oldBeforeMs(inOrder, nowMs, policy.withinMs) : Number.POSITIVE_INFINITY;
    for (const stamp of ofSource) if (stamp.timeMs > withinFromMs) keep(stamp, "within");
    keep(ofSource[0], "newest");
    keep(
      ofSource.find(({ type }) => type === "full"),
      "newest_full",
    );
    for (const stamp of ofSource.slice(0, policy.last)) keep(stamp, "last");
    for (const stamp of ofSource.slice(0, Math.max(1, policy.minCopies))) keep(stamp, "min_copies");
    for (const [rule, periodOf] of PERIODS) {
      for (const stamp of newestOfPeriods(ofSource, periodOf, policy[rule])) keep(stamp, rule);
    }
  }
  return new Map([...kept].map(([id, rules]) => [id, [...rules]]));
}

export interface RetentionLimits {
  readonly nowMs: number;
  /** Why nothing may be removed now (an open incident of mass loss), or undefined. */
  readonly frozenBecause: string | undefined;
  /** Share of all backups that one cleanup may remove, 0 to 1. */
  readonly shareMax: number;
}

/** A cleanup that removes more than this at once stops and asks. */
export const REMOVED_SHARE_MAX = 0.3;
/** So few may always go: in a small repository one backup is a large share. */
export const REMOVED_ALWAYS_MAX = 3;
/** Thinning what is younger than this is routine and not counted: of 24 hourly backups a day 23 go the next day. */
export const ROUTINE_AGE_MS = 72 * 3_600_000;

export interface RetentionPlan {
  readonly kept: KeptBackups;
  /** Oldest first. */
  readonly remove: readonly string[];
  /** Why the plan must not be carried out, or undefined. */
  readonly refusedBecause: string | undefined;
}

/** What a cleanup would do, with the brakes applied. */
export function planRetention(
  stamps: readonly BackupStamp[],
  policyOf: PolicyOf,
  limits: RetentionLimits,
): RetentionPlan {
  const kept = keptBackups(stamps, policyOf, limits.nowMs);
  const remove = newestFirst(stamps)
    .reverse()
    .filter(({ id }) => !kept.has(id))
    .map(({ id }) => id);
  return { kept, remove, refusedBecause: brake(stamps, remove, limits) };
}

function brake(stamps: readonly BackupStamp[], remove: readonly string[], limits: RetentionLimits): string | undefined {
  if (remove.length === 0) return undefined;
  if (limits.frozenBecause !== undefined) return `retention is frozen: ${limits.frozenBecause}`;
  const future = stamps.find(({ timeMs }) => timeMs > limits.nowMs + FUTURE_TOLERATED_MS);
  if (future !== undefined) return `the clock seems wrong: backup ${future.id} lies in the future`;
  const gone = new Set(remove);
  const old = stamps.filter(({ id, timeMs }) => gone.has(id) && limits.nowMs - timeMs > ROUTINE_AGE_MS).length;
  if (old > REMOVED_ALWAYS_MAX && old > stamps.length * limits.shareMax) {
    const percent = Math.round((100 * old) / stamps.length);
    return `it would remove ${String(old)} older backups of ${String(stamps.length)} (${String(percent)} %) at once`;
  }
  return undefined;
}

/** Clocks of machines differ; a backup further ahead than this means that a clock is wrong. */
const FUTURE_TOLERATED_MS = 24 * 3_600_000;

function newestOfPeriods(
  stamps: readonly BackupStamp[],
  periodOf: (date: Date) => string,
  count: number,
): readonly BackupStamp[] {
  const newest = new Map<string, BackupStamp>();
  for (const stamp of stamps) {
    if (newest.size >= count) break;
    const period = periodOf(new Date(stamp.timeMs));
    if (!newest.has(period)) newest.set(period, stamp);
  }
  return [...newest.values()];
}

/** Newest first. */
function bySource(stamps: readonly BackupStamp[]): ReadonlyMap<string, readonly BackupStamp[]> {
  const groups = new Map<string, BackupStamp[]>();
  for (const stamp of newestFirst(stamps)) {
    for (const source of new Set(stamp.sources)) {
      const group = groups.get(source);
      if (group === undefined) groups.set(source, [stamp]);
      else group.push(stamp);
    }
  }
  return groups;
}

function newestFirst(stamps: readonly BackupStamp[]): BackupStamp[] {
  return [...stamps].sort((a, b) => b.timeMs - a.timeMs || (a.id < b.id ? 1 : -1));
}

/** `2026-W01`: weeks begin on Monday; the week with the year's first Thursday is its first. */
function isoWeek(date: Date): string {
  const thursday = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()));
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7));
  const yearStartMs = Date.UTC(thursday.getUTCFullYear(), 0, 1);
  const week = Math.ceil(((thursday.getTime() - yearStartMs) / 86_400_000 + 1) / 7);
  return `${String(thursday.getUTCFullYear())}-W${String(week).padStart(2, "0")}`;
}
