/** Times as people write them on a command line, and as they like to read them. */
import { HoldfastError } from "../base/errors.js";
import { formatDuration, parseDurationMs } from "../base/units.js";

/** `2026-01-31T12:00:00Z`, `2026-01-31 12:00` (local), `10m ago`, `2h`, `yesterday 14:00`, `today`, `now` to ISO. Throws USAGE. */
export function parseTime(text: string, nowMs: number): string {
  const timeMs = relativeMs(text.trim(), nowMs) ?? dayMs(text.trim(), nowMs) ?? isoMs(text.trim());
  if (timeMs === undefined) {
    throw new HoldfastError("USAGE", `"${text}" is no time`, {
      hint: 'Write 2026-01-31T12:00:00Z, "10m ago", 2h or "yesterday 14:00".',
    });
  }
  return new Date(timeMs).toISOString();
}

function relativeMs(text: string, nowMs: number): number | undefined {
  if (text === "now") return nowMs;
  const amount = text.replace(/\s+ago$/, "").replace(/\s+/g, "");
  return /^(\d+(\.\d+)?(ms|s|m|h|d|w))+$/.test(amount) ? nowMs - parseDurationMs(amount) : undefined;
}

function dayMs(text: string, nowMs: number): number | undefined {
  const match = /^(?:(today|yesterday)(?:\s+|$))?(?:([01]?\d|2[0-3]):([0-5]\d))?$/.exec(text);
  if (match === null || text === "") return undefined;
  const day = new Date(nowMs);
  if (match[1] === "yesterday") day.setDate(day.getDate() - 1);
  day.setHours(Number(match[2] ?? 0), Number(match[3] ?? 0), 0, 0);
  return day.getTime();
}

function isoMs(text: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}/.test(text)) return undefined;
  const timeMs = Date.parse(text);
  return Number.isNaN(timeMs) ? undefined : timeMs;
}

/** `2 m ago`, or `never`. */
export function ageText(iso: string | null, nowMs: number): string {
  if (iso === null) return "never";
  const ageMs = nowMs - Date.parse(iso);
  return ageMs < 1000 ? "just now" : `${formatDuration(ageMs)} ago`;
}

/** `in 2 h 5 m`, `now`, or `-`. */
export function dueText(iso: string | null, nowMs: number): string {
  if (iso === null) return "-";
  const waitMs = Date.parse(iso) - nowMs;
  return waitMs <= 0 ? "now" : `in ${formatDuration(waitMs)}`;
}

/** `2026-01-15 12:00:00Z`: sorts, and says that it is UTC. */
export function timeText(iso: string): string {
  return iso.replace("T", " ").replace(/\.\d+Z$/, "Z");
}
