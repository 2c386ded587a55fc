/** Whether a path was in good order after a loss of it was told, so that it is another loss when it is missed again. */
import type { BytePath } from "../base/paths.js";
import type { LiveWatch } from "./ports.js";

/** True when the path was put back, or what stood there was stored, after this time (wall ms). */
export async function isGoodSince(
  watch: Pick<LiveWatch, "lastGood">,
  path: BytePath,
  timeMs: number,
): Promise<boolean> {
  const { healedAtMs = 0, registeredAtMs = 0 } = (await watch.lastGood(path)) ?? {};
  return Math.max(healedAtMs, registeredAtMs) > timeMs;
}
