/** What a start can tell of the time before it: names that came before the last end and were not judged, and roots that lost all. */
import type { NoticedBy } from "../base/events.js";
import { type BytePath, pathText } from "../base/paths.js";
import { readingBeganAfter } from "../engine/rot.js";
import type { DatedEntry, StatTuple } from "../engine/types.js";
import type { SharedParts, SourceContext } from "./context.js";
import { isSameContentStat } from "./ledger.js";
import { lookAt, stampOf } from "./look.js";
import type { Registry, RegistryRecord } from "./registry.js";
import { recordOf, withoutLoss } from "./registry-record.js";
import type { RestMark } from "./rest-mark.js";

/** Files that are named of which the store has lost the last version. */
const VERSIONS_LOST_MAX = 20;

/**
 * Names that came since everything was last judged, as they are met at a start: each may be the new one of a file whose
 * old one no run came to judge, however many runs there were since and however long they took.
 */
export class ArrivalRecall {
  readonly #shared: SharedParts;
  readonly #sinceMs: number;

  /** `judgedMs`: until when everything is known to have been judged, wall ms; undefined: that was never so. */
  constructor(shared: SharedParts, judgedMs: number | undefined) {
    this.#shared = shared;
    this.#sinceMs = judgedMs ?? -Infinity;
  }

  /** A registered path stands as it was registered. */
  note(path: BytePath, record: RegistryRecord): void {
    if (record.registeredAtMs < this.#sinceMs) return;
    const look = lookAt(path);
    if (look.is === "there") this.#shared.arrivals.note(path, look.stats, this.#shared.clock, record.registeredAtMs);
  }
}

/**
 * A loss was told before the last end, and whoever heard it may have been killed before it was noted: the path is live
 * again, to be missed anew. False where nothing but another message would come of it.
 */
export function forgetTold(context: SourceContext, path: BytePath, record: RegistryRecord): boolean {
  if (context.modeOf(path).mode === "alert") return false;
  context.shared.registry.put(context.name, path, withoutLoss(record));
  return true;
}

/**
 * True when what stands there is damage that was told already. At a start it is told anew, as a loss is; what is held
 * because it looks encrypted stays with its alarm.
 */
export function isDamageTold(
  context: SourceContext,
  { path, record }: { readonly path: BytePath; readonly record: RegistryRecord | undefined },
  found: { readonly entry: { readonly stat: StatTuple }; readonly noticedBy: NoticedBy },
): boolean {
  if (record?.state !== "lost" || record.damagedStamp !== stampOf(found.entry.stat)) return false;
  const isDoubtful = found.noticedBy === "start" && record.lossKind !== "encrypted";
  return !(isDoubtful && forgetTold(context, path, record));
}

/**
 * What was stored and not noted here before the last end is registered, so that it is missed when it went since. Costs
 * one look at a number when there is nothing. In another generation nothing is sure: the store may have been put back
 * to an earlier state, so all is compared, and a removal that it has lost is to be stored again.
 */
export async function registerStored(
  context: SourceContext,
  lastChange: number,
  rest: Pick<RestMark, "registered">,
  signal: AbortSignal,
): Promise<void> {
  const { shared, name, source } = context;
  const { registry, known, log } = shared;
  const held = await registry.heldThrough(name);
  const isSure = held?.generation === known.generation && held.seq <= lastChange;
  if (isSure && held.seq === lastChange) return;
  let count = 0;
  const lost = new LostVersions();
  for await (const entry of known.entriesAfter(name, isSure ? held.seq : 0)) {
    signal.throwIfAborted();
    if (!source.includes(entry.path, entry.node.kind)) continue;
    const before = registry.get(name, entry.path);
    if (before !== undefined && isKnownBetter(before, entry, isSure)) {
      if (!isSure) removeAgain(context, entry.path, before);
      continue;
    }
    const readFromMs = readingBeganAfter(entry.timeMs);
    rest.registered(entry.timeMs);
    lost.note(before, entry);
    registry.put(name, entry.path, recordOf(entry, { nowMs: entry.timeMs, readFromMs }));
    count += 1;
    await registry.room();
  }
  if (!isSure) count += await forgetUnstored(context, signal);
  if (count > 0) log.info("registry.caught_up", { source: name, entries: count });
  if (lost.paths.length > 0) log.warn("registry.versions_lost", { source: name, paths: lost.paths });
}

/** A removal that was durable and that the store has lost is told again by the look at the start, unless something stands there. */
function removeAgain({ shared, name }: SourceContext, path: BytePath, record: RegistryRecord): void {
  if (record.state === "removed") shared.registry.put(name, path, { ...record, state: "removing" });
}

/** Files that are gone and whose last version the store has lost: only an older one can come back, which is to be told. */
class LostVersions {
  /** The first of them. */
  readonly paths: string[] = [];

