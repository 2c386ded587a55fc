/**
 * The local history of JetBrains' IDEs: one binary storage for all projects, whose format is the IDE's own, is not
 * documented and changes between versions. It is recognised and named to people, never read: bytes pieced together from
 * a format that is guessed would be worse than none.
 */
import { type BytePath, joinPath, parentPath } from "../../base/paths.js";
import { anchoredNames, anchoredStat } from "../anchored-file.js";
import { namesIn } from "./trash.js";

/** Where the IDEs keep their caches, below a home; in each there is a folder for each IDE and version. */
const CACHES = [".cache/JetBrains", ".cache/Google"];
const STORAGES = ["LocalHistory/changes.storageData", "LocalHistory/changes.dat"];
const IDES_MAX = 200;
/** Folders above the file in which a project is looked for. */
const DEPTH_MAX = 64;

/** The local histories below a home that may have a file: it lies in a project of such an IDE, and there is a storage. */
export async function jetBrainsHistories(lost: BytePath, home: BytePath): Promise<readonly BytePath[]> {
  if (!(await isInProject(lost))) return [];
  const found: BytePath[] = [];
  for (const caches of CACHES.map((each) => joinPath(home, each)))
    for (const ide of anchoredNames(home, caches).slice(0, IDES_MAX))
      for (const storage of STORAGES.map((each) => joinPath(joinPath(caches, ide), each)))
        if ((anchoredStat(home, storage)?.size ?? 0n) > 0n) found.push(parentPath(storage));
  return found;
}

/** A project has a folder `.idea` at its top. */
async function isInProject(lost: BytePath): Promise<boolean> {
  let folder = parentPath(lost);
  for (let depth = 0; depth < DEPTH_MAX && folder !== "/"; depth += 1) {
    if ((await namesIn(joinPath(folder, ".idea"))).length > 0) return true;
    folder = parentPath(folder);
  }
  return false;
}
