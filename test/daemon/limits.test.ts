/** What a memory limit means for the parts. */
import { availableParallelism } from "node:os";
import { expect } from "chai";
import { changesWithin, workersWithin } from "../../src/daemon/limits.js";
import { PENDING_PATHS_MAX } from "../../src/policy/change-queue.js";

const MIB = 2 ** 20;

describe("the memory limit", () => {
  it("leaves the default alone", () => {
    const limits = { memoryBytes: 1024 * MIB, workers: undefined };
    expect(workersWithin(limits)).to.equal(Math.min(availableParallelism(), 4));
    expect(changesWithin(limits)).to.equal(PENDING_PATHS_MAX);
  });

  it("allows fewer workers and fewer remembered changes where memory is short, and always one", () => {
    expect(workersWithin({ memoryBytes: 512 * MIB, workers: 16 })).to.equal(3);
    expect(workersWithin({ memoryBytes: 64 * MIB, workers: 16 })).to.equal(1);
    expect(changesWithin({ memoryBytes: 64 * MIB, workers: 1 })).to.equal(8 * 1024);
    expect(changesWithin({ memoryBytes: 1, workers: 1 })).to.equal(1);
  });

  it("never gives more workers than are asked for", () => {
    expect(workersWithin({ memoryBytes: 64 * 1024 * MIB, workers: 3 })).to.equal(3);
  });
});
