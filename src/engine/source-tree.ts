/**
 * The tree of a source as the catalog has it. What the last tree holds and nobody changed since is taken over leaf by
 * leaf, so that building costs what the changes cost; whatever is not known to be unchanged is built from the catalog.
 */
import { createHash } from "node:crypto";
import type { BytePath } from "../base/paths.js";
import type { BuiltTree } from "./built-trees.js";
import { type EntryIndex, STATE_OFFSET } from "./index/entry-index.js";
import { type Leaf, TreeBuilder } from "./tree/builder.js";
import type { NodeWriter } from "./tree/checkpoint-tree.js";
import { type StateSummary, isMarkedAbsent, summaryOf } from "./tree/codec.js";
import type { CountedLeaf } from "./tree/counted-leaf.js";
import type { ChunkId } from "./types.js";

/** A tree with its leaves. */
export interface SourceTree extends BuiltTree {
  readonly leaves: readonly CountedLeaf[];
}

/** What a new tree takes over. */
export interface TreeBase {
  readonly leaves: readonly CountedLeaf[];
  /** Every path that may differ from what the leaves hold, in byte order. */
  readonly changed: readonly BytePath[];
}

/** Where the entries are, and which nodes the store has. */
export interface TreeGround {
  readonly entries: Pick<EntryIndex, "current" | "currentBetween">;
  readonly isStored: (node: ChunkId) => boolean;
}

export interface SourceTreeOrder {
  readonly source: string;
  readonly writer: Pick<NodeWriter, "store">;
  /** Undefined: all of it is built. */
  readonly base: TreeBase | undefined;
  /** Files with versions of later commits count as changed; the base knows all of these. */
  readonly changedAfterSeq: number;
}

/** Builds the tree; its nodes are in the writer when it resolves. `changed`: files with a later version. */
export async function buildSourceTree(
  ground: TreeGround,
  order: SourceTreeOrder,
  signal: AbortSignal,
): Promise<{ readonly tree: SourceTree; readonly changed: number }> {
  const builder = new CountingBuilder(ground, order);
  for (const run of order.base === undefined ? [WHOLE] : runsOf(order.base, ground)) {
    signal.throwIfAborted();
    if (run.leaf === undefined || !(await builder.take(run.leaf))) await builder.build(run, signal);
  }
  // Leaves that were taken over hold nothing that changed.
  return { tree: await builder.finish(), changed: builder.changed };
}

/** The root of the tree that these leaves make; `idOf` gives a node's id. */
export async function rootOfLeaves(
  leaves: readonly CountedLeaf[],
  idOf: (node: Buffer) => ChunkId,
): Promise<ChunkId | undefined> {
  if (leaves.length <= 1) return leaves[0]?.id;
  const builder = new TreeBuilder((node) => Promise.resolve(idOf(node)));
  for (const leaf of leaves) await builder.takeLeaf(leaf);
  return (await builder.finish()).id;
}

/** A range of paths, and the leaf that holds it still. */
interface Run {
  /** Undefined: from the start. */
  readonly from: BytePath | undefined;
  /** Undefined: to the end. */
  readonly before: BytePath | undefined;
  readonly leaf: CountedLeaf | undefined;
}

const WHOLE: Run = { from: undefined, before: undefined, leaf: undefined };

/** The ranges of the old leaves; one is as it was when neither it nor the entry behind it, where it ends, changed. */
function* runsOf({ leaves, changed }: TreeBase, { isStored }: TreeGround): Generator<Run> {
  if (leaves.length <= 1) {
    yield WHOLE; // a leaf alone is the root and has no parent to be put into
    return;
  }
  let at = 0;
  for (const [index, leaf] of leaves.entries()) {
    const from = index === 0 ? undefined : leaf.firstPath;
    const before = leaves[index + 1]?.firstPath;
    while (from !== undefined && (changed[at] ?? from) < from) at += 1;
    const next = changed[at];
    const isSame = next === undefined || (before !== undefined && next > before);
    yield { from, before, leaf: isSame && isStored(leaf.id) ? leaf : undefined };
  }
}

class CountingBuilder {
  readonly #entries: TreeGround["entries"];
  readonly #source: string;
  readonly #builder: TreeBuilder;
  readonly #leaves: CountedLeaf[] = [];
  readonly #changedAfterSeq: number;
  #count = new LeafCount();
  changed = 0;

  constructor({ entries }: TreeGround, { source, writer, changedAfterSeq }: SourceTreeOrder) {
    this.#changedAfterSeq = changedAfterSeq;
    this.#entries = entries;
    this.#source = source;
    this.#builder = new TreeBuilder(
      (bytes) => writer.store(bytes),
      (leaf) => {
        this.#leaves.push({ ...leaf, ...this.#count.take() });
        this.#count = new LeafCount();
      },
    );
  }

  /** Takes the leaf over; false when no leaf would begin where it does. */
  async take(leaf: CountedLeaf): Promise<boolean> {
    const first = this.#entries.current(this.#source, leaf.firstPath);
    if (first === undefined || isMarkedAbsent(first.value, STATE_OFFSET)) return false;
    if (!this.#builder.beginsLeaf(leaf.firstPath, first.value.length - STATE_OFFSET)) return false;
    await this.#builder.takeLeaf(leaf);
    this.#leaves.push(leaf);
    return true;
  }

  async build({ from, before }: Run, signal: AbortSignal): Promise<void> {
    for await (const page of this.#entries.currentBetween(this.#source, from, before)) {
      signal.throwIfAborted();
      for (const { path, value } of page) {
        if (isMarkedAbsent(value, STATE_OFFSET)) continue;
        const wait = this.#builder.add(path, value.subarray(STATE_OFFSET));
        if (wait !== undefined) await wait;
        const summary = summaryOf(value, STATE_OFFSET);
        if (summary.kind !== "folder" && summary.seq > this.#changedAfterSeq) this.changed += 1;
        this.#count.add(path, summary);
      }
    }
  }

  async finish(): Promise<SourceTree> {
    const { id: root, entryCount } = await this.#builder.finish();
    const checksum = createHash("sha256");
    const sums = { files: 0, bytes: 0, lastSeq: 0 };
    for (const { digest, files, bytes, lastSeq } of this.#leaves) {
      checksum.update(digest);
      sums.files += files;
      sums.bytes += bytes;
      sums.lastSeq = Math.max(sums.lastSeq, lastSeq);
    }
    return { root, entryCount, ...sums, checksum: checksum.digest("hex"), leaves: this.#leaves };
  }
}

/** Counts the entries of a leaf and digests their list. */
class LeafCount {
  #lines: string[] = [];
  #files = 0;
  #bytes = 0;
  #lastSeq = 0;

  add(path: string, { kind, sizeBytes, seq, mode, sha256 }: StateSummary): void {
    const digest = sha256?.toString("hex") ?? "-";
    this.#lines.push(`${path}\0${digest}\0${String(sizeBytes)}\0${mode.toString(8)}\n`);
    this.#lastSeq = Math.max(this.#lastSeq, seq);
    if (kind === "folder") return;
    this.#files += 1;
    this.#bytes += sizeBytes;
  }

  take(): Omit<CountedLeaf, keyof Leaf> {
    const digest = createHash("sha256")
      .update(Buffer.from(this.#lines.join(""), "latin1"))
      .digest();
    return { files: this.#files, bytes: this.#bytes, lastSeq: this.#lastSeq, digest };
  }
}
