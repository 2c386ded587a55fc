/** The filters and orders of the list of backups, as the command line and the API write them. */
import { HoldfastError } from "../base/errors.js";
import { BACKUP_TYPES, type BackupType } from "../base/ids.js";
import { pathFromText } from "../base/paths.js";
import type { Manifest } from "../engine/types.js";
import type { BackupFilter } from "./services.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/** `last_7_days,type=full` to a filter; parts are joined by commas and all must hold. Throws USAGE. */
export function parseFilter(text: string | undefined, nowMs: number): BackupFilter {
  let filter: BackupFilter = {};
  for (const part of (text ?? "").split(",").filter((each) => each !== ""))
    filter = { ...filter, ...parsePart(part, nowMs) };
  return filter;
}

function parsePart(part: string, nowMs: number): BackupFilter {
  const last = /^last_(\d{1,5})_(hours?|days?|weeks?)$/.exec(part);
  if (last !== null) return { since_ms: nowMs - Number(last[1]) * unitMs(last[2] ?? "") };
  if (part === "today") return { since_ms: new Date(nowMs).setUTCHours(0, 0, 0, 0) };
  const cut = part.indexOf("=");
  const value = part.slice(cut + 1);
  switch (cut < 0 ? part : part.slice(0, cut)) {
    case "type":
      return { type: backupType(value) };
    case "source":
      return { source: value };
    case "tag":
      return { tag: value };
    case "contains_file":
      return { contains_file: pathFromText(value) };
    default:
      throw new HoldfastError("USAGE", `"${part}" is no filter`, {
        hint: "Write last_7_days, today, type=full, source=S, tag=T or contains_file=PATH.",
      });
  }
}

function unitMs(unit: string): number {
  if (unit.startsWith("hour")) return HOUR_MS;
  return unit.startsWith("day") ? DAY_MS : 7 * DAY_MS;
}

function backupType(text: string): BackupType {
  const found = BACKUP_TYPES.find((type) => type === text);
  if (found === undefined) {
    throw new HoldfastError("USAGE", `"${text}" is no type of backup`, { hint: `One of ${BACKUP_TYPES.join(", ")}.` });
  }
  return found;
}

const ORDERS: Readonly<Record<string, (manifest: Manifest) => number | string>> = {
  timestamp: (manifest) => manifest.timestamp,
  size: (manifest) => sum(manifest, "total_size_bytes"),
  stored: (manifest) => sum(manifest, "stored_size_bytes"),
  files: (manifest) => sum(manifest, "files_total"),
  duration: (manifest) => manifest.metadata.backup_duration_seconds,
  type: (manifest) => manifest.backup_type,
};

/** Sorted by `timestamp_desc` unless told; equal ones by id. Throws USAGE. */
export function sortManifests(manifests: readonly Manifest[], sort = "timestamp_desc"): Manifest[] {
  const match = /^(.+?)(?:_(asc|desc))?$/.exec(sort);
  const keyOf = ORDERS[match?.[1] ?? ""];
  if (keyOf === undefined) {
    const names = Object.keys(ORDERS).join(", ");
    throw new HoldfastError("USAGE", `cannot sort by "${sort}"`, { hint: `One of ${names}, with _asc or _desc.` });
  }
  const direction = match?.[2] === "asc" ? 1 : -1;
  return [...manifests].sort((a, b) => direction * (compare(keyOf(a), keyOf(b)) || compare(a.backup_id, b.backup_id)));
}

function compare(a: number | string, b: number | string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

function sum(manifest: Manifest, field: "total_size_bytes" | "stored_size_bytes" | "files_total"): number {
  return manifest.sources.reduce((total, source) => total + source[field], 0);
}
