/** The table of stored chunks, as the main thread writes it and workers read it. */
import { createHash } from "node:crypto";
import { expect } from "chai";
import fc from "fast-check";
import type { ChunkId } from "../../src/engine/types.js";
import { ChunkSet, ChunkSetReader } from "../../src/engine/workers/chunk-set.js";

function idOf(number: number): ChunkId {
  return createHash("sha256").update(String(number)).digest("hex") as ChunkId;
}

describe("chunk set", () => {
  it("knows what is durable, through growth and removal, as a plain set would", () => {
    const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(300)), { maxLength: 3000 });
    fc.assert(
      fc.property(steps, (sequence) => {
        const set = new ChunkSet();
        const model = new Set<number>();
        for (const [add, number] of sequence) {
          if (add) {
            set.addDurable(idOf(number));
            model.add(number);
          } else {
            expect(set.delete(idOf(number))).to.equal(model.delete(number));
          }
        }
        expect(set.size).to.equal(model.size);
        for (let number = 0; number <= 300; number += 1)
          expect(set.isDurable(idOf(number))).to.equal(model.has(number));
      }),
      { numRuns: 30 },
    );
  });

  it("holds many", () => {
    const set = new ChunkSet();
    for (let number = 0; number < 50_000; number += 1) set.addDurable(idOf(number));
    expect(set.size).to.equal(50_000);
    const reader = new ChunkSetReader(set.buffer, set.newJob());
    for (let number = 0; number < 60_000; number += 1) expect(reader.has(idOf(number))).to.equal(number < 50_000);
  });

  it("lets a job rely on its own pending chunks, and others not", () => {
    const set = new ChunkSet();
    const [mine, other] = [set.newJob(), set.newJob()];
    set.addPending(Buffer.from(idOf(1), "hex"), mine);
    expect(set.isDurable(idOf(1))).to.equal(false);
    expect(new ChunkSetReader(set.buffer, mine).has(idOf(1))).to.equal(true);
    expect(new ChunkSetReader(set.buffer, other).has(idOf(1))).to.equal(false);
  });

  it("makes a job's chunks durable when it is confirmed, and drops them when it is abandoned", () => {
    const set = new ChunkSet();
    const [good, bad] = [set.newJob(), set.newJob()];
    set.addDurable(idOf(1));
    set.addPending(Buffer.from(idOf(1), "hex"), bad);
    set.addPending(Buffer.from(idOf(2), "hex"), good);
    set.addPending(Buffer.from(idOf(2), "hex"), bad);
    set.addPending(Buffer.from(idOf(3), "hex"), bad);
    set.abandonJob(bad);
    set.confirmJob(good);
    expect([1, 2, 3].map((number) => set.isDurable(idOf(number)))).to.deep.equal([true, true, false]);
    expect(set.size).to.equal(2);
  });

  it("is read through an old table after it grew: what was there is found, the rest is taken for new", () => {
    const set = new ChunkSet();
    set.addDurable(idOf(1));
    const reader = new ChunkSetReader(set.buffer, set.newJob());
    for (let number = 2; number < 20_000; number += 1) set.addDurable(idOf(number));
    expect(reader.has(idOf(1))).to.equal(true);
    expect(reader.has(idOf(19_999))).to.equal(false);
  });
});
