/** What happens to files while the storage under them comes and goes: nothing of it is a loss, and nothing a change. */
import { mkdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { Level } from "level";
import { systemClock } from "../../src/base/clock.js";
import { Semaphore } from "../../src/base/concurrency.js";
import { EventBus } from "../../src/base/events.js";
import { silentObserver } from "../../src/base/observe.js";
import { type SharedParts, SourceContext, monitorMetrics } from "../../src/monitor/context.js";
import { Arrivals } from "../../src/monitor/intent/arrivals.js";
import { GitKnowledge } from "../../src/monitor/intent/git.js";
import { OwnWriteLedger } from "../../src/monitor/ledger.js";
import { type LossHooks, LossJudge } from "../../src/monitor/losses.js";
import { Pauses } from "../../src/monitor/pauses.js";
import { type DatedRecord, monitorSublevel } from "../../src/monitor/registry.js";
import { StartScans } from "../../src/monitor/start-scans.js";
import { FileValidation } from "../../src/monitor/validation.js";
import { FileSource } from "../../src/sources/files.js";
import { LoopDisk } from "../support/loop-disk.js";
import { requireRoot } from "../support/requirements.js";
import { type BenchOptions, WatchBench } from "../support/watch-bench.js";

/** Nobody looks at roots and mounts by the clock: whoever gives a verdict has to. */
const NO_CHECKS = { rootCheckMs: 3_600_000, folderSweepMs: 300, fileSweepMs: 600 };
/** Two sweeps of all files and a grace after each have passed then. */
const SWEEPS_MS = 2500;
/** Nobody but the judge that is asked hears of anything. */
const ALONE: BenchOptions = {
  nativeEvents: false,
  times: { folderSweepMs: 600_000, fileSweepMs: 600_000, pollMs: 600_000 },
};
const CALM: Omit<LossHooks, "takesDeparture"> = {
  grounds: () => () => ({ is: "sound" }),
  lookAgain: () => undefined,
  isLookedThrough: () => true,
  isStarting: () => false,
  awaitRemoval: () => undefined,
  isCatchingUp: () => false,
  survey: () => Promise.resolve(),
  isAttacked: () => false,
};
const WHOLE = { exclude: ["lost+found/"], crossMounts: true };

describe("the ground under protected files", () => {
  beforeEach(function () {
    requireRoot(this);
  });

  it("is looked at after the files: what goes with it between the two looks is no loss", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("file.txt", "x");
    await bench.protect();
    await bench.quiet();
    const told: string[] = [];
    const bus = new EventBus(() => undefined);
    bus.on("file.lost", ({ path }) => told.push(path));
    let looks = 0;
    const judge = new LossJudge(await contextOf(bench, bus), {
      ...CALM,
      grounds: () => {
        looks += 1;
        rmSync(file, { force: true }); // as if the storage went in this moment
        return () => ({ is: "sound" });
      },
      takesDeparture: () => Promise.resolve(false),
    });
    judge.add(bench.folder.bytes("file.txt"), knownOf(bench, "file.txt"), { noticedBy: "event", seenAtMs: 0 });
    await bench.until("it is judged", () => looks > 0);
    await judge.stop();
    expect(told).to.deep.equal([]);
  });

  it("lets a loss be told once, though it is found again while it is judged", async () => {
    await using bench = await WatchBench.create(ALONE);
    const file = await bench.folder.write("file.txt", "x");
    const path = bench.folder.bytes("file.txt");
    await bench.protect();
    await bench.quiet();
    const told: string[] = [];
    const bus = new EventBus(() => undefined);
    bus.on("file.lost", (event) => told.push(event.path));
    const known = knownOf(bench, "file.txt");
    const judge = new LossJudge(await contextOf(bench, bus), {
      ...CALM,
      takesDeparture: () => {
        judge.add(path, known, { noticedBy: "sweep", seenAtMs: 0 });
        return Promise.resolve(false);
      },
    });
    rmSync(file);
    judge.add(path, known, { noticedBy: "event", seenAtMs: 0 });
    await bench.until("it is told", () => told.length > 0);
    await delay(1500); // a second verdict would have come after another grace
    await judge.stop();
    expect(told).to.deep.equal([path]);
  });

  it("lets a file that comes back while it is judged be neither told nor marked", async () => {
    await using bench = await WatchBench.create(ALONE);
    const file = await bench.folder.write("file.txt", "x");
    const path = bench.folder.bytes("file.txt");
    await bench.protect();
    await bench.quiet();
    const told: string[] = [];
    const bus = new EventBus(() => undefined);
    bus.on("file.lost", (event) => told.push(event.path));
    const known = knownOf(bench, "file.txt");
    let isBack = false;
    const judge = new LossJudge(await contextOf(bench, bus), {
      ...CALM,
      takesDeparture: () => {
        writeFileSync(file, "x");
        judge.present(path);
        isBack = true;
        return Promise.resolve(false);
      },
    });
    rmSync(file);
    judge.add(path, known, { noticedBy: "event", seenAtMs: 0 });
    await bench.until("it is back", () => isBack);
    await bench.until("it is judged", () => judge.isAtRest);
    await judge.stop();
    expect(told).to.deep.equal([]);
    expect(bench.monitor.registry.get("data", path)?.state).to.equal("live");
  });

  it("judges by what is known of a file now, not when it was missed", async () => {
    await using bench = await WatchBench.create(ALONE);
    await bench.folder.write("file.txt", "x");
    const path = bench.folder.bytes("file.txt");
    await bench.protect();
    await bench.quiet();
    const told: string[] = [];
    const departed: (string | undefined)[] = [];
    const bus = new EventBus(() => undefined);
    bus.on("file.lost", (event) => told.push(event.path));
    const known = knownOf(bench, "file.txt");
    const judge = new LossJudge(await contextOf(bench, bus), {
      ...CALM,
      takesDeparture: ({ record }) => {
        departed.push(record.sha256);
        return false;
      },
    });
    rmSync(bench.folder.at("file.txt"));
    judge.add(path, known, { noticedBy: "event", seenAtMs: 0 });
    const sha256 = "cd".repeat(32);
    bench.monitor.registry.put("data", path, { ...known.record, sha256 }); // a version that was under way is durable
    await bench.until("it is told", () => told.length > 0);
    judge.add(path, known, { noticedBy: "sweep", seenAtMs: 0 }); // by who had read it before it was told
    await bench.until("it is judged", () => judge.isAtRest);
    await judge.stop();
    expect([told, departed]).to.satisfy(() => told.length === 1 && departed.every((digest) => digest === sha256));
    expect(bench.monitor.registry.get("data", path)).to.include({ state: "lost", sha256 });
  });

  it("is away when its file system was unmounted, and what then stands there is nobody's change", async () => {
    await using bench = await WatchBench.create({ times: NO_CHECKS });
    await bench.folder.write("root/same.json", "");
    await bench.folder.write("root/other.txt", "never protected");
    await using disk = mounted(bench, "root");
    await bench.folder.write("root/same.json", '{"good": true}');
    await bench.folder.write("root/only.txt", "x");
    await bench.protect({}, { paths: [bench.folder.bytes("root")], exclude: ["lost+found/"] });
    await bench.quiet();
    bench.clear();
    unlinkSync(bench.folder.at("root/only.txt"));
    disk.unmount();
    await delay(SWEEPS_MS);
    expect(bench.monitor.status()[0]?.state).to.equal("root_gone");
    expect(bench.monitor.awayReasonOf(bench.folder.bytes("root/only.txt"))).to.contain("not mounted");
    expect((await bench.monitor.scan({}, bench.signal.signal)).findings).to.deep.equal([]);
    expect([bench.losses, bench.events("mass.loss"), bench.paths("file.changed")]).to.deep.equal([[], [], []]);
    disk.mount();
    // The first look at another mount than before still calls it away; the look that follows finds it there.
    bench.monitor.awayReasonOf(bench.folder.bytes("root/same.json"));
    expect(bench.monitor.awayReasonOf(bench.folder.bytes("root/same.json"))).to.equal(undefined);
    await bench.until("the loss that was one", () => bench.paths("file.lost").includes("root/only.txt"));
    await bench.quiet();
    expect(bench.losses).to.have.length(1);
  });

  it("below a source that reaches into other file systems is theirs, each for itself", async () => {
    await using bench = await WatchBench.create({ times: { ...NO_CHECKS, rootCheckMs: 200 } });
    mkdirSync(bench.folder.at("root/inner"), { recursive: true });
    await using disk = mounted(bench, "root/inner");
    await bench.folder.write("root/outer.txt", "outer");
    for (const name of ["lost", "kept"]) await bench.folder.write(`root/inner/${name}.txt`, name);
    await bench.protect({}, { ...WHOLE, paths: [bench.folder.bytes("root")] });
    await bench.quiet();
    unlinkSync(bench.folder.at("root/inner/lost.txt"));
    await bench.until("a loss on the inner one", () => bench.paths("file.lost").includes("root/inner/lost.txt"));
    bench.clear();
    disk.unmount();
    await bench.until("degraded", () => bench.monitor.status()[0]?.state === "degraded");
    expect(bench.monitor.status()[0]?.reason).to.contain("not mounted");
    unlinkSync(bench.folder.at("root/outer.txt"));
    await bench.until("a loss on the outer one", () => bench.paths("file.lost").includes("root/outer.txt"));
    await delay(SWEEPS_MS);
    expect(bench.paths("file.lost")).to.deep.equal(["root/outer.txt"]);
    await bench.close();
    await bench.open();
    await bench.protect({}, { ...WHOLE, paths: [bench.folder.bytes("root")] });
    await delay(SWEEPS_MS);
    const told = (): readonly string[] => [...new Set(bench.paths("file.lost"))]; // what is lost is told again at a start
    expect(told(), "a restart has not forgotten").to.deep.equal(["root/outer.txt"]);
    disk.mount();
    await bench.until("protected again", () => bench.monitor.status()[0]?.state === "protected");
    await bench.quiet(1000);
    expect(told()).to.have.members(["root/outer.txt", "root/inner/lost.txt"]);
    unlinkSync(bench.folder.at("root/inner/kept.txt"));
    await bench.until("a loss after its return", () => bench.paths("file.lost").includes("root/inner/kept.txt"));
  });

  it("that was mounted over the files of a source hides them, and they are no losses", async () => {
    await using bench = await WatchBench.create({ times: NO_CHECKS });
    await bench.folder.write("root/sub/hidden.txt", "x");
    await bench.protect({}, { ...WHOLE, paths: [bench.folder.bytes("root")] });
    await bench.quiet();
    bench.clear();
    await using disk = mounted(bench, "root/sub");
    await delay(SWEEPS_MS);
    expect([bench.losses, bench.events("mass.loss")]).to.deep.equal([[], []]);
    disk.unmount();
    writeFileSync(bench.folder.at("root/sub/hidden.txt"), "changed");
    await bench.until("it is seen again", () => bench.paths("file.changed").includes("root/sub/hidden.txt"));
  });
});

