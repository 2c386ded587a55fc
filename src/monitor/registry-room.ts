/** Waiting for the registry between looks and verdicts, which a full disk must not end. */
import { hasCode } from "../base/errors.js";
import type { Registry } from "./registry.js";

/**
 * Resolves when there is room for more writes, or none can be written: that is told as a degradation and tried again by the
 * guard, and what waits meanwhile is one record for each path at most.
 */
export async function roomOrNone(registry: Pick<Registry, "room" | "notWritable">): Promise<void> {
  if (registry.notWritable !== undefined) return;
  try {
    await registry.room();
  } catch (error) {
    if (!hasCode(error, "INDEX_DAMAGED")) throw error;
  }
}
