/** Folders in folders, deeper than a path can say. */
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync } from "node:fs";

/** Each of them has this name. */
export const DEEP_NAME = "d".repeat(200);

/**
 * Makes `levels` folders, one in the other, in `root`. `fill` is told a place of each and how many are below it, from the
 * innermost (0) on: Node cannot name them, so they are built from the inside out.
 */
export function makeDeepFolders(root: string, levels: number, fill: (place: string, below: number) => void): void {
  const [built, around] = [`${root}/${DEEP_NAME}`, `${root}/around`];
  for (let below = 0; below < levels; below += 1) {
    mkdirSync(around);
    fill(around, below);
    if (below > 0) renameSync(built, `${around}/${DEEP_NAME}`);
    renameSync(around, built);
  }
}

/** Removes what Node cannot. */
export function removeDeepFolders(root: string): void {
  execFileSync("rm", ["-rf", root]);
}