/** The parts of the bench's source, as a guard gives them to its judges, with a bus of their own. */
function knownOf(bench: WatchBench, name: string): DatedRecord {
  const known = bench.monitor.registry.read("data", bench.folder.bytes(name));
  if (known === undefined) throw new Error(`${name} is not registered`);
  return known;
}

async function contextOf(bench: WatchBench, bus: EventBus): Promise<SourceContext> {
  const shared: SharedParts = {
    clock: systemClock,
    log: silentObserver.log,
    bus,
    metrics: monitorMetrics(silentObserver),
    registry: bench.monitor.registry,
    known: bench.repository,
    ledger: new OwnWriteLedger(),
    pauses: await Pauses.open(monitorSublevel(new Level(bench.state.at("pauses"))), systemClock),
    validation: new FileValidation(systemClock, bench.state.at("inspect")),
    arrivals: new Arrivals(),
    startScans: new StartScans(systemClock),
    actors: undefined,
    stopAttacker: false,
    git: new GitKnowledge(() => 0),
    expectChange: () => undefined,
    walks: new Semaphore(1),
  };
  const source = new FileSource({ name: "data", paths: [bench.folder.bytes()] });
  return new SourceContext(shared, source, {}, bench.signal.signal);
}

/** A small file system mounted at a folder until the end of the test; the same one is mounted again. */
function mounted(bench: WatchBench, name: string): LoopDisk {
  return LoopDisk.make(bench.state.at("image"), bench.folder.at(name));
}
