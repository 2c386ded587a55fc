/**
 * Which backup each source is restored from. A backup holds the sources that were due, which are not all: who asks for
 * no backup in particular gets each source from the newest that holds it, and who names one is told what it leaves out.
 */
import { HoldfastError } from "../base/errors.js";
import type { Manifest } from "../engine/types.js";
import type { Parts } from "./parts.js";

/** A source, and the backup that it comes from. */
export interface SourceOrigin {
  readonly source: string;
  readonly backup_id: string;
}

type OriginParts = Pick<Parts, "repository" | "book">;

/** A source that was stored under another name of the machine than the newest backup. */
export interface ElsewhereOrigin extends SourceOrigin {
  readonly hostname: string;
}

/** Where a restore takes things from, and what it leaves out. */
export interface Origins {
  readonly from: readonly SourceOrigin[];
  readonly leftOut: readonly SourceOrigin[];
  readonly elsewhere: readonly ElsewhereOrigin[];
}

/**
 * The newest backup of each source that is protected here, and what the very newest backup holds; left out is what else
 * this machine has stored. Where nothing is protected, as on a new machine, that is taken too. What another machine has
 * stored, or this one while it was called otherwise, is taken by nobody who does not name it. Throws BACKUP_NOT_FOUND.
 */
export async function newestOrigins(parts: OriginParts): Promise<Origins> {
  const newest = await parts.repository.backup("latest");
  const names = protectedNames(parts);
  const wanted = new Set([...newest.sources.map(({ source }) => source), ...names]);
  const from: SourceOrigin[] = [];
  const leftOut: SourceOrigin[] = [];
  const elsewhere: ElsewhereOrigin[] = [];
  for (const { source, backup } of await newestOfAll(parts)) {
    const { hostname } = backup.metadata;
    const origin = { source, backup_id: backup.backup_id };
    const isOwn = wanted.has(source) || hostname === newest.metadata.hostname;
    if (!isOwn) elsewhere.push({ ...origin, hostname });
    else if (wanted.has(source) || names.length === 0) from.push(origin);
    else leftOut.push(origin);
  }
  return { from, leftOut, elsewhere };
}

/** Protected sources that a backup does not hold, each with the newest that does. */
export async function originsBeside(parts: OriginParts, backup: Manifest): Promise<readonly SourceOrigin[]> {
  const held = new Set(backup.sources.map(({ source }) => source));
  const names = new Set(protectedNames(parts).filter((name) => !held.has(name)));
  const others = (await newestOfAll(parts)).filter(({ source }) => names.has(source));
  return others.map(({ source, backup: { backup_id } }) => ({ source, backup_id }));
}

/** The origins of the named sources only; all of them when none is named. Throws VERSION_NOT_FOUND when none is left. */
export function onlyNamed(origins: readonly SourceOrigin[], names: readonly string[]): readonly SourceOrigin[] {
  const chosen = names.length === 0 ? origins : origins.filter(({ source }) => names.includes(source));
  if (chosen.length > 0) return chosen.map(({ source, backup_id }) => ({ source, backup_id }));
  throw new HoldfastError("VERSION_NOT_FOUND", `nothing is stored there of ${names.join(", ")}`, {
    hint: "See `holdfast list --filter source=NAME`.",
  });
}

function protectedNames({ book }: OriginParts): readonly string[] {
  return book.all().map(({ name }) => name);
}

/** Every source that a backup holds, with the newest that does, by name. */
async function newestOfAll({
  repository,
}: OriginParts): Promise<readonly { readonly source: string; readonly backup: Manifest }[]> {
  const newest = new Map<string, Manifest>();
  for (const backup of await repository.listBackups())
    for (const { source } of backup.sources) newest.set(source, backup);
  return [...newest].map(([source, backup]) => ({ source, backup })).sort((a, b) => (a.source < b.source ? -1 : 1));
}
