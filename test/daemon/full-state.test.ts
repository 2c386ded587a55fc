/** A state folder whose disk is full: losses are told all the same, and what is written when there is room stays. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { Level } from "level";
import { deferred } from "../../src/base/concurrency.js";
import { silentObserver } from "../../src/base/observe.js";
import { systemClock } from "../../src/base/clock.js";
import { closeStateDatabase, openStateDatabase } from "../../src/daemon/state-database.js";
import { isCompactable, leaveTornLogs } from "../../src/daemon/torn-log.js";
import { requireRoot, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";
import { WatchBench } from "../support/watch-bench.js";

const RECORDS = 40;
const PAGE_BYTES = 4096;
const DISK_BYTES_MAX = 17 * 2 ** 20;
/** Records of the registry: some more than wait before looks wait for them. */
const WAITING = 21_000;
/** Files that come at once: more than are looked at in one go. */
const BURST = 300;

/** A small file system; `fill` leaves no room in it, `free` makes some. */
class SmallDisk implements Disposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static mount(folder: string, sizeMib = 4): SmallDisk | undefined {
    const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${String(sizeMib)}m`, "tmpfs", folder]);
    return status === 0 ? new SmallDisk(folder) : undefined;
  }

  fill(): void {
    expect(() => writeFileSync(`${this.#folder}/filler`, Buffer.alloc(DISK_BYTES_MAX))).to.throw("ENOSPC");
  }

  /** All of it, or some bytes. */
  free(bytes?: number): void {
    const filler = `${this.#folder}/filler`;
    if (bytes === undefined) rmSync(filler);
    else truncateSync(filler, statSync(filler).size - bytes);
  }

