/**
 * The leaves of the last tree that was built of each source, so that also another process takes over those in which
 * nothing changed. It is only a memory, and right for the tree with that root and no other; without it a tree is built
 * whole.
 */
import { hasCode } from "../../base/errors.js";
import { type CountedLeaf, decodeLeaves, encodeLeaves } from "../tree/counted-leaf.js";
import type { ChunkId } from "../types.js";
import { type LevelStore, bucketKey } from "./level-store.js";

const ROOT_BYTES = 32;

/** A tree by its root, as long as it is remembered. */
interface RootedLeaves {
  readonly root: ChunkId;
  readonly leaves: readonly CountedLeaf[];
}

export class KeptLeaves {
  readonly #level: LevelStore;

  constructor(level: LevelStore) {
    this.#level = level;
  }

  /** The leaves of the source's tree with this root; undefined when they are not known. */
  of(source: string, root: ChunkId): readonly CountedLeaf[] | undefined {
    const value = this.#level.get(keyOf(source));
    if (value?.toString("hex", 0, ROOT_BYTES) !== root) return undefined;
    try {
      return decodeLeaves(value.subarray(ROOT_BYTES));
    } catch (error) {
      if (hasCode(error, "RECORD_DAMAGED")) return undefined;
      throw error;
    }
  }

  /** Remembers the source's newest tree in place of the one before. */
  async keep(source: string, { root, leaves }: RootedLeaves): Promise<void> {
    const value = Buffer.concat([Buffer.from(root, "hex"), encodeLeaves(leaves)]);
    await this.#level.write([{ type: "put", key: keyOf(source), value }]);
  }
}

function keyOf(source: string): Buffer {
  return bucketKey("leaves", Buffer.from(source, "utf8"));
}