  /** The store has this of a path, of which something else may have been known. */
  note(before: RegistryRecord | undefined, { path, node, timeMs }: DatedEntry): void {
    if (before?.state !== "live" || before.kind !== "file" || this.paths.length >= VERSIONS_LOST_MAX) return;
    const isLater = before.sha256 !== node.sha256 && before.registeredAtMs > timeMs;
    if (isLater && lookAt(path).is === "missing") this.paths.push(pathText(path));
  }
}

/** Everything that commits of the source changed up to this number has been registered. */
export function noteThrough({ shared, name }: SourceContext, seq: number): void {
  shared.registry.holdsThrough(name, { seq, generation: shared.known.generation });
}

/** What is there and no longer stored is new; what is not there either stays known, so that its loss is told. */
async function forgetUnstored({ shared, name }: SourceContext, signal: AbortSignal): Promise<number> {
  const { registry, known } = shared;
  let count = 0;
  for await (const page of registry.entries(name)) {
    signal.throwIfAborted();
    for (const { path, record } of page) {
      if (record.state !== "live" || (await known.current(path, name)) !== undefined) continue;
      if (lookAt(path).is !== "there") continue;
      registry.forget(name, path);
      count += 1;
    }
    await registry.room();
  }
  return count;
}

/** True when what is stored tells nothing that is not known here; in another generation nothing is sure. */
function isKnownBetter(before: RegistryRecord, entry: DatedEntry, isSure: boolean): boolean {
  return !(isSure ? isBehind(before, entry) : isUnlike(before, entry));
}

/** True when what is here is older than what was stored since: removed, or live with other content. */
function isBehind({ state, kind, sha256, linkTarget }: RegistryRecord, { node }: DatedEntry): boolean {
  if (state === "removed") return true;
  return state === "live" && (kind !== node.kind || sha256 !== node.sha256 || linkTarget !== node.linkTarget);
}

/** True when what is here is not what is stored, whichever is newer; a removal accepted after that was stored stays. */
function isUnlike(record: RegistryRecord, entry: DatedEntry): boolean {
  if (record.state === "removed") return record.registeredAtMs < entry.timeMs;
  const { node } = entry;
  const isMoved = record.stat.ctimeNs !== node.stat.ctimeNs || !isSameContentStat(record.stat, node.stat);
  return isBehind(record, entry) || (record.state === "live" && isMoved);
}

/** True when the removal was stored, and not noted here before the last end: nothing is missed. */
export async function takeStoredRemoval(
  { shared, name }: SourceContext,
  path: BytePath,
  record: RegistryRecord,
): Promise<boolean> {
  if (record.state !== "live" || !(await shared.known.isRemoved(name, path))) return false;
  shared.registry.put(name, path, { ...record, state: "removed", registeredAtMs: shared.clock.nowMs() });
  return true;
}

/** True when a root is there and no file that is known below it; mostly one look tells. */
export async function hasLostAll(registry: Registry, source: string, root: BytePath): Promise<boolean> {
  let hasMissing = false;
  if (lookAt(root).is !== "there") return false;
  for await (const page of registry.entries(source, root)) {
    for (const { path, record } of page) {
      if (record.kind === "folder") continue;
      if (lookAt(path).is !== "missing") return false;
      hasMissing = true;
    }
  }
  return hasMissing;
}
