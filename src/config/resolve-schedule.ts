/** Resolves `schedule`, `backup_frequency` and cron lines to times. */
import { parseDurationMs } from "../base/units.js";
import { type ScheduleConfiguration, type SourceConfiguration, WEEKDAYS, type When } from "./configuration.js";
import type { Fault } from "./problems.js";
import type { ConfigFile } from "./schema.js";

type WrittenSchedule = NonNullable<ConfigFile["schedule"]>;

/** What holdfast plans by itself under names of its own. */
const OWN_NAMES: readonly string[] = ["cleanup", "store-check"];

/** Every schedule that is enabled. Without any, an incremental backup every `defaults.every` (6 h). */
export function resolveSchedules(file: ConfigFile, fault: Fault): ScheduleConfiguration[] {
  const written = file.schedule ?? {};
  const regular = [...namedSchedules(written), ...cronSchedules(written, fault)];
  const every = file.defaults?.every ?? (regular.length === 0 ? "6h" : undefined);
  if (every !== undefined) regular.unshift(everySchedule(every, fault));
  return regular;
}

/** Of two schedules with one name only the last would run. */
export function checkScheduleNames(file: ConfigFile, schedules: readonly ScheduleConfiguration[], fault: Fault): void {
  for (const [index, { name, enabled }] of (file.schedule?.cron ?? []).entries()) {
    const isOwn = OWN_NAMES.includes(name);
    const isTwice = enabled !== false && schedules.filter((other) => other.name === name).length > 1;
    if (!isOwn && !isTwice) continue;
    const message = isOwn ? `holdfast plans "${name}" by itself` : `two schedules are named "${name}"`;
    fault(["schedule", "cron", index, "name"], message, "choose another name");
  }
}

/** A schedule for each source whose `backup_frequency` asks for more than the on-change stream. */
export function frequencySchedules(sources: readonly SourceConfiguration[]): ScheduleConfiguration[] {
  return sources.flatMap((source) =>
    source.frequency === undefined
      ? []
      : [{ name: `source-${source.name}`, type: "incremental", when: source.frequency, sources: [source.name] }],
  );
}

/** When a `backup_frequency` is due; undefined for `on_change`. */
export function resolveFrequency(text: string, fault: Fault): When | undefined {
  switch (text) {
    case "on_change":
      return undefined;
    case "hourly":
      return { kind: "hourly", minute: 0 };
    case "daily":
      return { kind: "daily", hour: 2, minute: 0 };
    case "weekly":
      return { kind: "weekly", day: 0, hour: 3, minute: 0 };
    case "monthly":
      return { kind: "monthly", date: 1, hour: 4, minute: 0 };
    default:
      if (!isCronLine(text)) {
        const hint = "write on_change, hourly, daily, weekly, monthly or a cron line of five fields";
        fault(["backup_frequency"], `"${text.slice(0, 60)}" is no frequency`, hint);
      } else if (neverComes(text)) fault(["backup_frequency"], NEVER, "correct the day or the month");
      return { kind: "cron", line: text };
  }
}

function everySchedule(every: string, fault: Fault): ScheduleConfiguration {
  const everyMs = parseDurationMs(every);
  if (everyMs < 60_000) fault(["defaults", "every"], `"${every}" is too often`, "at least 1m");
  return { name: "every", type: "incremental", when: { kind: "every", everyMs }, sources: [] };
}

function namedSchedules(written: WrittenSchedule): ScheduleConfiguration[] {
  const { hourly, daily, weekly, monthly, before_deployment: before } = written;
  return [
    ...scheduleOf("hourly", hourly, "incremental", (entry) => ({ kind: "hourly", minute: entry.minute ?? 0 })),
    ...scheduleOf("daily", daily, "full", (entry) => ({ kind: "daily", ...clock(entry.time ?? "02:00") })),
    ...scheduleOf("weekly", weekly, "full", (entry) => {
      return { kind: "weekly", day: WEEKDAYS.indexOf(entry.day ?? "sunday"), ...clock(entry.time ?? "03:00") };
    }),
    ...scheduleOf("monthly", monthly, "full", (entry) => {
      return { kind: "monthly", date: entry.day ?? 1, ...clock(entry.time ?? "04:00") };
    }),
    ...scheduleOf("before_deployment", before, "snapshot", () => ({ kind: "manual" })),
  ];
}

