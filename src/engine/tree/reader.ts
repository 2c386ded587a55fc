/**
 * Reading trees: all entries of a range in order, all node ids (for marking), and the difference of two trees, which
 * skips every subtree they share. A node is loaded when it is reached; memory is one node per level.
 */
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, isWithin } from "../../base/paths.js";
import type { ChunkId } from "../types.js";
import { type ChildRef, type LeafEntry, type TreeNode, decodeNode } from "./node.js";

/** The verified bytes of a node, or what they decode to. Throws CHUNK_MISSING, RECORD_DAMAGED. */
export type LoadNode = (id: ChunkId, signal: AbortSignal) => Promise<Buffer | TreeNode>;

/** A node by its id. Throws CHUNK_MISSING, RECORD_DAMAGED. */
export async function openNode(load: LoadNode, id: ChunkId, signal: AbortSignal): Promise<TreeNode> {
  const loaded = await load(id, signal);
  return Buffer.isBuffer(loaded) ? decodeNode(loaded) : loaded;
}

/** Loads a child and checks that it lies where its parent says, so that no circle of nodes can trap a reader. */
export async function loadChild(
  load: LoadNode,
  child: ChildRef,
  parentLevel: number,
  signal: AbortSignal,
): Promise<TreeNode> {
  const node = await openNode(load, child.id, signal);
  if (node.level !== parentLevel - 1) throw new HoldfastError("RECORD_DAMAGED", "a tree node is at the wrong level");
  return node;
}

/** Leaf by leaf, the entries in path order; `under` limits them to a path and what lies below it. */
export async function* treeLeaves(
  load: LoadNode,
  rootId: ChunkId,
  under: BytePath | undefined,
  signal: AbortSignal,
): AsyncGenerator<readonly LeafEntry[]> {
  yield* leavesBelow(load, await openNode(load, rootId, signal), under, signal);
}

async function* leavesBelow(
  load: LoadNode,
  node: TreeNode,
  under: BytePath | undefined,
  signal: AbortSignal,
): AsyncGenerator<readonly LeafEntry[]> {
  signal.throwIfAborted();
  if ("entries" in node) {
    const entries = under === undefined ? node.entries : node.entries.filter((entry) => isWithin(entry.path, under));
    if (entries.length > 0) yield entries;
    return;
  }
  for (const [index, child] of node.children.entries()) {
    const nextFirst = node.children[index + 1]?.firstPath;
    if (under !== undefined && !mayHold(child.firstPath, nextFirst, under)) continue;
    yield* leavesBelow(load, await loadChild(load, child, node.level, signal), under, signal);
  }
}

/** Whether a subtree with keys from `first` to before `next` can hold `under` or something below it. */
function mayHold(first: string, next: string | undefined, under: string): boolean {
  const end = under === "/" ? "0" : `${under}0`; // "0" follows "/" in byte order
  return first < end && (next === undefined || next > under);
}

/** Calls `visit` with every node id of the tree, the root included; a false answer skips what lies below the node. */
export async function visitNodes(
  load: LoadNode,
  rootId: ChunkId,
  visit: (id: ChunkId, node: () => Promise<TreeNode>) => Promise<boolean>,
  signal: AbortSignal,
): Promise<void> {
  const root = async (): Promise<TreeNode> => await openNode(load, rootId, signal);
  const below = async (id: ChunkId, open: () => Promise<TreeNode>): Promise<void> => {
    signal.throwIfAborted();
    let opened: TreeNode | undefined;
    const once = async (): Promise<TreeNode> => (opened ??= await open());
    if (!(await visit(id, once))) return;
    const node = await once();
    if (!("children" in node)) return;
    for (const child of node.children) await below(child.id, () => loadChild(load, child, node.level, signal));
  };
  await below(rootId, root);
}

/** One path that differs: its entry in the one tree, in the other, or in both. */
export interface EntryDifference {
  readonly path: BytePath;
  readonly before: Buffer | undefined;
  readonly after: Buffer | undefined;
}

