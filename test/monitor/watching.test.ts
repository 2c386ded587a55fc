/** That nothing is missed: bursts, a watcher that dies, file systems without events, names of any bytes. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { joinPath, pathBytes } from "../../src/base/paths.js";
import { WatchBench } from "../support/watch-bench.js";

/** Sweeps are off: what is found is found by events and by looking where they point. */
const NO_SWEEPS = { folderSweepMs: 3_600_000, fileSweepMs: 3_600_000 };

describe("watching", () => {
  it("misses none of 20,000 files that come in one burst into new folders", async function () {
    this.timeout(120_000);
    await using bench = await WatchBench.create({ times: NO_SWEEPS });
    await bench.protect();
    for (let outer = 0; outer < 200; outer += 1) {
      const folder = bench.folder.at(`n${String(outer % 7)}`, String(outer), "deep");
      mkdirSync(folder, { recursive: true });
      for (let inner = 0; inner < 100; inner += 1) writeFileSync(`${folder}/${String(inner)}`, "x");
    }
    await bench.until("all 20,000", () => bench.monitor.registry.totals("data").files === 20_000, 90_000);
    await bench.quiet();
    expect(bench.faults).to.deep.equal([]);
  });

  it("misses nothing of a copied tree, of an unpacked archive, and of their removal", async function () {
    this.timeout(120_000);
    await using bench = await WatchBench.create({ times: NO_SWEEPS });
    for (let index = 0; index < 1000; index += 1)
      await bench.state.write(
        `tree/${String(index % 50)}/${String(index % 3)}/${String(index)}`,
        `packed ${String(index)}`,
      );
    execFileSync("tar", ["-cf", bench.state.at("tree.tar"), "-C", bench.state.path, "tree"]);
    for (let index = 0; index < 1000; index += 1)
      await bench.state.write(
        `tree/${String(index % 50)}/${String(index % 3)}/${String(index)}`,
        `copied ${String(index)}`,
      );
    await bench.protect();
    cpSync(bench.state.at("tree"), bench.folder.at("copied"), { recursive: true });
    execFileSync("tar", ["-xf", bench.state.at("tree.tar"), "-C", bench.folder.path]);
    await bench.until("all 2,000", () => bench.monitor.registry.totals("data").files === 2000, 60_000);
    await bench.quiet();
    bench.clear();
    rmSync(bench.folder.at("copied"), { recursive: true });
    await bench.until(
      "one event",
      () => bench.events("mass.loss").flatMap(({ losses }) => losses).length === 1000,
      60_000,
    );
    expect(bench.losses).to.deep.equal([]);
  });

  it("finds what happened while the watcher was dead, and says meanwhile that it is degraded", async () => {
    await using bench = await WatchBench.create({ times: NO_SWEEPS });
    const file = await bench.folder.write("changes.txt", "one");
    const gone = await bench.folder.write("goes.txt", "goes");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    const pid = bench.monitor.watcherPid;
    if (pid === undefined) throw new Error("there is no watcher");
    process.kill(pid, "SIGKILL");
    writeFileSync(file, "two");
    unlinkSync(gone);
    await bench.folder.write("new/deep/comes.txt", "comes");
    await bench.until("degraded", () => bench.events("watch.degraded").length > 0);
    await bench.until("restored", () => bench.events("watch.restored").length === 1);
    await bench.until("the loss", () => bench.paths("file.lost").includes("goes.txt"));
    await bench.quiet();
    expect(bench.paths("file.changed")).to.include.members(["changes.txt", "new/deep/comes.txt"]);
    expect(bench.monitor.watcherPid).not.to.equal(pid);
    bench.clear();
    writeFileSync(file, "three");
    await bench.until("the new watcher hears", () => bench.paths("file.changed").includes("changes.txt"), 5000);
  });

  it("finds by sweeps alone what a file system without events hides", async () => {
    await using bench = await WatchBench.create({
      nativeEvents: false,
      times: { pollMs: 300, folderSweepMs: 3_600_000, fileSweepMs: 3_600_000 },
    });
    const file = await bench.folder.write("a/in-place.txt", "one");
    const gone = await bench.folder.write("a/goes.txt", "goes");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    writeFileSync(file, "two");
    unlinkSync(gone);
    await bench.folder.write("b/c/new.txt", "new");
    await bench.until("all three", () => bench.losses.length === 1 && bench.paths("file.changed").length >= 4);
    expect(bench.paths("file.changed")).to.include.members(["a/in-place.txt", "b/c/new.txt"]);
    expect(bench.monitor.status()[0]).to.include({ ears: "sweep", state: "protected" });
  });

  it("finds by the sweep of folders what no event told", async () => {
    await using bench = await WatchBench.create({
      nativeEvents: false,
      times: { pollMs: 3_600_000, folderSweepMs: 200, fileSweepMs: 3_600_000 },
    });
    const file = await bench.folder.write("a/saved.txt", "one");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    writeFileSync(`${file}.tmp`, "two");
    renameSync(`${file}.tmp`, file);
    await bench.folder.write("a/new/deep.txt", "new");
    await bench.until("both", () => new Set(bench.paths("file.changed")).size >= 3);
    expect(bench.paths("file.changed")).to.include.members(["a/saved.txt", "a/new/deep.txt"]);
  });

  it("protects files whose names are not UTF-8, by events and by sweeps", async () => {
    await using bench = await WatchBench.create();
    const path = joinPath(bench.folder.bytes(), "caf\xe9.txt");
    writeFileSync(pathBytes(path), "one");
    await bench.protect();
    await bench.quiet();
    expect(bench.monitor.registry.get("data", path)).to.include({ state: "live" });
    bench.clear();
    writeFileSync(pathBytes(path), "two");
    await bench.until("the change", () => bench.events("file.changed").some((event) => event.path === path), 5000);
    await bench.quiet();
    unlinkSync(pathBytes(path));
    await bench.until("the loss", () => bench.losses.some((loss) => loss.path === path), 5000);
  });

  it("watches single files and globs through their folder, and nothing below it", async () => {
    await using bench = await WatchBench.create();
    const single = await bench.folder.write("single.conf", "one");
    await bench.folder.write("deep/kb_9.json", "{}");
    await bench.protect({}, { paths: [bench.folder.bytes("single.conf"), bench.folder.bytes("kb_*.json")] });
    await bench.quiet();
    await bench.folder.write("kb_1.json", "{}");
    await bench.folder.write("unrelated.txt", "x");
    await bench.until("the new one", () => bench.paths("file.changed").includes("kb_1.json"));
    unlinkSync(single);
    await bench.until("the loss", () => bench.paths("file.lost").includes("single.conf"));
    await bench.quiet();
    expect(await bench.live()).to.deep.equal(["kb_1.json"]);
    expect(bench.paths("file.changed")).to.have.members(["single.conf", "kb_1.json"]);
  });

  it("keeps two sources on overlapping folders apart", async () => {
    await using bench = await WatchBench.create();
    await bench.folder.write("outer.txt", "outer");
    await bench.folder.write("in/inner.txt", "inner");
    await bench.protect();
    await bench.protect({}, { name: "inner", paths: [bench.folder.bytes("in")] });
    await bench.quiet();
    bench.clear();
    writeFileSync(bench.folder.at("in/inner.txt"), "changed");
    await bench.until("both told", () => bench.events("file.changed").length === 2);
    expect(
      bench
        .events("file.changed")
        .map(({ source }) => source)
        .sort(),
    ).to.deep.equal(["data", "inner"]);
    await bench.monitor.removeSource("inner", { forget: true });
    expect(bench.monitor.registry.totals("inner")).to.deep.equal({ files: 0, bytes: 0 });
    expect(bench.monitor.status().map(({ name }) => name)).to.deep.equal(["data"]);
  });

  it("looks through everything again when the commit queue ran over", async () => {
    await using bench = await WatchBench.create({ nativeEvents: false, times: { ...NO_SWEEPS, pollMs: 3_600_000 } });
    await bench.protect();
    await bench.quiet();
    await bench.folder.write("unseen.txt", "x");
    bench.monitor.requestReconcile("data", "the queue ran over");
    expect(bench.monitor.status()[0]?.state).to.equal("degraded");
    await bench.until("it is found", () => bench.paths("file.changed").includes("unseen.txt"));
    await bench.until("it is restored", () => bench.events("watch.restored").length === 1);
  });

  it("ends with its child when it is closed, twice if asked", async () => {
    const bench = await WatchBench.create();
    await bench.protect();
    const pid = bench.monitor.watcherPid ?? 0;
    expect(pid).to.be.greaterThan(0);
    await bench.monitor[Symbol.asyncDispose]();
    await bench[Symbol.asyncDispose]();
    expect(() => process.kill(pid, 0)).to.throw("ESRCH");
  });
});
