/** What a source says of itself before a backup: whatever may differ from what is stored is named, or there is a doubt. */
import { writeFileSync } from "node:fs";
import { expect } from "chai";
import { type BytePath, joinPath, pathBytes } from "../../src/base/paths.js";
import type { Currency } from "../../src/monitor/currency.js";
import { systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import { NativeWatcher } from "../../src/monitor/watch/native.js";
import { useTempFolder } from "../support/temp-folder.js";
import { WatchBench } from "../support/watch-bench.js";

const NO_SWEEPS = { times: { folderSweepMs: 600_000, fileSweepMs: 600_000 } };

/** True when a backup made with this would have the path as it stands there. */
function isHeeded(currency: Currency, path: BytePath): boolean {
  return currency.is === "doubtful" || currency.standing.some((each) => each.path === path);
}

describe("whether what is stored of a source is what stands there", () => {
  /** Watched, all durable, and walked by a backup. */
  async function known(bench: WatchBench): Promise<void> {
    await bench.protect();
    await bench.quiet();
    const before = await bench.monitor.currency("data");
    before.backedUp({ isWhole: true, isComplete: true });
    expect(await bench.monitor.currency("data")).to.include({ is: "current" });
  }

  it("waits for a look into a folder that is under way, since what is new in it is found last", async () => {
    await using bench = await WatchBench.create(NO_SWEEPS);
    for (let index = 0; index < 1000; index += 1) await bench.folder.write(`full/${String(index)}`, "x");
    await known(bench);
    for (let round = 0; round < 5; round += 1) {
      // A name that is no text is told as a change of its folder.
      const path = joinPath(bench.folder.bytes("full"), `\xff${String(round)}`);
      writeFileSync(pathBytes(path), "new");
      const currency = await bench.monitor.currency("data");
      // On a slow machine it has rested meanwhile and is stored.
      const isStored = bench.monitor.registry.get("data", path)?.state === "live";
      expect(isStored || isHeeded(currency, path), `round ${String(round)}`).to.equal(true);
    }
  });

  it("names a changed file that could not be read when it was to be made durable", async () => {
    await using bench = await WatchBench.create({ ...NO_SWEEPS, commits: false });
    await bench.folder.write("file", "old");
    await bench.protect();
    await bench.until("the first version", () => bench.paths("file.changed").includes("file"));
    const path = bench.folder.bytes("file");
    const entry = bench.repository.store("data", path);
    if (entry === undefined) throw new Error("the file is not there");
    const times = { seq: 0, timeMs: 0, readFromMs: 0 };
    const nothing = { ...times, stored: [], unchanged: [], removed: [], unreadable: [], vanished: [] };
    bench.monitor.recordDurable("data", { ...nothing, stored: [entry] });
    (await bench.monitor.currency("data")).backedUp({ isWhole: true, isComplete: true });
    bench.clear();
    writeFileSync(bench.folder.at("file"), "newer");
    await bench.until("the change", () => bench.paths("file.changed").includes("file"));
    bench.monitor.recordDurable("data", { ...nothing, unreadable: [{ path, errno: "EIO" }] });
    expect(isHeeded(await bench.monitor.currency("data"), path)).to.equal(true);
  });
});

describe("the watcher's count of floods", () => {
  const folder = useTempFolder("floods");

  async function floodsOf(native: NativeWatcher): Promise<number> {
    for (;;) {
      const floods = await native.fence();
      if (floods !== undefined) return floods;
      await systemClock.sleep(10, new AbortController().signal);
    }
  }

  it("stays while nothing happens, and is never again what it was with an earlier child", async () => {
    const options = { clock: systemClock, log: silentObserver.log, pulseFolder: folder().at("pulse") };
    await using native = new NativeWatcher(options);
    const before = await floodsOf(native);
    expect(await floodsOf(native)).to.equal(before);
    const pid = native.childPid;
    if (pid === undefined) throw new Error("no watcher");
    process.kill(pid, "SIGKILL");
    while (native.childPid === pid) await systemClock.sleep(5, new AbortController().signal);
    expect(await floodsOf(native)).to.be.greaterThan(before);
  });
});
