/** Ears that fail, close and come back: nothing stays degraded for ever, and nothing is called heard that was not. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { type Clock, type Timer, systemClock } from "../../src/base/clock.js";
import type { BytePath } from "../../src/base/paths.js";
import { RootWatch } from "../../src/monitor/root-watch.js";
import type { WatchListener } from "../../src/monitor/watch/native.js";
import { FakeClock } from "../support/fake-clock.js";
import { TempFolder } from "../support/temp-folder.js";
import { WatchBench } from "../support/watch-bench.js";
import { stopProcess } from "../support/stopped.js";

const NO_SWEEPS = { folderSweepMs: 3_600_000, fileSweepMs: 3_600_000 };

/** Ears of a root whose events and reconciles the test makes. */
class HandEars {
  readonly clock = new FakeClock();
  readonly reconciles: { readonly reason: string; readonly finish: () => void }[] = [];
  /** Folders for which it was to be listened anew, or `all`. */
  readonly rewatches: string[] = [];
  readonly rechecks: string[] = [];
  degraded: string | undefined;
  listener: WatchListener | undefined;
  readonly watch: RootWatch;

  constructor(folder: BytePath) {
    const native = {
      watch: (_root: BytePath, _shallow: boolean, listener: WatchListener) => {
        this.listener = listener;
        const note = (folders?: readonly BytePath[]): void => void this.rewatches.push(folders?.join(" ") ?? "all");
        return { rewatch: note, close: () => undefined };
      },
    };
    this.watch = new RootWatch(
      { folder, shallow: false, whole: true },
      { clock: this.clock, native, pollMs: 30_000 },
      {
        changed: () => undefined,
        reconcile: (_under, reason) => new Promise((finish) => this.reconciles.push({ reason, finish })),
        recheck: (folders) => void this.rechecks.push(folders.join(" ")),
        degraded: (reason) => (this.degraded = reason),
      },
    );
  }

  static async open(folder: BytePath): Promise<HandEars> {
    const ears = new HandEars(folder);
    const opened = ears.watch.open();
    ears.listener?.armed();
    await opened;
    return ears;
  }

