/** Looking at paths that are missing, many at once: what needs no look of its own, and what they stood on. */
import type { NoticedBy } from "../base/events.js";
import { type BytePath, isDirectlyIn, parentPath } from "../base/paths.js";
import type { MissingFile } from "./intent.js";
import { lookAt } from "./look.js";
import type { DatedRecord, ReadPath, Registry, RegistryRecord } from "./registry.js";
import type { ModeDecision } from "./rules.js";

/** Neighbours looked at before a loss is told; 2,000 looks take about 10 ms. */
const NEIGHBOURS_MAX = 2000;

/** A path that was not there when somebody looked. */
export interface MissingItem {
  readonly noticedBy: NoticedBy;
  readonly seenAtMs: number;
  /** Steady ms. */
  readonly sinceMs: number;
  /** Not to be judged before, steady ms. */
  readonly dueMs: number;
  /** What is known of it, as it was read; undefined: it is read when it is judged. */
  readonly known: DatedRecord | undefined;
}

/** A missing path as it is judged. */
export interface Missed extends DatedRecord {
  readonly path: BytePath;
  readonly item: MissingItem;
  readonly ground: Ground;
  readonly decision: ModeDecision;
  /** The pattern of a group that it is a part of, of which others are still there. */
  readonly group?: string;
}

/** What the ground under a missing path is like. */
export type Ground =
  | { readonly is: "sound" }
  /** The storage is away: nothing is said about any path. */
  | { readonly is: "away"; readonly detail: string }
  /** The protected folder itself was deleted: everything is one loss. */
  | { readonly is: "deleted"; readonly detail: string };

/** Looks whether paths are missing; what lies in a folder that is missing needs no look of its own. */
export function missingNow(): (path: BytePath) => boolean {
  const missingFolders = new Set<BytePath>();
  const foundFolders = new Set<BytePath>();
  let lastMissing: BytePath | undefined;
  return (path) => {
    if (lastMissing !== undefined && isDirectlyIn(path, lastMissing)) return true;
    const folder = parentPath(path);
    if (missingFolders.has(folder)) return true;
    if (lookAt(path).is !== "missing") return false;
    if (foundFolders.has(folder)) return true;
    if (lookAt(folder).is === "missing") {
      missingFolders.add(folder);
      lastMissing = folder;
    } else foundFolders.add(folder);
    return true;
  };
}

/** Folders that were seen missing a moment ago, so that one look at a folder serves for all that was in it. */
export class MissingFolders {
  readonly #isMissing = new Map<BytePath, boolean>();

  /** Known to be missing, without a look. */
  has(folder: BytePath): boolean {
    return this.#isMissing.get(folder) === true;
  }

  /** Looks, unless it did so before; true the first time that it is found missing. */
  isNewlyMissing(folder: BytePath): boolean {
    if (this.#isMissing.has(folder)) return false;
    const isMissing = lookAt(folder).is === "missing";
    this.#isMissing.set(folder, isMissing);
    return isMissing;
  }

  /** Time has passed: every folder is looked at anew. */
  forget(): void {
    this.#isMissing.clear();
  }
}

/** All files of a folder on one device stand on the same ground; those of a folder mostly follow each other. */
export function onceForFolder(
  groundOf: (path: BytePath, dev: bigint) => Ground,
): (missed: { readonly path: BytePath; readonly record: RegistryRecord }) => Ground {
  let last: { readonly folder: BytePath; readonly dev: bigint; readonly ground: Ground } | undefined;
  return ({ path, record }) => {
    const { dev } = record.stat;
    if (record.kind === "folder") return groundOf(path, dev); // a mount or a root may be that very folder
    if (last?.dev === dev && isDirectlyIn(path, last.folder)) return last.ground;
    last = { folder: parentPath(path), dev, ground: groundOf(path, dev) };
    return last.ground;
  };
}

/** The folder that held the path, or the nearest one above it that is still there. */
export function nearestFolder(path: BytePath): BytePath {
  let folder = parentPath(path);
  while (folder !== "/" && lookAt(folder).is === "missing") folder = parentPath(folder);
  return folder;
}

/** What the judge of intent is asked about it. */
export function asMissingFile(source: string, { path, record, item, decision }: Missed): MissingFile {
  return { source, path, record, seenAtMs: item.seenAtMs, noticedBy: item.noticedBy, mode: decision.mode };
}

/**
 * Registered paths of a folder that are missing, from the name of `near` on and round to it, as many as are cheap to look
 * at. Those that are known to be missing are left out.
 */
export async function* missingNeighbours(
  registry: Registry,
  source: string,
  ask: { readonly folder: BytePath; readonly near: BytePath; readonly isKnown: (path: BytePath) => boolean },
): AsyncIterable<ReadPath> {
  let count = 0;
  for (const from of [ask.near, ask.folder]) {
    for await (const known of registry.children(source, ask.folder, from)) {
      count += 1;
      if (count > NEIGHBOURS_MAX || (from === ask.folder && known.path >= ask.near)) return;
      if (!ask.isKnown(known.path) && lookAt(known.path).is === "missing") yield known;
    }
  }
}
