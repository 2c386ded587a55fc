/** What appeared lately: an inode came no later than it was last changed, however late a look met it. */
import { lstatSync, utimesSync } from "node:fs";
import { expect } from "chai";
import { Arrivals } from "../../src/monitor/intent/arrivals.js";
import { FakeClock } from "../support/fake-clock.js";
import { useTempFolder } from "../support/temp-folder.js";

const SECOND_MS = 1000;

describe("arrivals", () => {
  const folder = useTempFolder("arrivals");

  async function noted(lateMs: number): Promise<(afterMs: number) => number> {
    const path = await folder().write("twin", "the same content");
    const stats = lstatSync(path, { bigint: true });
    const arrivals = new Arrivals();
    const changedMs = Number(stats.ctimeNs / 1_000_000n);
    arrivals.note(folder().bytes("twin"), stats, new FakeClock(), changedMs + lateMs);
    return (afterMs) => [...arrivals.bySize(Number(stats.size), changedMs + afterMs)].length;
  }

  it("that a first look meets late were there when they were last changed", async () => {
    const countAfter = await noted(60 * SECOND_MS);
    expect([countAfter(-SECOND_MS), countAfter(SECOND_MS)]).to.deep.equal([1, 0]);
  });

  it("that an earlier run of the daemon saw came then", async () => {
    const countAfter = await noted(-60 * SECOND_MS);
    expect([countAfter(-61 * SECOND_MS), countAfter(-SECOND_MS)]).to.deep.equal([1, 0]);
  });

  it("are newcomers whatever their own time of modification says", async () => {
    const path = await folder().write("copied", "copied with its times");
    utimesSync(path, 1, 1);
    const stats = lstatSync(path, { bigint: true });
    const arrivals = new Arrivals();
    const changedMs = Number(stats.ctimeNs / 1_000_000n);
    arrivals.note(folder().bytes("copied"), stats, new FakeClock(), changedMs);
    expect([...arrivals.bySize(Number(stats.size), changedMs - SECOND_MS)]).to.have.length(1);
  });
});
