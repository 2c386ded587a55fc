/** Where chunks lie: counted right while they are taken in, so that the next start need not count again. */
import { expect } from "chai";
import { sha256Of } from "../../src/engine/commit-log.js";
import { ChunkIndex } from "../../src/engine/index/chunk-index.js";
import type { IndexedPack } from "../../src/engine/index/fragments.js";
import { type LevelOperation, LevelStore } from "../../src/engine/index/level-store.js";
import type { ChunkId } from "../../src/engine/types.js";
import { ChunkSet } from "../../src/engine/workers/chunk-set.js";
import { useTempFolder } from "../support/temp-folder.js";

const idOf = (name: string): ChunkId => sha256Of(Buffer.from(name)) as ChunkId;

function packOf(name: string, chunks: readonly string[]): IndexedPack {
  const entries = chunks.map((chunk, index) => ({
    ...{ type: "chunk" as const, id: idOf(chunk), plainBytes: 100 },
    ...{ offsetBytes: 64 + index * 200, recordBytes: 200 },
  }));
  return { kind: "d", sha256: sha256Of(Buffer.from(name)), sizeBytes: 1000, entries };
}

describe("the index of chunks", () => {
  const folder = useTempFolder("chunk-index");

  async function opened(): Promise<{ readonly level: LevelStore; readonly index: ChunkIndex; readonly set: ChunkSet }> {
    const level = await LevelStore.open(folder().at("index"));
    const [index, set] = [new ChunkIndex(level), new ChunkSet()];
    await index.load();
    await index.fill(set);
    return { level, index, set };
  }

  it("counts a chunk once that two packs of one round hold, keeps both places, and leaves notes of it", async () => {
    const { level, index, set } = await opened();
    const operations: LevelOperation[] = [];
    const wasKnown = (id: ChunkId): boolean => set.addDurable(id);
    for (const pack of [packOf("one", ["a", "b"]), packOf("two", ["b", "c"])])
      index.putPack(operations, pack, "", { wasKnown });
    await level.write(operations);
    const expected = { chunks: 3, uniqueBytes: 300, suspectChunks: 0 };
    expect(index.counts).to.deep.equal(expected);
    expect(index.locations(idOf("b"))).to.have.length(2);
    await level[Symbol.asyncDispose]();

    const again = await opened();
    expect(again.level.notes, "notes of the last close").to.not.equal(undefined);
    expect(again.index.counts).to.deep.equal(expected);
    expect(["a", "b", "c"].map((name) => again.set.isDurable(idOf(name)))).to.deep.equal([true, true, true]);
    await again.level[Symbol.asyncDispose]();
  });
});
