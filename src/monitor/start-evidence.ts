/** What a start can tell of the time before it: names that arrived moments before the last end, and roots that lost all. */
import type { BytePath } from "../base/paths.js";
import type { SharedParts, SourceContext } from "./context.js";
import { lookAt } from "./look.js";
import type { Registry, RegistryRecord } from "./registry.js";

/** What the run before saw arrive within this time before its end may be what a missing file was renamed to, ms. */
const RECALLED_MS = 120_000;

/** A name of the moments before the last end may be the new one of a file whose old one was not judged any more. */
export function recallArrival(
  { registry, arrivals, clock }: SharedParts,
  path: BytePath,
  record: RegistryRecord,
): void {
  if (record.registeredAtMs < registry.newestAtOpenMs - RECALLED_MS) return;
  const look = lookAt(path);
  if (look.is === "there") arrivals.note(path, look.stats, clock, record.registeredAtMs);
}

/**
 * A loss was told before the last end, and whoever heard it may have been killed before it was noted: the path is live
 * again, to be missed anew. False where nothing but another message would come of it.
 */
export function forgetTold(context: SourceContext, path: BytePath, record: RegistryRecord): boolean {
  if (context.modeOf(path).mode === "alert") return false;
  const { lossKind: _lossKind, damagedStamp: _damagedStamp, reason: _reason, ...known } = record;
  context.shared.registry.put(context.name, path, { ...known, state: "live" });
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
