/**
 * Names of files that are being put in place, and what a crash leaves of them. Before a staged file is exchanged for the
 * damaged one, its name takes note of both: what lies at a noted name after a crash is ours or the judged file only if
 * it is one of the two that were noted; anything else is a save of somebody that met the exchange, and is never removed.
 */
import { createHash, randomBytes } from "node:crypto";
import { type AnchoredFolder, openAnchored } from "../base/anchored.js";
import { STAGING_PREFIX } from "../base/atomic-file.js";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { type BytePath, joinPath } from "../base/paths.js";
import type { StatTuple } from "../engine/types.js";
import { tupleOf } from "./place-parents.js";

/** The file that is put in place, and the damaged one. */
export interface TwoFiles {
  readonly ours: StatTuple;
  readonly judged: StatTuple;
}

export interface Leftovers {
  readonly removed: number;
  /** Where saves of others are now that a crash had left at a staging name. */
  readonly kept: readonly BytePath[];
}

/** What a noted name says of a file: inode, size and time of its content; the device number may be another after a boot. */
type FileNote = string;
/** `.holdfast-tmp-<tag>-<random>.<digest of the final name>.<ours>.<judged>`: at most 190 bytes. */
const NOTED = /\.(?<target>[0-9a-f]{16})\.(?<ours>[0-9a-z_]+)\.(?<judged>[0-9a-z_]+)$/;

/** A new name for a file that is being made; `tag` is the incident's. */
export function stagingName(tag: string): string {
  return `${STAGING_PREFIX}${tag}-${randomBytes(6).toString("hex")}`;
}

/** The name that a staged file has while it may be exchanged for what stands at `name`. */
export function notedName(staged: string, name: string, { ours, judged }: TwoFiles): string {
  return `${staged}.${digestOfName(name)}.${noteOf(ours)}.${noteOf(judged)}`;
}

/**
 * Clears what a crash left in a folder of an incident's staging files: ours are removed, what others saved goes back to
 * its name when our file still stands there, else it is kept beside it. `names` are the incident's in this folder.
 */
export function clearStagingOf(
  place: { readonly root: BytePath; readonly folder: BytePath },
  tag: string,
  names: readonly string[],
): Leftovers {
  const kept: BytePath[] = [];
  let removed = 0;
  try {
    const folder = openAnchored(place.root, place.folder);
    try {
      for (const staged of folder.names()) {
        if (!staged.startsWith(`${STAGING_PREFIX}${tag}-`)) continue;
        const keptAs = clearOne(folder, staged, names);
        if (keptAs === undefined) removed += 1;
        else kept.push(joinPath(folder.path, keptAs));
      }
    } finally {
      folder.close();
    }
  } catch (error) {
    if (!(error instanceof HoldfastError) && errnoOf(error) === undefined) throw error;
  }
  return { removed, kept };
}

/** Moves a save of somebody from a staging name to a free name beside `name`; gives the name it has then. */
export function keepBeside(folder: AnchoredFolder, staged: string, name: string | undefined): string {
  const random = (sizeBytes: number): string => randomBytes(sizeBytes).toString("hex");
  const free = [...(name === undefined ? [] : [`${name}.kept-${random(4)}`]), `kept-${random(8)}`];
  for (const candidate of free) {
    try {
      if (folder.renameToFree(staged, folder, candidate)) return candidate;
    } catch (error) {
      if (errnoOf(error) !== "ENAMETOOLONG") throw error;
    }
  }
  return staged;
}

/** The staging file may be gone, or its folder may not be writable any more: there is nothing left to do about it. */
export function unlinkQuietly(folder: AnchoredFolder, name: string): void {
  try {
    folder.unlink(name);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
  }
}

/** Undefined: it was ours, or the judged file, and is gone; else the name at which somebody's save is now. */
function clearOne(folder: AnchoredFolder, staged: string, names: readonly string[]): string | undefined {
  const note = NOTED.exec(staged)?.groups;
  const stat = folder.lstat(staged);
  if (stat?.isDirectory() === true) {
    rmdirQuietly(folder, staged);
    return undefined;
  }
  if (note === undefined || stat === undefined || isNoted(noteOf(tupleOf(stat)), note)) {
    unlinkQuietly(folder, staged); // a name without a note was never exchanged for anything
    return undefined;
  }
  const name = names.find((candidate) => digestOfName(candidate) === note["target"]);
  if (name === undefined) return keepBeside(folder, staged, undefined);
  const standing = folder.lstat(name);
  const isOursStanding = standing !== undefined && noteOf(tupleOf(standing)) === note["ours"];
  if (!isOursStanding || !folder.exchange(staged, folder, name)) return keepBeside(folder, staged, name);
  const out = folder.lstat(staged);
  if (out !== undefined && !isNoted(noteOf(tupleOf(out)), note)) return keepBeside(folder, staged, name);
  unlinkQuietly(folder, staged);
  return name;
}

function isNoted(found: FileNote, note: Readonly<Record<string, string>>): boolean {
  return found === note["ours"] || found === note["judged"];
}

function noteOf({ ino, sizeBytes, mtimeNs }: StatTuple): FileNote {
  // Times before 1970 are negative; a sign is no part of the name's alphabet.
  const time = mtimeNs < 0n ? `n${(-mtimeNs).toString(36)}` : mtimeNs.toString(36);
  return `${ino.toString(36)}_${sizeBytes.toString(36)}_${time}`;
}

function digestOfName(name: string): string {
  return createHash("sha256").update(name, "latin1").digest("hex").slice(0, 16);
}

function rmdirQuietly(folder: AnchoredFolder, name: string): void {
  try {
    folder.rmdir(name);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error; // it is not empty: its folder was placed and filled by somebody
  }
}
