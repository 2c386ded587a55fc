/** Durations, sizes and shares as people write them (`15m`, `2GiB`, `5%`), and back. */
import { HoldfastError } from "./errors.js";

const DURATION_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const SIZE_BYTES: ReadonlyMap<string, number> = new Map([
  ["", 1],
  ["B", 1],
  ["kB", 1e3],
  ["KB", 1e3],
  ["MB", 1e6],
  ["GB", 1e9],
  ["TB", 1e12],
  ["KiB", 2 ** 10],
  ["MiB", 2 ** 20],
  ["GiB", 2 ** 30],
  ["TiB", 2 ** 40],
]);

/** `15m`, `1h30m`, `250ms` to milliseconds; throws USAGE on anything else. */
export function parseDurationMs(text: string): number {
  const whole = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+$/;
  if (!whole.test(text))
    throw new HoldfastError("USAGE", `"${text}" is no duration`, { hint: "Write 500ms, 30s, 15m, 6h, 7d or 2w." });
  let totalMs = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d|w)/g)) {
    totalMs += Number(amount) * (DURATION_MS[unit ?? ""] ?? 0);
  }
  return totalMs;
}

/** `1 file`, `2 files`. */
export function counted(count: number, noun: string): string {
  return `${String(count)} ${noun}${count === 1 ? "" : "s"}`;
}

/** Milliseconds to the shortest readable form: `3 ms`, `1.2 s`, `4 m 10 s`, `2 h 5 m`, `3 d 4 h`. */
export function formatDuration(ms: number): string {
  if (Math.round(ms) < 1000) return `${String(Math.round(ms))} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000); // rounded before it is divided, so that no "60 s" is left over
  if (seconds < 60) return `${String(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${String(minutes)} m ${String(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${String(hours)} h ${String(minutes % 60)} m`;
  return `${String(Math.floor(hours / 24))} d ${String(hours % 24)} h`;
}

/** `2GiB`, `500MB`, `4096` to bytes; throws USAGE on anything else. */
export function parseSizeBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text);
  const unit = SIZE_BYTES.get(match?.[2] ?? "?");
  if (match?.[1] === undefined || unit === undefined) {
    throw new HoldfastError("USAGE", `"${text}" is no size`, { hint: "Write 4096, 512KiB, 20MiB or 2GiB." });
  }
  return Math.round(Number(match[1]) * unit);
}

/** Bytes to a readable form in binary units: `0 B`, `3.1 MiB`. */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let amount = bytes;
  let index = 0;
  while (Number(amount.toFixed(1)) >= 1024 && index < units.length - 1) {
    amount /= 1024;
    index += 1;
  }
  return `${index === 0 ? String(amount) : amount.toFixed(1)} ${units[index] ?? ""}`;
}

/** `5%` or `0.05` to a share between 0 and 1; throws USAGE on anything else. */
export function parseShare(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(%?)$/.exec(text);
  const share = match === null ? NaN : Number(match[1]) / (match[2] === "%" ? 100 : 1);
  if (!(share >= 0 && share <= 1))
    throw new HoldfastError("USAGE", `"${text}" is no share`, { hint: "Write 5% or 0.05." });
  return share;
}
