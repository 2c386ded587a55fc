/** Deletions of very many files: what is spared while they are looked at, and what is told of those that take long. */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { MissingFolders } from "../../src/monitor/missing.js";
import { FakeClock } from "../support/fake-clock.js";
import { WatchBench } from "../support/watch-bench.js";

const NEVER_MS = 3_600_000;
const FILES = 300;

/** Files of a source that nobody hears; `takeAway` deletes one and has it looked at, as an event would. */
async function silentBench(clock: FakeClock): Promise<{ bench: WatchBench; takeAway: (name: number) => void }> {
  const times = { folderSweepMs: NEVER_MS, fileSweepMs: NEVER_MS, pollMs: NEVER_MS };
  const bench = await WatchBench.create({ clock, nativeEvents: false, times });
  for (let index = 0; index < FILES; index += 1) await bench.folder.write(String(index), "x");
  await bench.protect();
  await clock.advanceUntil(() => bench.monitor.status()[0]?.files === FILES);
  bench.clear();
  const takeAway = (name: number): void => {
    unlinkSync(bench.folder.at(String(name)));
    bench.monitor.ownWriteStands(bench.folder.bytes(String(name)));
  };
  return { bench, takeAway };
}

/** A hundred files at once, then one after another, each within the grace of the one before, for a little over a minute. */
async function takeAwayForAMinute(clock: FakeClock, takeAway: (name: number) => void): Promise<number> {
  let name = 0;
  while (name < 100) takeAway(name++);
  for (let passedMs = 0; passedMs < 61_000; passedMs += 400) {
    takeAway(name++);
    await clock.advance(400);
  }
  return name;
}

describe("a deletion of very many files", () => {
  it("that takes minutes is told while it goes on, with its end", async () => {
    const clock = new FakeClock();
    const { bench, takeAway } = await silentBench(clock);
    await using _bench = bench;
    const told = (): readonly boolean[] => bench.events("mass.loss").map(({ goesOn }) => goesOn === true);
    let next = await takeAwayForAMinute(clock, takeAway);
    await bench.until("the first of it", () => told().length === 1);
    for (let more = 0; more < 10; more += 1) {
      takeAway(next++);
      await clock.advance(400);
    }
    expect(told()).to.deep.equal([true]);
    await clock.advance(2000);
    await bench.until("the rest", () => told().length === 2);
    expect(told()).to.deep.equal([true, false]);
    const paths = bench.events("mass.loss").flatMap(({ losses }) => losses.map(({ path }) => path));
    expect([paths.length, new Set(paths).size, bench.losses]).to.deep.equal([next, next, []]);
  });

  it("has its end told also when nothing more went", async () => {
    const clock = new FakeClock();
    const { bench, takeAway } = await silentBench(clock);
    await using _bench = bench;
    const next = await takeAwayForAMinute(clock, takeAway);
    const told = (): readonly boolean[] => bench.events("mass.loss").map(({ goesOn }) => goesOn === true);
    await bench.until("the first of it", () => told().length === 1);
    for (let index = 100; index < next; index += 1) writeFileSync(bench.folder.at(String(index)), "x"); // all is back
    await clock.advance(1000);
    await bench.until("the end", () => told().length === 2);
    expect(told()).to.deep.equal([true, false]);
  });

  it("is looked at by its folders, and what is there again is looked at anew", async () => {
    await using bench = await WatchBench.create();
    for (let index = 0; index < 200; index += 1) await bench.folder.write(`d/${String(index)}`, "x");
    await bench.folder.write("stays", "x");
    await bench.protect({ graceMs: 60_000 });
    await bench.quiet();
    bench.clear();
    rmSync(bench.folder.at("d"), { recursive: true });
    await bench.until("it is missed", () => (bench.monitor.status()[0]?.pending ?? 0) > 200);
    mkdirSync(bench.folder.at("d"));
    for (let index = 0; index < 200; index += 1) writeFileSync(bench.folder.at(`d/${String(index)}`), "other content");
    // Long before the grace of a minute is over.
    await bench.until(
      "the changes",
      () => new Set(bench.paths("file.changed").filter((path) => path !== "d")).size === 200,
    );
    await bench.until("nothing is missed any more", () => bench.monitor.status()[0]?.pending === 0);
    expect([bench.losses, bench.events("mass.loss"), bench.paths("file.removed")]).to.deep.equal([[], [], []]);
  });

  it("knows a folder as missing only until others had a turn", async () => {
    await using bench = await WatchBench.create({ nativeEvents: false });
    const [gone, there] = [bench.folder.bytes("gone"), bench.folder.bytes()];
    const folders = new MissingFolders();
    expect([folders.has(gone), folders.isNewlyMissing(gone), folders.has(gone)]).to.deep.equal([false, true, true]);
    expect([folders.isNewlyMissing(gone), folders.isNewlyMissing(there), folders.has(there)]).to.deep.equal([
      false,
      false,
      false,
    ]);
    mkdirSync(bench.folder.at("gone"));
    folders.forget();
    expect([folders.has(gone), folders.isNewlyMissing(gone)]).to.deep.equal([false, false]);
  });
});

describe("a loss", () => {
  it("was seen when the watcher heard of it, however late the daemon comes to it", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("gone.txt", "x");
    await bench.protect();
    await bench.quiet();
    execFileSync("bash", ["-c", 'rm "$0"; sleep 2', file]); // holds up this process, which is the daemon here
    const lateMs = systemClock.nowMs();
    await bench.until("the loss", () => bench.losses.length > 0);
    expect(bench.losses[0]?.seenAtMs).to.be.below(lateMs - 500);
  });
});
