/** Lists files of the checkout, for tests that compare code with documents. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";

/** Paths below a folder whose names end so, sorted. */
export async function filesBelow(folder: string, ending: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}
