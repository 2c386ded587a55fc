/**
 * Removing what does not belong: with `delete`, names that are not among the entries; always, staging names that a
 * killed restore left. It never leaves the file system it is on, never follows a link, and spares the store.
 */
import { fstatSync } from "node:fs";
import type { AnchoredFolder } from "../../base/anchored.js";
import { STAGING_PREFIX } from "../../base/atomic-file.js";
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, joinPath } from "../../base/paths.js";
import type { Ledger } from "./ledger.js";
import { isLeftover, unlinkQuietly } from "./place-name.js";

/** Folders that are never removed, as `device:inode`. */
export type Spared = ReadonlySet<string>;

export interface SweepOptions {
  readonly dryRun: boolean;
  readonly spared: Spared;
  readonly ledger: Ledger;
}

/** Removes the staging names of restores whose process is gone. */
export function clearLeftovers(folder: AnchoredFolder): void {
  for (const name of folder.names()) if (isLeftover(name)) unlinkQuietly(folder, name);
}

/** Removes everything in the folder that is not among `names`. What cannot be removed is listed as failed. */
export function sweepFolder(
  folder: AnchoredFolder,
  place: BytePath,
  names: ReadonlySet<string>,
  options: SweepOptions,
): void {
  for (const name of folder.names()) {
    if (names.has(name) || name.startsWith(STAGING_PREFIX)) continue;
    const below = joinPath(place, name);
    try {
      removeName(folder, { place: below, name }, options);
    } catch (error) {
      options.ledger.fail(below, error);
    }
  }
}

function removeName(
  folder: AnchoredFolder,
  { place, name }: { readonly place: BytePath; readonly name: string },
  options: SweepOptions,
): void {
  const stat = folder.lstat(name);
  if (stat === undefined) return;
  if (stat.isDirectory()) {
    if (stat.dev !== fstatSync(folder.fd, { bigint: true }).dev)
      throw new HoldfastError("TARGET_UNSAFE", "it is on another file system");
    if (options.spared.has(`${stat.dev}:${stat.ino}`)) throw new HoldfastError("TARGET_UNSAFE", "holdfast lives there");
    const child = folder.child(name);
    try {
      for (const below of child.names()) removeName(child, { place: joinPath(place, below), name: below }, options);
    } finally {
      child.close();
    }
  }
  if (!options.dryRun) {
    if (stat.isDirectory()) folder.rmdir(name);
    else folder.unlink(name);
  }
  options.ledger.did(place, "delete");
}
