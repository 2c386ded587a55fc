/**
 * Tree nodes, opened and decoded, for whoever looks at one folder after the other: each look goes from the root down, and
 * opening a node costs a hundred times what looking into it does. Nodes are named by their content and never change.
 */
import type { ChunkId } from "../types.js";
import { decodeNode, type TreeNode } from "./node.js";

/** Nodes kept, some 150 KB each: the way down to a folder, and its neighbours. */
const NODES_KEPT = 64;

export class NodeCache {
  readonly #read: (id: ChunkId, signal: AbortSignal) => Promise<Buffer>;
  readonly #nodes = new Map<ChunkId, TreeNode>();

  /** `read` gives the verified bytes of a node. */
  constructor(read: (id: ChunkId, signal: AbortSignal) => Promise<Buffer>) {
    this.#read = read;
  }

  /** The node; the last used ones are kept. Throws CHUNK_MISSING, RECORD_DAMAGED. */
  readonly load = async (id: ChunkId, signal: AbortSignal): Promise<TreeNode> => {
    const node = this.#nodes.get(id) ?? decodeNode(await this.#read(id, signal));
    this.#nodes.delete(id);
    this.#nodes.set(id, node);
    for (const oldest of this.#nodes.keys()) {
      if (this.#nodes.size <= NODES_KEPT) break;
      this.#nodes.delete(oldest);
    }
    return node;
  };
}
