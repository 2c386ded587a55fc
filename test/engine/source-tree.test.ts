/** Trees of a source that take over what did not change: the same, to the byte, as trees that are built whole. */
import { expect } from "chai";
import fc from "fast-check";
import { createHash } from "node:crypto";
import type { BytePath } from "../../src/base/paths.js";
import { EntryIndex } from "../../src/engine/index/entry-index.js";
import { LevelStore, type LevelOperation } from "../../src/engine/index/level-store.js";
import { type SourceTree, type TreeBase, buildSourceTree } from "../../src/engine/source-tree.js";
import type { DeltaChange } from "../../src/engine/tree/delta.js";
import type { ChunkId } from "../../src/engine/types.js";
import { UNLIMITED } from "../support/engine-rig.js";
import { TempFolder } from "../support/temp-folder.js";

const SOURCE = "data";
const ENTRIES = 1500;

/** An index of entries, changed as commits change it, and the nodes of its trees. */
class TreeBench implements AsyncDisposable {
  readonly nodes = new Set<ChunkId>();
  readonly entries: EntryIndex;
  stored = 0;
  readonly #folder: TempFolder;
  readonly #level: LevelStore;
  #seq = 0;

  private constructor(folder: TempFolder, level: LevelStore) {
    this.#folder = folder;
    this.#level = level;
    this.entries = new EntryIndex(level);
  }

  static async open(): Promise<TreeBench> {
    const folder = await TempFolder.create("source-tree");
    const level = await LevelStore.open(folder.at("index"));
    return new TreeBench(folder, level);
  }

  async commit(changes: readonly { readonly number: number; readonly kind: DeltaChange["kind"] }[]): Promise<void> {
    const seq = (this.#seq += 1);
    const operations: LevelOperation[] = [];
    const made = changes.map(({ number, kind }): DeltaChange => {
      const path = `/data/${String(number % 7)}/name-${String(number)}` as BytePath;
      if (kind === "remove") return { kind, path };
      const stat = { dev: 1n, ino: BigInt(number), sizeBytes: seq, mtimeNs: BigInt(seq), ctimeNs: 1n };
      const sha256 = createHash("sha256")
        .update(`${String(number)} ${String(seq)}`)
        .digest("hex");
      const node = { kind: "file", stat, mode: 0o644, uid: 0, gid: 0, linkCount: 1, sha256 } as const;
      return { kind, path, state: { node, timeMs: seq, seq } };
    });
    this.entries.apply(operations, { source: SOURCE, seq, timeMs: seq, changes: made });
    await this.#level.write(operations);
  }

  get seq(): number {
    return this.#seq;
  }

  async build(
    base: TreeBase | undefined,
    changedAfterSeq: number,
  ): Promise<{ readonly tree: SourceTree; readonly changed: number }> {
    const store = (bytes: Buffer): Promise<ChunkId> => {
      const id = createHash("sha256").update(bytes).digest("hex") as ChunkId;
      this.stored += 1;
      this.nodes.add(id);
      return Promise.resolve(id);
    };
    const ground = { entries: this.entries, isStored: (id: ChunkId) => this.nodes.has(id) };
    return await buildSourceTree(ground, { source: SOURCE, writer: { store }, base, changedAfterSeq }, UNLIMITED);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#level[Symbol.asyncDispose]();
    await this.#folder[Symbol.asyncDispose]();
  }
}

const changesArb = fc.uniqueArray(
  fc.record({ number: fc.nat(ENTRIES + 200), kind: fc.constantFrom("upsert" as const, "remove" as const) }),
  { selector: ({ number }) => number, minLength: 1, maxLength: 60 },
);

describe("a tree that takes over what did not change", () => {
  it("is the tree that is built whole, with the same counts", async () => {
    await using bench = await TreeBench.open();
    await bench.commit(Array.from({ length: ENTRIES }, (_, number) => ({ number, kind: "upsert" })));
    let { tree } = await bench.build(undefined, 0);
    await fc.assert(
      fc.asyncProperty(fc.array(changesArb, { minLength: 1, maxLength: 3 }), async (commits) => {
        const before = bench.seq;
        bench.entries.recent.begin(SOURCE, before);
        for (const changes of commits) await bench.commit(changes);
        const changed = bench.entries.recent.after(SOURCE, before);
        if (changed === undefined) throw new Error("the changes are not known");
        const taken = await bench.build({ leaves: tree.leaves, changed }, before);
        const whole = await bench.build(undefined, before);
        expect(taken).to.deep.equal(whole);
        bench.entries.recent.forgetThrough(SOURCE, bench.seq);
        ({ tree } = taken);
      }),
      { numRuns: 60 },
    );
  });

  it("costs what the changes cost", async () => {
    await using bench = await TreeBench.open();
    await bench.commit(Array.from({ length: 4000 }, (_, number) => ({ number, kind: "upsert" })));
    const { tree } = await bench.build(undefined, 0);
    bench.entries.recent.begin(SOURCE, bench.seq);
    const before = bench.seq;
    await bench.commit([{ number: 1234, kind: "upsert" }]);
    bench.stored = 0;
    const changed = bench.entries.recent.after(SOURCE, before) ?? [];
    const taken = await bench.build({ leaves: tree.leaves, changed }, before);
    expect(tree.leaves.length).to.be.greaterThan(15);
    expect(bench.stored).to.be.lessThan(5);
    expect(taken.changed).to.equal(1);
  });

  it("builds again what the store has no more", async () => {
    await using bench = await TreeBench.open();
    await bench.commit(Array.from({ length: ENTRIES }, (_, number) => ({ number, kind: "upsert" })));
    const { tree } = await bench.build(undefined, 0);
    bench.nodes.clear();
    const taken = await bench.build({ leaves: tree.leaves, changed: [] }, 0);
    expect(taken.tree.root).to.equal(tree.root);
    for (const { id } of tree.leaves) expect(bench.nodes.has(id)).to.equal(true);
  });

  it("is not attempted when more changed than is remembered", async () => {
    await using bench = await TreeBench.open();
    bench.entries.recent.begin(SOURCE, 0);
    const paths = Array.from({ length: 50_001 }, (_, number) => ({ path: `/data/${String(number)}` as BytePath }));
    bench.entries.recent.note(SOURCE, 1, paths);
    expect(bench.entries.recent.after(SOURCE, 0)).to.equal(undefined);
    bench.entries.recent.begin(SOURCE, 1);
    expect(bench.entries.recent.after(SOURCE, 0)).to.equal(undefined);
    expect(bench.entries.recent.after(SOURCE, 1)).to.deep.equal([]);
  });
});
