/** Reads the five fields of a cron line. Pure; the times are `calendar.ts`'s matter. */
import { HoldfastError } from "../base/errors.js";

/** Sorted values of each field; undefined: any. Months and weekdays count from 0 (January, Sunday). */
export interface CronFields {
  readonly minute: number[];
  readonly hour: number[] | undefined;
  readonly date: number[] | undefined;
  readonly month: number[] | undefined;
  readonly weekday: number[] | undefined;
}

const NICKNAMES: Readonly<Record<string, string>> = {
  "@hourly": "0 * * * *",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@weekly": "0 0 * * 0",
  "@monthly": "0 0 1 * *",
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
};
const MONTH_NAMES = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAY_NAMES = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/** In a leap year. */
const MONTH_DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const;

interface FieldSpec {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly names: readonly string[];
  /** Number of the first name. */
  readonly namesFrom: number;
}

const FIELDS = [
  { name: "minute", from: 0, to: 59, names: [], namesFrom: 0 },
  { name: "hour", from: 0, to: 23, names: [], namesFrom: 0 },
  { name: "day", from: 1, to: 31, names: [], namesFrom: 0 },
  { name: "month", from: 1, to: 12, names: MONTH_NAMES, namesFrom: 1 },
  { name: "weekday", from: 0, to: 7, names: WEEKDAY_NAMES, namesFrom: 0 },
] as const satisfies readonly FieldSpec[];

/**
 * The alternatives of a line: a day of the month and a weekday together mean either, but both where one of them begins
 * with an asterisk, as crontab(5) has it: every second day and Monday are the odd Mondays. Throws CONFIG_INVALID for what
 * is no cron line and for one that never comes (30 February).
 */
export function parseCron(line: string): readonly CronFields[] {
  const parts = (NICKNAMES[line.trim()] ?? line).trim().split(/\s+/);
  if (parts.length !== FIELDS.length)
    throw invalid(`"${line}" is no cron line`, "Write minute, hour, day, month and weekday: `30 2 * * 1-5`.");
  const [minute, hour, date, monthFrom1, weekdayTo7] = FIELDS.map((spec, index) =>
    parseField(parts[index] ?? "", spec),
  );
  const month = monthFrom1?.map((value) => value - 1);
  const weekday = weekdayTo7 === undefined ? undefined : [...new Set(weekdayTo7.map((day) => day % 7))];
  // All 24 hours are "every hour": real hours then count, also the one that the autumn repeats.
  const base = { minute: minute ?? range(0, 59), hour: hour?.length === 24 ? undefined : hour, month };
  const isEither = [parts[2], parts[4]].every((part) => part !== undefined && !/^[*?]/.test(part));
  const alternatives = [];
  if (date === undefined || isPossible(date, month))
    alternatives.push({ ...base, date, weekday: isEither ? undefined : weekday });
  if (isEither) alternatives.push({ ...base, date: undefined, weekday });
  if (alternatives.length === 0)
    throw invalid(`"${line}" never comes: no such day in these months`, "Correct the day or the month.");
  return alternatives;
}

/** The values of a field, sorted; undefined for `*`. */
function parseField(text: string, spec: FieldSpec): number[] | undefined {
  if (text === "*" || text === "?") return undefined;
  const values = new Set<number>();
  for (const part of text.toLowerCase().split(",")) {
    const span = parseSpan(part, spec);
    if (span === undefined)
      throw invalid(`"${text}" is no ${spec.name} of a cron line`, `Use ${String(spec.from)} to ${String(spec.to)}.`);
    for (let value = span.first; value <= span.last; value += span.step) values.add(value);
  }
  return [...values].sort((a, b) => a - b);
}

interface Span {
  readonly first: number;
  readonly last: number;
  readonly step: number;
}

/** One of `5`, `1-5`, `1-9/2`, `5/10`, or an asterisk with a step. */
function parseSpan(part: string, spec: FieldSpec): Span | undefined {
  const match = /^(\*|[a-z\d]+)(?:-([a-z\d]+))?(?:\/(\d+))?$/.exec(part);
  if (match === null) return undefined;
  const [, firstText, lastText, stepText] = match;
  const first = firstText === "*" ? spec.from : parseValue(firstText, spec);
  const isOpen = lastText === undefined && (firstText === "*" || stepText !== undefined);
  const last = isOpen ? spec.to : parseValue(lastText ?? firstText, spec);
  const step = Number(stepText ?? 1);
  if (first === undefined || last === undefined || first > last || step < 1) return undefined;
  return { first, last, step };
}

function parseValue(text: string | undefined, spec: FieldSpec): number | undefined {
  const named = spec.names.indexOf(text ?? "");
  const value = named >= 0 ? named + spec.namesFrom : /^\d+$/.test(text ?? "") ? Number(text) : NaN;
  return value >= spec.from && value <= spec.to ? value : undefined;
}

function isPossible(dates: readonly number[], months: readonly number[] | undefined): boolean {
  return (months ?? range(0, 11)).some((month) => dates.some((date) => date <= (MONTH_DAYS[month] ?? 0)));
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

function invalid(message: string, hint: string): HoldfastError {
  return new HoldfastError("CONFIG_INVALID", message, { hint });
}
