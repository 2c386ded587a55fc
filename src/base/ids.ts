/** Names that holdfast gives to things. */
import { randomBytes } from "node:crypto";
import { ulid } from "ulid";
import { type ErrorCode, HoldfastError } from "./errors.js";

export const BACKUP_TYPES = ["full", "incremental", "differential", "snapshot"] as const;
/** What a backup read anew: see `docs/glossary.md`. */
export type BackupType = (typeof BACKUP_TYPES)[number];

/** `backup_<UTC yyyymmdd_hhmmss>_<type>`; with `_2`, `_3` … when `isTaken` knows the name already. */
export function backupId(timeMs: number, type: BackupType, isTaken: (id: string) => boolean): string {
  const stamp = new Date(timeMs).toISOString().replace(/[-:]/g, "").replace("T", "_").slice(0, 15);
  const base = `backup_${stamp}_${type}`;
  let id = base;
  for (let count = 2; isTaken(id); count += 1) id = `${base}_${String(count)}`;
  return id;
}

/** A new incident id; sorts by time. */
export function incidentId(timeMs: number): string {
  return `inc_${ulid(timeMs).toLowerCase()}`;
}

/** A new job id; sorts by time. */
export function jobId(timeMs: number): string {
  return `job_${ulid(timeMs).toLowerCase()}`;
}

/** `bytes` random bytes in hex. */
export function randomHex(bytes: number): string {
  return randomBytes(bytes).toString("hex");
}

/** Ids that an error names in its message, and in its details. */
const NAMED_MAX = 5;
const LISTED_MAX = 20;

/** What several ids that begin alike are answered with; it names the candidates. */
export function ambiguousId(code: ErrorCode, things: string, prefix: string, ids: readonly string[]): HoldfastError {
  const named = ids.slice(0, NAMED_MAX).join(", ");
  const more = ids.length > NAMED_MAX ? ` and ${String(ids.length - NAMED_MAX)} more` : "";
  return new HoldfastError(code, `${String(ids.length)} ${things} start with ${prefix}: ${named}${more}`, {
    details: { ids: ids.slice(0, LISTED_MAX) },
  });
}
