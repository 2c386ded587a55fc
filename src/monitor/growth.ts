/**
 * Files that may only grow (modes `append-only` and `growing`): what was registered must still be there, byte for byte,
 * whatever was added behind it. Appending programs never fall behind that, so it needs no grace for writers.
 */
import type { DamageKind } from "../base/events.js";
import { formatSize } from "../base/units.js";
import type { BytePath } from "../base/paths.js";
import type { StatTuple } from "../engine/types.js";
import type { SourceContext } from "./context.js";
import type { RegistryRecord } from "./registry.js";

/** What a file lost that may only grow; undefined: nothing, or nobody can tell. `stat` is what stands there now. */
export async function lossOfGrown(
  context: SourceContext,
  path: BytePath,
  record: RegistryRecord,
  stat: StatTuple,
): Promise<{ readonly kind: DamageKind; readonly detail: string } | undefined> {
  const { sizeBytes } = record.stat;
  if (record.kind !== "file" || record.sha256 === undefined) return undefined;
  if (stat.sizeBytes < sizeBytes) {
    const detail = `cut from ${formatSize(sizeBytes)} to ${formatSize(stat.sizeBytes)}, and it may only grow`;
    return { kind: "truncated", detail };
  }
  const part = { lengthBytes: sizeBytes, isGzip: false };
  const digest = await context.shared.validation.digest(path, context.signal, part);
  if (digest === undefined || digest.sha256 === record.sha256) return undefined;
  if (digest.after.sizeBytes < sizeBytes) return undefined; // it moves: the next look tells
  return { kind: "overwritten", detail: `its first ${formatSize(sizeBytes)} were changed, and it may only grow` };
}
