/**
 * Names for the files of a batch that were written and are on disk now, in a worker thread. A new name never overwrites
 * what stands there; what replaces an existing file is renamed over it, so that the old content goes only when the new
 * one is sure to stay. What was put into a folder that somebody moved away meanwhile is not called restored.
 */
import { closeSync } from "node:fs";
import type { AnchoredFolder } from "../../base/anchored.js";
import { fileCount, fileFolderAt, fileNameAt, keptStampAt } from "./file-columns.js";
import { assertKept } from "./kept-stamp.js";
import { failedOutcome, isInPlace, moved, placedFolders } from "./place-batch.js";
import { nameUnnamed, placeNew, unlinkQuietly } from "./place-name.js";
import { type NameAnswer, type NameRequest, NOT_WAITING, type PutOutcome, type StagedName } from "./protocol.js";

/** Names and closes the waiting files of a batch. Never throws; it is too short to be interrupted. */
export function nameBatch(request: NameRequest): NameAnswer {
  const folders = placedFolders(request.folders);
  const failed = new Map<number, PutOutcome>();
  const unnamable: number[] = [];
  const namedIn = new Map<number, number[]>();
  for (let index = 0; index < fileCount(request.files); index += 1) {
    const fd = request.waiting[index] ?? NOT_WAITING;
    if (fd === NOT_WAITING) continue;
    const at = fileFolderAt(request.files, index);
    try {
      const place = folders[at];
      if (place?.isThere !== true) throw moved();
      const name = fileNameAt(request.files, index);
      const keptStampNs = request.onlyKept ? keptStampAt(request.files, index) : undefined;
      const waiting = { fd, name, named: request.named.get(index), keptStampNs };
      if (!giveName(place.folder, waiting)) unnamable.push(index);
      else listOf(namedIn, at).push(index);
    } catch (error) {
      failed.set(index, failedOutcome(error));
    } finally {
      closeSync(fd);
    }
  }
  for (const [at, indexes] of namedIn) {
    const folder = folders[at]?.folder;
    if (folder !== undefined && isInPlace(folder)) continue;
    for (const index of indexes) failed.set(index, failedOutcome(moved()));
  }
  return { failed, unnamable };
}

interface Waiting {
  readonly fd: number;
  readonly name: string;
  readonly named: StagedName | undefined;
  /** Stamp of what may be replaced; undefined: anything may. */
  readonly keptStampNs: bigint | undefined;
}

/** False: a file without a name cannot have one here. */
function giveName(folder: AnchoredFolder, { fd, name, named, keptStampNs }: Waiting): boolean {
  if (named === undefined) return nameUnnamed(fd, folder, name);
  try {
    if (named.replaces && !isInPlace(folder)) throw moved();
    if (named.replaces && keptStampNs !== undefined) assertKept(folder.lstat(name), keptStampNs);
    if (named.replaces) folder.rename(named.staged, folder, name);
    else placeNew(folder, named.staged, name);
    return true;
  } catch (error) {
    unlinkQuietly(folder, named.staged);
    throw error;
  }
}

function listOf(lists: Map<number, number[]>, key: number): number[] {
  const known = lists.get(key);
  if (known !== undefined) return known;
  const made: number[] = [];
  lists.set(key, made);
  return made;
}
