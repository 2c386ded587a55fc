/**
 * What went while nobody protected a source is no loss, its owner had said so: recorded as removed, the versions stay.
 * Where the registry is known nothing is accepted: there the monitor judges. Neither where the storage is away, a folder
 * is missing or empty, or so much is gone that its owner would be asked (or all): it may be a disk that is not mounted,
 * or a new machine before its files are there. The monitor finds that too, as one loss, and asks.
 */
import { lstatSync } from "node:fs";
import { errnoOf } from "../base/errors.js";
import { type BytePath, isWithin } from "../base/paths.js";
import { reach } from "../base/reach.js";
import { isEmptyFolder } from "../monitor/look.js";
import { isMassLoss } from "../monitor/mass.js";
import type { Parts } from "./parts.js";
import type { ProtectedSource } from "./protected-source.js";

/** Removals given to one commit. */
const REMOVALS_AT_ONCE = 10_000;

interface Gone {
  readonly paths: readonly BytePath[];
  /** Those of them that are no folders. */
  readonly files: number;
  /** All of the source that are no folders, there or gone. */
  readonly filesStored: number;
}

/** Accepts what is gone when that is sure to be meant. Call it before the source is watched. */
export async function acceptWhatIsGone(parts: Parts, source: ProtectedSource): Promise<void> {
  const { repository, monitor, ground, settings } = parts;
  if (repository.readOnly || (await monitor.registry.isBuilt(source.name))) return;
  if ((await monitor.awayReason(source.files)) !== undefined) {
    if (source.folders.some((folder) => isGone(folder) || isEmptyFolder(folder))) return;
    // Other storage with files on it, and its owner has just said that it is to be protected.
    await monitor.forgetGround(source.files);
  }
  const gone = await goneOf(parts, source);
  const isAll = gone.files > 0 && gone.files === gone.filesStored;
  if (isAll || isMassLoss(gone.files, gone.filesStored, settings.current.mass)) {
    const { files, filesStored } = gone;
    ground.metrics.log.warn("source.much_is_gone", { source: source.name, files, stored: filesStored });
    return;
  }
  for (let start = 0; start < gone.paths.length; start += REMOVALS_AT_ONCE) {
    const removals = gone.paths
      .slice(start, start + REMOVALS_AT_ONCE)
      .map((path) => ({ path, kind: "remove" as const }));
    await repository.commitChanges(source.name, removals, ground.signal);
  }
}

/** What is stored of a source and seen to be gone. */
async function goneOf({ repository, monitor }: Parts, source: ProtectedSource): Promise<Gone> {
  const hidden = await monitor.hiddenPoints(source.files);
  const folders = source.folders.filter((folder) => !isGone(folder) && !isEmptyFolder(folder));
  const paths: BytePath[] = [];
  let [files, filesStored] = [0, 0];
  for await (const { path, node } of repository.currentEntries(source.name)) {
    const isFile = node.kind !== "folder";
    if (isFile) filesStored += 1;
    const isSeen = folders.some((folder) => isWithin(path, folder)) && !hidden.some((point) => isWithin(path, point));
    if (!isSeen || !isGone(path)) continue;
    paths.push(path);
    if (isFile) files += 1;
  }
  return { paths, files, filesStored };
}

/** True when nothing stands at the path; what cannot be looked at is not gone. */
function isGone(path: BytePath): boolean {
  try {
    reach(path, (place) => lstatSync(place));
    return false;
  } catch (error) {
    return ["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "");
  }
}