  async finishReconcile(): Promise<void> {
    this.reconciles.shift()?.finish();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

describe("the ears of a root", () => {
  it("are no longer degraded once they are closed, whatever was wrong with them", async () => {
    await using folder = await TempFolder.create("ears");
    const ears = await HandEars.open(folder.bytes());
    ears.listener?.deaf("the watcher is late", false);
    expect(ears.degraded).to.equal("the watcher is late");
    ears.watch.close();
    expect(ears.degraded).to.equal(undefined);
  });

  it("stay degraded when they fail anew while it is looked what they had missed", async () => {
    await using folder = await TempFolder.create("ears");
    const ears = await HandEars.open(folder.bytes());
    ears.listener?.deaf("too much at once", true);
    ears.listener?.deaf("the watcher process ended", false);
    await ears.finishReconcile();
    expect(ears.degraded).to.equal("the watcher process ended");
    ears.listener?.armed();
    expect(ears.reconciles, "what the dead watcher missed is looked for").to.have.length(1);
    await ears.finishReconcile();
    expect(ears.degraded).to.equal(undefined);
  });

  it("do not take the end of an old trouble for the end of a new one after they were opened again", async () => {
    await using folder = await TempFolder.create("ears");
    const ears = await HandEars.open(folder.bytes());
    ears.listener?.deaf("too much at once", true);
    ears.watch.close();
    const opened = ears.watch.open();
    ears.listener?.deaf("no space for watches", false);
    await opened;
    await ears.finishReconcile();
    expect(ears.degraded).to.equal("no space for watches");
  });

  it("are set anew for the folders that came, and again for what came while they were set", async () => {
    await using folder = await TempFolder.create("ears");
    const ears = await HandEars.open(folder.bytes());
    const [first, second] = [folder.bytes("first"), folder.bytes("second")];
    ears.watch.foundUnwatched(first);
    await ears.clock.advance(200);
    ears.watch.foundUnwatched(second);
    expect([ears.rewatches, ears.rechecks]).to.deep.equal([[first], []]);
    ears.listener?.armed();
    expect(ears.rechecks).to.deep.equal([first]);
    expect(ears.watch.doubt, "the second may hold folders that nobody watches").to.include("about to be watched");
    await ears.clock.advance(200);
    ears.listener?.armed();
    expect([ears.rewatches, ears.rechecks]).to.deep.equal([
      [first, second],
      [first, second],
    ]);
    expect(ears.watch.doubt).to.equal(undefined);
  });

  it("are tried again after 1 s and then ever more rarely when they cannot be had", async () => {
    await using folder = await TempFolder.create("ears");
    const ears = await HandEars.open(folder.bytes());
    const waits: number[] = [];
    for (let round = 0; round < 7; round += 1) {
      const before = ears.rewatches.length;
      ears.listener?.deaf("Bad file descriptor", false);
      for (waits.push(0); ears.rewatches.length === before; waits.push((waits.pop() ?? 0) + 500))
        await ears.clock.advance(500);
    }
    expect(waits).to.deep.equal([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  });
});

describe("a root that goes while its ears are in trouble", () => {
  it("is protected again when it is back, though nobody told that the trouble was over", async () => {
    await using bench = await WatchBench.create({ times: { ...NO_SWEEPS, rootCheckMs: 200 } });
    await bench.folder.write("root/file.txt", "one");
    await bench.protect({}, { paths: [bench.folder.bytes("root")] });
    await bench.quiet();
    const state = (): string | undefined => bench.monitor.status()[0]?.state;
    const pid = bench.monitor.watcherPid ?? 0;
    await stopProcess(pid);
    await bench.until("degraded", () => state() === "degraded");
    renameSync(bench.folder.at("root"), bench.folder.at("away"));
    await bench.until("gone", () => state() === "root_gone");
    process.kill(pid, "SIGCONT");
    renameSync(bench.folder.at("away"), bench.folder.at("root"));
    await bench.until("protected", () => state() === "protected", 5000);
    bench.clear();
    writeFileSync(bench.folder.at("root/file.txt"), "two");
    await bench.until("the change is heard", () => bench.paths("file.changed").includes("root/file.txt"), 5000);
  });

  it("is heard again when it was renamed away and back between two looks", async () => {
    await using bench = await WatchBench.create({ times: { ...NO_SWEEPS, rootCheckMs: 3_600_000 } });
    const file = await bench.folder.write("root/file.txt", "one");
    await bench.protect({}, { paths: [bench.folder.bytes("root")] });
    await bench.quiet();
    renameSync(bench.folder.at("root"), bench.folder.at("away"));
    renameSync(bench.folder.at("away"), bench.folder.at("root"));
    await bench.quiet(1500);
    bench.clear();
    writeFileSync(file, "two, and no sweep to find it");
    await bench.until("the change is heard", () => bench.paths("file.changed").includes("root/file.txt"), 5000);
  });
});

describe("the watcher's process", () => {
  it("ends also when the daemon went while it began", async () => {
    const child = fork(fileURLToPath(new URL("../../src/monitor/watch/child.js", import.meta.url)));
    const ended = once(child, "exit");
    child.disconnect(); // long before its first line runs
    const [, signal] = (await ended) as [number | null, string | null];
    expect(signal).to.equal("SIGKILL");
  });
});

describe("the first look", () => {
  it("is told as such from the first moment on, and only its end is protection", async () => {
    await using bench = await WatchBench.create();
    await bench.folder.write("file.txt", "one");
    const states = new Set<string | undefined>();
    const added = bench.protect();
    let isDone = false;
    const done = added.then(() => (isDone = true));
    while (!isDone as boolean) {
      states.add(bench.monitor.status()[0]?.state);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    await done;
    states.delete(undefined);
    expect([...states]).to.have.ordered.members(["scanning", "protected"].slice(0, states.size));
    expect(bench.monitor.status()[0]?.state).to.equal("protected");
  });

  it("leaves no timer behind when its source is taken away meanwhile", async () => {
    const running = new Set<number>();
    let next = 0;
    const clock: Clock = {
      ...systemClock,
      every: (ms, callback): Timer => {
        const id = next++;
        const timer = systemClock.every(ms, callback);
        running.add(id);
        return {
          cancel: () => {
            running.delete(id);
            timer.cancel();
          },
        };
      },
    };
    await using bench = await WatchBench.create({ clock });
    for (let index = 0; index < 200; index += 1) await bench.folder.write(`d${String(index)}/file.txt`, "x");
    const added = bench.protect().then(
      () => "added",
      () => "interrupted",
    );
    await bench.until("the look has begun", () => bench.monitor.status().length === 1);
    await bench.monitor.removeSource("data");
    expect(await added).to.equal("interrupted");
    await bench.monitor[Symbol.asyncDispose]();
    expect(running).to.have.lengthOf(0);
  });
});
