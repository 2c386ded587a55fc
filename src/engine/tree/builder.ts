/**
 * Builds a source's tree from its entries in path order, in one pass and flat memory. Where a node ends is decided by
 * the hash of the key that would come next (between 16 and 64 KiB), so equal ranges of entries make equal nodes
 * whatever changed elsewhere: a small change rewrites one leaf and the way to the root.
 */
import assert from "node:assert";
import type { BytePath } from "../../base/paths.js";
import type { ChunkId } from "../types.js";
import { ByteWriter } from "./bytes.js";
import { TREE_LEVEL_MAX, writeKey, writeNodeHeader } from "./node.js";

/** Keeps a node's bytes (or finds that it is kept already) and gives its id. */
export type StoreNode = (bytes: Buffer) => Promise<ChunkId>;

/** A leaf of a tree, as it was stored. */
export interface Leaf {
  readonly firstPath: BytePath;
  readonly id: ChunkId;
  readonly entryCount: number;
}

export interface TreeRoot {
  readonly id: ChunkId;
  /** Entries in the whole tree. */
  readonly entryCount: number;
}

const NODE_BYTES_MIN = 16 * 2 ** 10;
const NODE_BYTES_MAX = 64 * 2 ** 10;
/** One key in 64 may begin a node: about 13 KiB of entries beyond the minimum, 30 KiB a node on average. */
const BOUNDARY_MASK = 63;

/** FNV-1a over the key, begun with the level so that the levels split independently, and mixed at the end. */
function boundaryHash(key: string, level: number): number {
  let hash = 0x811c9dc5 ^ level;
  for (let index = 0; index < key.length; index += 1) hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** The open node of one level. */
class OpenNode {
  readonly items = new ByteWriter();
  count = 0;
  entryCount = 0;
  firstPath = "";
  lastPath = "";
  /** Nodes of this level that were already stored. */
  stored = 0;

  /** True when `key` must begin a new node. */
  endsBefore(key: string, itemBytes: number, level: number): boolean {
    if (this.count === 0) return false;
    if (this.items.length + itemBytes > NODE_BYTES_MAX) return true;
    return this.items.length >= NODE_BYTES_MIN && (boundaryHash(key, level) & BOUNDARY_MASK) === 0;
  }

  begin(key: string): void {
    if (this.count === 0) this.firstPath = key;
    writeKey(this.items, this.lastPath, key);
    this.lastPath = key;
    this.count += 1;
  }

  take(level: number): Buffer {
    const header = new ByteWriter();
    writeNodeHeader(header, level, this.count);
    header.bytes(this.items.take());
    this.count = 0;
    this.entryCount = 0;
    this.lastPath = "";
    this.stored += 1;
    return header.take();
  }
}

export class TreeBuilder {
  readonly #store: StoreNode;
  readonly #onLeaf: (leaf: Leaf) => void;
  readonly #levels: OpenNode[] = [new OpenNode()];

  /** `onLeaf` is told of each leaf once it is stored, those that were taken over left out. */
  constructor(store: StoreNode, onLeaf: (leaf: Leaf) => void = () => undefined) {
    this.#store = store;
    this.#onLeaf = onLeaf;
  }

  /** True when an entry with this path and so many bytes would begin a new leaf. */
  beginsLeaf(path: BytePath, valueBytes: number): boolean {
    const leaf = this.#level(0);
    return leaf.count === 0 || leaf.endsBefore(path, path.length + valueBytes, 0);
  }

  /**
   * Takes over a leaf that is stored already, in place of its entries. Right only where its first entry begins a leaf,
   * and when it as well as the entry behind it are what they were.
   */
  async takeLeaf(leaf: Leaf): Promise<void> {
    if (this.#level(0).count > 0) await this.#close(0);
    this.#level(0).stored += 1;
    await this.#link(1, leaf);
  }

  /** Adds the next entry; paths must come in ascending byte order. Wait for the promise if there is one. */
  add(path: BytePath, value: Uint8Array): Promise<void> | undefined {
    const leaf = this.#level(0);
    assert(leaf.count === 0 || path > leaf.lastPath, "tree entries must come in path order");
    const wait = leaf.endsBefore(path, path.length + value.length, 0) ? this.#close(0) : undefined;
    const put = (): void => {
      leaf.begin(path);
      leaf.items.sizedBytes(value);
      leaf.entryCount += 1;
    };
    if (wait !== undefined) return wait.then(put);
    put();
    return undefined;
  }

  /** Stores what is open and gives the root; an empty tree is one empty leaf. */
  async finish(): Promise<TreeRoot> {
    for (let level = 0; ; level += 1) {
      const open = this.#level(level);
      const isTop = level === this.#levels.length - 1;
      if (isTop && open.stored === 0) {
        const { firstPath, entryCount } = open;
        const id = await this.#store(open.take(level));
        if (level === 0) this.#onLeaf({ firstPath: firstPath as BytePath, id, entryCount });
        return { id, entryCount };
      }
      if (open.count > 0) await this.#close(level);
    }
  }

  async #close(level: number): Promise<void> {
    const open = this.#level(level);
    const { firstPath, entryCount } = open;
    const node = { firstPath: firstPath as BytePath, id: await this.#store(open.take(level)), entryCount };
    if (level === 0) this.#onLeaf(node);
    await this.#link(level + 1, node);
  }

  /** Puts a stored node into its parent, at this level. */
  async #link(level: number, { firstPath, id, entryCount }: Leaf): Promise<void> {
    const parent = this.#level(level);
    if (parent.endsBefore(firstPath, firstPath.length + id.length, level)) await this.#close(level);
    parent.begin(firstPath);
    parent.items.hex(id);
    parent.items.varint(entryCount);
    parent.entryCount += entryCount;
  }

  #level(level: number): OpenNode {
    const known = this.#levels[level];
    if (known !== undefined) return known;
    assert(level <= TREE_LEVEL_MAX, "the tree is too deep");
    const open = new OpenNode();
    this.#levels.push(open);
    return open;
  }
}
