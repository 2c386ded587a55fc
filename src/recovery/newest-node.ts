/** The newest stored version of a path that is no removal. */
import type { BytePath } from "../base/paths.js";
import type { FileNode } from "../engine/types.js";
import type { VersionReader } from "./ports.js";

/** Versions among which the newest that is no removal is looked for. */
const VERSIONS_LOOKED_AT = 5;

/** Mostly the newest version is it, and what came before need not be read. */
export async function newestNode(reader: VersionReader, path: BytePath): Promise<FileNode | undefined> {
  for (const limit of [1, VERSIONS_LOOKED_AT]) {
    const versions = await reader.versions(path, { limit });
    const found = versions.find((version) => version.node !== undefined);
    if (found !== undefined || versions.length < limit) return found?.node;
  }
  return undefined;
}