  [Symbol.dispose](): void {
    execFileSync("umount", ["-l", this.#folder]);
  }
}

describe("a state folder whose disk is full", () => {
  const folder = useTempFolder("full-state");

  it("keeps what is written when there is room again, over the next start", async function () {
    requireRoot(this);
    using disk = SmallDisk.mount(folder().path) ?? skip(this, "a tmpfs cannot be mounted here");
    const open = async () => await openStateDatabase(folder().path, systemClock, silentObserver.log);
    const database = await open();
    const pauses = database.sublevel("pauses");
    await pauses.put("before", "1");
    disk.fill();
    let failures = 0;
    for (let index = 0; index < RECORDS; index += 1)
      await pauses.put(`full-${String(index)}`, "x".repeat(1000)).catch(() => (failures += 1));
    expect(failures).to.be.above(0);
    disk.free();
    const after = Array.from({ length: RECORDS }, (_none, index) => `after-${String(index)}`);
    for (const key of after) await pauses.put(key, "1");
    await closeStateDatabase(folder().path, database);
    const again = await open();
    const keys = await again.sublevel("pauses").keys().all();
    await closeStateDatabase(folder().path, again);
    expect(keys).to.include.members(["before", ...after]);
  });

  it("acknowledges nothing that a page of room does not keep, and takes writes when there is enough", async function () {
    requireRoot(this);
    using disk = SmallDisk.mount(folder().path) ?? skip(this, "a tmpfs cannot be mounted here");
    const open = async () => await openStateDatabase(folder().path, systemClock, silentObserver.log);
    const database = await open();
    const pauses = database.sublevel("pauses");
    const [kept, refused]: [string[], string[]] = [[], []];
    const put = async (name: string, value: string): Promise<void> => {
      for (let index = 0; index < RECORDS; index += 1) {
        const key = `${name}-${String(index)}`;
        const isKept = await pauses.put(key, value).then(
          () => true,
          () => false,
        );
        (isKept ? kept : refused).push(key);
      }
    };
    await put("before", "x".repeat(1000));
    disk.fill();
    await put("full", "x".repeat(1000));
    disk.free(PAGE_BYTES);
    await put("little", "1");
    expect(await pauses.keys().all()).not.to.include.members(refused.slice(-1));
    disk.free();
    await put("after", "1");
    await closeStateDatabase(folder().path, database);
    const again = await open();
    const keys = await again.sublevel("pauses").keys().all();
    await closeStateDatabase(folder().path, again);
    expect(keys).to.include.members(kept);
    expect(kept.filter((key) => key.startsWith("after-"))).to.have.length(RECORDS);
  });

  it("leaves the log again that a write tore while another was being left", async () => {
    const database = new Level<string, string>(folder().path);
    await database.open();
    if (!isCompactable(database)) throw new Error("no LevelDB");
    const [put, compact] = [database.put.bind(database), database.compactRange.bind(database)];
    const [begun, late] = [deferred<undefined>(), deferred<undefined>()];
    let compactions = 0;
    const compactRange = async (start: string, end: string): Promise<void> => {
      compactions += 1;
      begun.resolve(undefined);
      await late.promise;
      await compact(start, end);
    };
    const putOrTear = async (key: string, value: string): Promise<void> => {
      if (key === "late") await late.promise;
      if (value === "") throw new Error("no space left");
      await put(key, value);
    };
    Object.defineProperties(database, {
      compactRange: { value: compactRange },
      put: { value: putOrTear, configurable: true },
    });
    leaveTornLogs(database, silentObserver.log, () => true);
    const failing = ["late", "now"].map(async (key) => await database.put(key, "").catch(() => undefined));
    await failing[1];
    const first = database.put("first", "1");
    await begun.promise;
    late.resolve(undefined);
    await first;
    expect(compactions).to.equal(2);
    await database.put("second", "1");
    expect(compactions).to.equal(2);
    await database.close();
  });

  it("keeps no loss from being told and shows why it is degraded; all is written when there is room", async function () {
    requireRoot(this);
    await using bench = await WatchBench.create({ times: { rootCheckMs: 50 } });
    await bench.close();
    using disk = SmallDisk.mount(bench.state.path) ?? skip(this, "a tmpfs cannot be mounted here");
    await bench.open();
    for (let index = 100; index < 130; index += 1) await bench.folder.write(`f${String(index)}`, "a file");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    disk.fill();
    await bench.monitor.registry.writeNote("last block", "x".repeat(8000)).catch(() => undefined);
    await bench.folder.write("news", "what needs room to be noted");
    unlinkSync(bench.folder.at("f100"));
    await bench.until("the loss", () => bench.paths("file.lost").includes("f100"), 5000);
    await bench.until("it is shown", () => bench.monitor.status()[0]?.state === "degraded", 5000);
    expect(bench.monitor.status()[0]?.reason).to.contain("cannot be written");
    disk.free();
    await bench.until("it is over", () => bench.monitor.status()[0]?.state === "protected", 5000);
    await bench.monitor.registry.flush();
    expect(bench.monitor.registry.lostCount("data")).to.equal(1);
    expect(bench.faults.filter((fault) => fault.startsWith("watch.judge_failed")).length).to.be.below(5);
    await bench.close();
  });

  it("goes on looking when more waits to be written than is waited for elsewhere", async function () {
    requireRoot(this);
    await using bench = await WatchBench.create({ times: { rootCheckMs: 50 } });
    await bench.close();
    using disk = SmallDisk.mount(bench.state.path, 16) ?? skip(this, "a tmpfs cannot be mounted here");
    await bench.open();
    await bench.folder.write("known", "a file");
    await bench.protect();
    await bench.quiet(50);
    const { registry } = bench.monitor;
    const record = registry.get("data", bench.folder.bytes("known")) ?? expect.fail("it is not registered");
    disk.fill();
    for (let index = 0; index < WAITING; index += 1)
      registry.put("other", bench.folder.bytes(`w${String(index)}`), record);
    await registry.flush().catch(() => undefined);
    bench.clear();
    mkdirSync(folder().at("many"));
    for (let index = 0; index < BURST; index += 1) writeFileSync(folder().at(`many/f${String(index)}`), "together");
    renameSync(folder().at("many"), bench.folder.at("many"));
    await bench.until("all are looked at", () => bench.paths("file.changed").length >= BURST, 5000);
    unlinkSync(bench.folder.at("known"));
    await bench.until("the loss", () => bench.paths("file.lost").includes("known"), 5000);
    expect(bench.faults).to.deep.equal([]);
    disk.free();
    await bench.until("it is written", () => registry.notWritable === undefined, 5000);
    await registry.flush();
    await bench.close();
  });

  it("lets the sweeps find what came and went meanwhile, when there is room again", async function () {
    requireRoot(this);
    const times = { pollMs: 3_600_000, folderSweepMs: 3_600_000, fileSweepMs: 20 };
    await using bench = await WatchBench.create({ nativeEvents: false, times });
    await bench.close();
    using disk = SmallDisk.mount(bench.state.path, 16) ?? skip(this, "a tmpfs cannot be mounted here");
    await bench.open();
    await bench.folder.write("in/known", "a file");
    await bench.protect({ graceMs: 20 });
    await bench.quiet(50);
    const { registry } = bench.monitor;
    let passes = 0;
    const entries = registry.entries.bind(registry);
    registry.entries = (source, below) => {
      passes += 1;
      return entries(source, below);
    };
    const aPass = async (): Promise<void> => {
      const before = passes;
      await bench.until("a pass over everything", () => passes > before);
    };
    disk.fill();
    await registry.writeNote("last block", "x".repeat(8000)).catch(() => undefined);
    await bench.folder.write("in/news", "what needs room to be noted");
    const news = bench.folder.bytes("in/news");
    await bench.until("it is known", () => registry.get("data", news) !== undefined);
    await registry.flush().catch(() => undefined);
    await bench.quiet(300);
    unlinkSync(bench.folder.at("in/news"));
    await aPass();
    await aPass();
    await bench.quiet(150); // it has come to its end
    disk.free();
    const before = passes;
    await bench.until("the loss", () => registry.get("data", news)?.state === "lost", 5000);
    expect(passes).to.equal(before);
    await bench.close();
  });
});