interface WrittenEntry {
  readonly enabled?: boolean;
  readonly type?: ScheduleConfiguration["type"];
  readonly sources?: readonly string[];
}

function scheduleOf<E extends WrittenEntry>(
  name: string,
  entry: E | undefined,
  type: ScheduleConfiguration["type"],
  when: (entry: E) => When,
): ScheduleConfiguration[] {
  if (entry === undefined || entry.enabled === false) return [];
  return [{ name, when: when(entry), ...common(entry, type) }];
}

function cronSchedules(written: WrittenSchedule, fault: Fault): ScheduleConfiguration[] {
  const found: ScheduleConfiguration[] = [];
  for (const [index, entry] of (written.cron ?? []).entries()) {
    const path = ["schedule", "cron", index];
    if (!isCronLine(entry.line)) {
      const hint = "five fields: minute, hour, day of month, month, day of week";
      fault([...path, "line"], `"${entry.line.slice(0, 60)}" is no cron line`, hint);
    } else if (neverComes(entry.line)) fault([...path, "line"], NEVER, "correct the day or the month");
    if (entry.enabled === false) continue;
    found.push({ name: entry.name, when: { kind: "cron", line: entry.line }, ...common(entry, "incremental") });
  }
  return found;
}

function common(
  entry: WrittenEntry,
  type: ScheduleConfiguration["type"],
): Pick<ScheduleConfiguration, "type" | "sources"> {
  return { type: entry.type ?? type, sources: entry.sources ?? [] };
}

function clock(text: string): { readonly hour: number; readonly minute: number } {
  const [hour, minute] = text.split(":").map(Number);
  return { hour: hour ?? 0, minute: minute ?? 0 };
}

const CRON_FIELDS = [
  { least: 0, most: 59, names: [] },
  { least: 0, most: 23, names: [] },
  { least: 1, most: 31, names: [] },
  { least: 1, most: 12, names: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"] },
  { least: 0, most: 7, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
] as const;

/** True for five fields of numbers, ranges, lists and steps in range. */
export function isCronLine(text: string): boolean {
  const fields = text.trim().split(/\s+/);
  if (fields.length !== CRON_FIELDS.length) return false;
  return CRON_FIELDS.every((rules, index) => (fields[index] ?? "").split(",").every((part) => isCronPart(part, rules)));
}

const NEVER = "this never comes: no such day in these months";
/** In a leap year. */
const MONTH_DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const;

/** True for a cron line of days that its months do not have, and of no weekday. */
function neverComes(line: string): boolean {
  const [, , days = "*", months = "*", weekday] = line.trim().split(/\s+/);
  if (weekday !== "*") return false;
  const daysMost = MONTH_DAYS.filter((_, index) =>
    months.split(",").some((part) => holds(part, index + 1, CRON_FIELDS[3])),
  );
  return !days.split(",").some((part) => daysMost.some((most) => firstOf(part, CRON_FIELDS[2]) <= most));
}

/** Whether a part of a field has a value. */
function holds(part: string, value: number, rules: (typeof CRON_FIELDS)[number]): boolean {
  const [range = "", step] = part.split("/");
  const [first = "", last] = range.split("-");
  const from = firstOf(part, rules);
  const isOpen = first === "*" || (last === undefined && step !== undefined);
  const to = isOpen ? rules.most : cronNumber(last ?? first, rules);
  return value >= from && value <= to && (value - from) % Number(step ?? 1) === 0;
}

/** The lowest value of a part of a field. */
function firstOf(part: string, rules: (typeof CRON_FIELDS)[number]): number {
  const [first = ""] = part.split(/[-/]/);
  return first === "*" ? rules.least : cronNumber(first, rules);
}

function isCronPart(part: string, rules: (typeof CRON_FIELDS)[number]): boolean {
  const match = /^(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:\/(\d+))?$/i.exec(part);
  if (match === null) return false;
  const [, first, last, step] = match;
  if (step !== undefined && Number(step) < 1) return false;
  if (first === "*") return last === undefined;
  const from = cronNumber(first ?? "", rules);
  const to = last === undefined ? from : cronNumber(last, rules);
  return from >= rules.least && to <= rules.most && from <= to;
}

function cronNumber(text: string, rules: (typeof CRON_FIELDS)[number]): number {
  const names: readonly string[] = rules.names;
  const index = names.indexOf(text.toLowerCase());
  return index < 0 ? Number(/^\d+$/.test(text) ? text : NaN) : index + rules.least;
}
