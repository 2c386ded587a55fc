/**
 * When a schedule is due: hourly, daily, weekly, monthly or a cron line, in a time zone. The recurrence is
 * node-schedule's; what it gets wrong at a change of summer time is put right here: a time that the spring skips is
 * taken right after the gap, a time that the autumn repeats is taken once. Rules for every hour follow real hours.
 * Pure: no clock.
 */
import schedule from "node-schedule";
import { HoldfastError } from "../base/errors.js";
import { type CronFields, parseCron } from "./cron.js";

export const WEEKDAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"] as const;
export type Weekday = (typeof WEEKDAYS)[number];

/** `time` is `HH:MM`; `day` of a month above its end means its last day. */
export type When =
  | { readonly kind: "hourly"; readonly minute?: number }
  | { readonly kind: "daily"; readonly time: string }
  | { readonly kind: "weekly"; readonly day: Weekday; readonly time: string }
  | { readonly kind: "monthly"; readonly day: number; readonly time: string }
  | { readonly kind: "cron"; readonly line: string };

/** A recurrence in a time zone. */
export interface Recurrence {
  /** For people: `daily at 02:00 (Europe/Berlin)`. */
  readonly text: string;
  /** The first time after `afterMs`, wall ms. */
  nextAfter(afterMs: number): number;
}

interface Fields extends CronFields {
  /** Keeps only the first of the dates that a month has (for "the 31st, or the last day"). */
  readonly monthDay: number | undefined;
}

/** Longest distance between two times of any rule: 29 February around the year 2100. */
const SEARCH_STEPS_MAX = 400;

/** Checks a schedule; throws CONFIG_INVALID for a wrong time, day, zone or cron line, or one that never comes. */
export function recurrence(when: When, timeZone: string): Recurrence {
  const zone = openZone(timeZone);
  const alternatives = fieldsOf(when);
  const rules = alternatives.map((fields) => ruleOf(fields, fields.hour === undefined ? timeZone : "UTC"));
  return {
    text: `${describe(when)} (${timeZone})`,
    nextAfter: (afterMs) =>
      Math.min(
        ...alternatives.map((fields, index) => nextOf(fields, rules[index] ?? ruleOf(fields, timeZone), zone, afterMs)),
      ),
  };
}

function nextOf(fields: Fields, rule: schedule.RecurrenceRule, zone: Zone, afterMs: number): number {
  if (fields.hour === undefined) return rule.nextInvocationDate(new Date(afterMs)).getTime();
  // Fixed hours are found on the wall's clock as if it never jumped ("floating"), then turned into real time.
  let floatingMs = zone.floating(afterMs) - 3 * 3_600_000;
  for (let step = 0; step < SEARCH_STEPS_MAX; step += 1) {
    floatingMs = rule.nextInvocationDate(new Date(floatingMs)).getTime();
    if (!isWantedDay(fields, floatingMs)) continue;
    const realMs = zone.real(floatingMs);
    if (realMs > afterMs) return realMs;
  }
  throw new HoldfastError("INTERNAL", "a schedule has no next time");
}

/** Of the 28th to 31st only the wanted day, or the month's last one if it is shorter. */
function isWantedDay(fields: Fields, floatingMs: number): boolean {
  if (fields.monthDay === undefined) return true;
  const date = new Date(floatingMs);
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  return date.getUTCDate() === Math.min(fields.monthDay, lastDay);
}

function ruleOf(fields: Fields, timeZone: string): schedule.RecurrenceRule {
  const rule = new schedule.RecurrenceRule();
  rule.second = 0;
  rule.minute = fields.minute;
  if (fields.hour !== undefined) rule.hour = fields.hour;
  if (fields.date !== undefined) rule.date = fields.date;
  if (fields.month !== undefined) rule.month = fields.month;
  if (fields.weekday !== undefined) rule.dayOfWeek = fields.weekday;
  rule.tz = timeZone;
  return rule;
}