/** The paths whose bytes differ, in path order. An undefined root is an empty tree. */
export async function* diffTrees(
  load: LoadNode,
  beforeRoot: ChunkId | undefined,
  afterRoot: ChunkId | undefined,
  signal: AbortSignal,
): AsyncGenerator<EntryDifference> {
  if (beforeRoot === afterRoot) return;
  const a = new TreeCursor(load, beforeRoot, signal);
  const b = new TreeCursor(load, afterRoot, signal);
  for (;;) {
    signal.throwIfAborted();
    const before = a.head();
    const after = b.head();
    if (before === undefined && after === undefined) return;
    if (await alignSubtrees(a, before, b, after)) continue;
    const difference = nextDifference(a, b);
    if (difference !== undefined) yield difference;
  }
}

/** Skips a shared subtree or opens one that stands in the way; false when both heads are entries that can be compared. */
async function alignSubtrees(
  a: TreeCursor,
  before: CursorHead | undefined,
  b: TreeCursor,
  after: CursorHead | undefined,
): Promise<boolean> {
  if (before?.child !== undefined && after?.child !== undefined) {
    if (before.child.id === after.child.id) {
      a.skip();
      b.skip();
      return true;
    }
    if (before.level >= after.level) await a.descend();
    if (after.level >= before.level) await b.descend();
    return true;
  }
  return (await openedBefore(a, before, after)) || (await openedBefore(b, after, before));
}

/** Opens the subtree a cursor stands before, unless the other's entry comes before all of it and is settled first. */
async function openedBefore(
  cursor: TreeCursor,
  head: CursorHead | undefined,
  other: CursorHead | undefined,
): Promise<boolean> {
  if (head?.child === undefined || (other !== undefined && other.path < head.path)) return false;
  await cursor.descend();
  return true;
}

function nextDifference(a: TreeCursor, b: TreeCursor): EntryDifference | undefined {
  const before = a.head();
  const after = b.head();
  if (before !== undefined && (after === undefined || before.path < after.path)) {
    a.skip();
    return { path: before.path, before: before.value, after: undefined };
  }
  if (after !== undefined && (before === undefined || after.path < before.path)) {
    b.skip();
    return { path: after.path, before: undefined, after: after.value };
  }
  a.skip();
  b.skip();
  if (before?.value === undefined || after?.value === undefined || before.value.equals(after.value)) return undefined;
  return { path: before.path, before: before.value, after: after.value };
}

/** What a cursor stands before: a subtree not yet opened, or an entry. */
interface CursorHead {
  readonly path: BytePath;
  readonly level: number;
  readonly child?: ChildRef;
  readonly value?: Buffer;
}

/** A position in a tree that can skip or open the subtree it stands before. */
class TreeCursor {
  readonly #load: LoadNode;
  readonly #signal: AbortSignal;
  readonly #stack: { readonly node: TreeNode; index: number }[] = [];

  constructor(load: LoadNode, root: ChunkId | undefined, signal: AbortSignal) {
    this.#load = load;
    this.#signal = signal;
    if (root === undefined) return;
    // The root hangs on a made-up parent, so that two equal roots are skipped like any subtree.
    const child = { firstPath: "" as BytePath, id: root, entryCount: 0 };
    this.#stack.push({ node: { level: Number.POSITIVE_INFINITY, children: [child] }, index: 0 });
  }

  head(): CursorHead | undefined {
    for (let top = this.#stack.at(-1); top !== undefined; top = this.#stack.at(-1)) {
      const { node, index } = top;
      if ("entries" in node) {
        const entry = node.entries[index];
        if (entry !== undefined) return { path: entry.path, level: -1, value: entry.value };
      } else {
        const child = node.children[index];
        if (child !== undefined) return { path: child.firstPath, level: node.level - 1, child };
      }
      this.#stack.pop();
    }
    return undefined;
  }

  skip(): void {
    const top = this.#stack.at(-1);
    if (top !== undefined) top.index += 1;
  }

  async descend(): Promise<void> {
    const head = this.head();
    const top = this.#stack.at(-1);
    if (head?.child === undefined || top === undefined) return;
    const isRoot = top.node.level === Number.POSITIVE_INFINITY;
    const node = isRoot
      ? await openNode(this.#load, head.child.id, this.#signal)
      : await loadChild(this.#load, head.child, top.node.level, this.#signal);
    top.index += 1;
    this.#stack.push({ node, index: 0 });
  }
}
