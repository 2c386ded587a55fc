/**
 * The end of a maintenance window: what went during it is seen and judged before the window closes, so that whoever
 * deletes and then resumes at once finds nothing brought back.
 */
import type { Clock } from "../base/clock.js";
import { type BytePath, isWithin } from "../base/paths.js";
import { lookAt } from "./look.js";

/** The end of a pause waits this long at most for judgement, ms. */
const WAIT_MAX_MS = 5000;
const LOOK_MS = 50;

/** One source, as the end of a pause sees it. */
export interface PausedSource {
  readonly clock: Clock;
  readonly roots: readonly BytePath[];
  /** Compares a folder with what is known of it. */
  lookThrough(folder: BytePath): Promise<void>;
  mark(path: BytePath): void;
  /** True when nothing waits for a look or a verdict; also when the source is not watched any more. */
  isAtRest(): boolean;
}

/**
 * Looks through what a pause of `path` (undefined: of everything) covers of a source, and waits for the verdicts. False
 * when they did not all come in time.
 */
export async function judgeBeforePauseEnds(source: PausedSource, path: BytePath | undefined): Promise<boolean> {
  for (const folder of coveredFolders(source.roots, path)) {
    const look = lookAt(folder);
    if (look.is === "there" && look.node.kind === "folder") await source.lookThrough(folder);
    else source.mark(folder);
  }
  const startMs = source.clock.monotonicMs();
  while (!source.isAtRest() && source.clock.monotonicMs() - startMs <= WAIT_MAX_MS)
    await new Promise<void>((resolve) => source.clock.after(LOOK_MS, resolve));
  return source.isAtRest();
}

function coveredFolders(roots: readonly BytePath[], path: BytePath | undefined): readonly BytePath[] {
  if (path !== undefined && roots.some((root) => isWithin(path, root))) return [path];
  return [...new Set(roots.filter((root) => path === undefined || isWithin(root, path)))];
}
