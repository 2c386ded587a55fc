/** What appeared lately: an inode came no later than it was last changed, however late a look met it. */
import { type BigIntStats, lstatSync, utimesSync } from "node:fs";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
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

  it("are forgotten after two minutes though nothing else comes", async () => {
    const stats = lstatSync(await folder().write("came", "four"), { bigint: true });
    const [arrivals, clock] = [new Arrivals(), new FakeClock()];
    arrivals.note(folder().bytes("came"), stats, clock);
    const isKept = (): boolean => arrivals.mayConcern(folder().bytes("gone"), { dev: 1n, ino: 1n, sizeBytes: 4 });
    await clock.advance(119 * SECOND_MS);
    arrivals.forgetOld(clock.monotonicMs());
    expect(isKept()).to.equal(true);
    await clock.advance(2 * SECOND_MS);
    arrivals.forgetOld(clock.monotonicMs());
    expect([isKept(), arrivals.byInode(stats.dev, stats.ino)]).to.deep.equal([false, undefined]);
  });

  describe("concern a missing path", () => {
    const CLOCK = new FakeClock();
    const place = (name: string): BytePath => folder().bytes(name);

    /** What arrived at `came`, of four bytes, and the stat of something else that went missing. */
    async function after(came: string): Promise<{ readonly arrivals: Arrivals; readonly came: BigIntStats }> {
      const arrivals = new Arrivals();
      const stats = lstatSync(await folder().write(came, "four"), { bigint: true });
      arrivals.note(place(came), stats, CLOCK);
      return { arrivals, came: stats };
    }

    it("when they have its size, its folder or its inode, and else not", async () => {
      const { arrivals, came } = await after("here/new");
      const other = { dev: came.dev, ino: came.ino + 1n, sizeBytes: 5 };
      expect(arrivals.mayConcern(place("there/old"), other)).to.equal(false);
      expect(arrivals.mayConcern(place("there/old"), { ...other, sizeBytes: 4 })).to.equal(true);
      expect(arrivals.mayConcern(place("here/old"), other)).to.equal(true);
      expect(arrivals.mayConcern(place("there/old"), { ...other, ino: came.ino })).to.equal(true);
    });

    it("when what stood there went on, or its inode went from elsewhere", async () => {
      const { arrivals, came } = await after("first/new");
      const other = { dev: came.dev, ino: came.ino + 1n, sizeBytes: 5 };
      arrivals.note(place("second/new"), came, CLOCK);
      expect(arrivals.mayConcern(place("first/new"), other)).to.equal(true);
      arrivals.departed(place("second/new"), came);
      const same = { ...other, ino: came.ino };
      expect(arrivals.mayConcern(place("third/old"), same)).to.equal(true);
      expect(arrivals.mayConcern(place("second/new"), same)).to.equal(false);
    });

    it("no more when they are gone again", async () => {
      const { arrivals, came } = await after("here/new");
      const stats = lstatSync(await folder().write("here/more", "four"), { bigint: true });
      arrivals.note(place("here/more"), stats, CLOCK);
      arrivals.departed(place("here/new"), came);
      const other = { dev: came.dev, ino: came.ino + 1_000_000n, sizeBytes: 4 };
      expect(arrivals.mayConcern(place("here/old"), other)).to.equal(true);
      arrivals.departed(place("here/more"), stats);
      expect(arrivals.mayConcern(place("here/old"), other)).to.equal(false);
    });
  });
});
