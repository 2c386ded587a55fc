/** Parts a tree into stretches of about the same number of entries: what lets several threads walk what it describes. */
import type { BytePath } from "../../base/paths.js";
import type { ChunkId } from "../types.js";
import { type ChildRef, type TreeNode } from "./node.js";
import { type LoadNode, loadChild, openNode } from "./reader.js";

/**
 * Paths in order, each about `stretchEntries` entries after the one before it; none when the tree is smaller than two
 * stretches. Only inner nodes are read, so a stretch is never finer than a leaf. Throws CHUNK_MISSING, RECORD_DAMAGED.
 */
export async function evenPaths(
  load: LoadNode,
  rootId: ChunkId,
  stretchEntries: number,
  signal: AbortSignal,
): Promise<readonly BytePath[]> {
  const paths: BytePath[] = [];
  let entriesSince = 0;
  const passOver = (child: ChildRef): void => {
    if (entriesSince >= stretchEntries) {
      paths.push(child.firstPath);
      entriesSince = 0;
    }
    entriesSince += child.entryCount;
  };
  const goThrough = async (node: TreeNode): Promise<void> => {
    signal.throwIfAborted();
    if (!("children" in node)) return;
    for (const child of node.children) {
      const isFineEnough = node.level <= 1 || child.entryCount <= stretchEntries / 2;
      if (isFineEnough) passOver(child);
      else await goThrough(await loadChild(load, child, node.level, signal));
    }
  };
  await goThrough(await openNode(load, rootId, signal));
  return paths;
}