function fieldsOf(when: When): readonly Fields[] {
  const every = { hour: undefined, date: undefined, month: undefined, weekday: undefined, monthDay: undefined };
  switch (when.kind) {
    case "hourly": {
      const minute = when.minute ?? 0;
      if (!Number.isInteger(minute) || minute < 0 || minute > 59)
        throw invalid(`${String(minute)} is no minute of an hour`, "Use 0 to 59.");
      return [{ ...every, minute: [minute] }];
    }
    case "daily":
      return [{ ...every, ...parseTime(when.time) }];
    case "weekly":
      return [{ ...every, ...parseTime(when.time), weekday: [weekdayNumber(when.day)] }];
    case "monthly": {
      const { day } = when;
      if (!Number.isInteger(day) || day < 1 || day > 31)
        throw invalid(
          `${String(day)} is no day of a month`,
          "Use 1 to 31; beyond a month's end its last day is meant.",
        );
      const time = { ...every, ...parseTime(when.time) };
      return day <= 28 ? [{ ...time, date: [day] }] : [{ ...time, date: [28, 29, 30, 31], monthDay: day }];
    }
    case "cron":
      return parseCron(when.line).map((fields) => ({ ...fields, monthDay: undefined }));
  }
}

function weekdayNumber(day: string): number {
  const number = (WEEKDAYS as readonly string[]).indexOf(day);
  if (number < 0) throw invalid(`"${day}" is no day of the week`, `Use ${WEEKDAYS.join(", ")}.`);
  return number;
}

function parseTime(text: string): { readonly hour: number[]; readonly minute: number[] } {
  const match = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(text);
  if (match === null) throw invalid(`"${text}" is no time of day`, 'Write it as "02:00", in quotes.');
  return { hour: [Number(match[1])], minute: [Number(match[2])] };
}

function describe(when: When): string {
  switch (when.kind) {
    case "hourly":
      return `hourly at minute ${String(when.minute ?? 0)}`;
    case "daily":
      return `daily at ${when.time}`;
    case "weekly":
      return `weekly on ${when.day} at ${when.time}`;
    case "monthly":
      return `monthly on day ${String(when.day)} at ${when.time}`;
    case "cron":
      return `cron ${when.line}`;
  }
}

interface Zone {
  /** What the wall shows at a real time, as if it were UTC. */
  floating(realMs: number): number;
  /** The real time at which the wall shows this: the first one if there are two, the end of the gap if there is none. */
  real(floatingMs: number): number;
}

function openZone(timeZone: string): Zone {
  const format = openFormat(timeZone);
  const floating = (realMs: number): number => {
    const parts = new Map(format.formatToParts(realMs).map(({ type, value }) => [type, Number(value)]));
    const part = (type: Intl.DateTimeFormatPartTypes): number => parts.get(type) ?? 0;
    return (
      Date.UTC(part("year"), part("month") - 1, part("day"), part("hour"), part("minute"), part("second")) +
      (((realMs % 1000) + 1000) % 1000)
    );
  };
  const real = (floatingMs: number): number => {
    const dayMs = 86_400_000;
    const before = floatingMs - (floating(floatingMs - dayMs) - (floatingMs - dayMs));
    const after = floatingMs - (floating(floatingMs + dayMs) - (floatingMs + dayMs));
    const fitting = [before, after].filter((candidate) => floating(candidate) === floatingMs);
    // No fit: the wall skips this time; by the offset before the gap it lies as far behind the gap's end.
    return fitting.length === 0
      ? gapEnd(floating, Math.min(before, after), Math.max(before, after))
      : Math.min(...fitting);
  };
  return { floating, real };
}

/** The moment of the jump between two real times, to the second. */
function gapEnd(floating: (realMs: number) => number, fromMs: number, toMs: number): number {
  const offsetBefore = floating(fromMs) - fromMs;
  let low = fromMs;
  let high = toMs;
  while (high - low > 1000) {
    const middle = Math.floor((low + high) / 2000) * 1000;
    if (middle <= low) break;
    if (floating(middle) - middle === offsetBefore) low = middle;
    else high = middle;
  }
  return high;
}

function openFormat(timeZone: string): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat("en-US", {
      timeZone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
  } catch (error) {
    throw new HoldfastError("CONFIG_INVALID", `"${timeZone}" is no time zone`, {
      hint: "Use a name such as Europe/Berlin or UTC.",
      cause: error,
    });
  }
}

function invalid(message: string, hint: string): HoldfastError {
  return new HoldfastError("CONFIG_INVALID", message, { hint });
}
