/** Where the checkout and the compiled program lie, whatever folder the tests were compiled to. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

/** The checkout: the nearest folder above that has a package.json. */
export const PROJECT_ROOT = findProjectRoot(import.meta.dirname);

/** The compiler's output that this test is part of (`dist` as a rule); holds `src`, `test`, `bench`. */
export const BUILT_ROOT = dirname(dirname(import.meta.dirname));

/** The path of a file of the checkout. */
export function projectPath(...names: string[]): string {
  return join(PROJECT_ROOT, ...names);
}

function findProjectRoot(folder: string): string {
  if (existsSync(join(folder, "package.json"))) return folder;
  if (dirname(folder) === folder) throw new Error("no package.json above the tests");
  return findProjectRoot(dirname(folder));
}
