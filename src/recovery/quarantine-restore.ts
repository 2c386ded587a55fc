/** Putting quarantined bytes back to their place, at a person's word; what stands there is quarantined in turn. */
import { lstatSync } from "node:fs";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { type BytePath, pathFromText, pathText } from "../base/paths.js";
import { reach } from "../base/reach.js";
import type { StatTuple } from "../engine/types.js";
import { INCIDENT_PATHS_SHOWN, type QuarantineReference } from "./incident.js";
import { placeFile } from "./place.js";
import { type PlaceHost, tupleOf } from "./place-parents.js";
import type { PlacementNotes } from "./placement-notes.js";
import type { LiveWatch } from "./ports.js";
import type { Quarantine, QuarantinedFile } from "./quarantine.js";
import { readRegularFile } from "./regular-file.js";

export interface QuarantineRestorer {
  readonly quarantine: Quarantine;
  readonly watch: LiveWatch;
  readonly notes: PlacementNotes;
  readonly rootOf: (path: BytePath) => BytePath;
  /** Runs work while no one else heals the path. */
  readonly exclusively: <T>(path: BytePath, work: () => Promise<T>) => Promise<T>;
}

export interface QuarantineRestored {
  /** What went back to its place, in the order in which it had been kept. */
  readonly putBack: readonly QuarantinedFile[];
  /** What is in quarantine for it now. */
  readonly kept: readonly QuarantineReference[];
}

/** Restores all that an incident has in quarantine. Throws QUARANTINE_MISSING. */
export async function restoreFromQuarantine(
  host: QuarantineRestorer,
  incident: string,
  signal: AbortSignal,
): Promise<QuarantineRestored> {
  const items = await host.quarantine.items(incident);
  if (items.length === 0)
    throw new HoldfastError("QUARANTINE_MISSING", `incident ${incident} has nothing in quarantine`);
  const kept: QuarantineReference[] = [];
  for (const item of items) {
    signal.throwIfAborted();
    const replaced = await host.exclusively(item.path, () => restoreOne(host, incident, item, signal));
    if (kept.length < INCIDENT_PATHS_SHOWN) kept.push(...replaced);
  }
  return { putBack: items, kept };
}

async function restoreOne(
  host: QuarantineRestorer,
  incident: string,
  item: QuarantinedFile,
  signal: AbortSignal,
): Promise<readonly QuarantineReference[]> {
  const kept: QuarantineReference[] = [];
  const found = statAt(item.path);
  const target = {
    path: item.path,
    root: host.rootOf(item.path),
    present: found,
    tag: incident,
  };
  const content = {
    open: (inner: AbortSignal) => readRegularFile(pathFromText(item.file), inner),
    sha256: undefined,
    metadata: item.node,
  };
  const placing: PlaceHost = {
    folderNode: () => undefined,
    announce: (write) => host.watch.expectOwnWrite(write),
    keepDamaged: async (folder, name, judged) => {
      kept.push(await host.quarantine.keep(incident, { folder, name, judged }, "replaced by what was in quarantine"));
    },
  };
  const placed = await host.notes.during(target, () => placeFile(target, content, placing, signal));
  if (placed.kind !== "placed")
    throw new HoldfastError(
      "TARGET_EXISTS",
      `${pathText(item.path)} changed while it was being put back; nothing was done`,
    );
  await host.watch.acceptContent(item.path, `restored from quarantine: incident ${incident}`);
  await host.quarantine.drop(incident, item.item);
  return kept;
}

function statAt(path: BytePath): StatTuple | undefined {
  try {
    return tupleOf(reach(path, (place) => lstatSync(place, { bigint: true })));
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
