/** What ordinary work looks like to the monitor: real files, the real watcher. */
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, renameSync, rmSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { requirePrograms } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

describe("changes of protected files", () => {
  it("tells each file that is there at the start and registers it once durable", async () => {
    await using bench = await WatchBench.create();
    await bench.folder.write("a.txt", "one");
    await bench.folder.write("deep/er/b.txt", "two");
    await bench.protect();
    await bench.quiet();
    expect(await bench.live()).to.deep.equal(["a.txt", "deep/er/b.txt"]);
    expect(bench.monitor.status()[0]).to.include({
      state: "protected",
      files: 2,
      bytes: 6,
      pending: 0,
      ears: "inotify",
    });
    expect(bench.faults).to.deep.equal([]);
  });

  it("tells a new file, a changed file and a changed mode, once each", async () => {
    await using bench = await WatchBench.create();
    const known = await bench.folder.write("known.txt", "one");
    const moded = await bench.folder.write("moded.txt", "one", 0o600);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    await bench.folder.write("new.txt", "new");
    writeFileSync(known, "changed");
    chmodSync(moded, 0o644);
    await bench.until("three changes", () => bench.paths("file.changed").length >= 3);
    await bench.quiet();
    expect([...bench.paths("file.changed")].sort()).to.deep.equal(["known.txt", "moded.txt", "new.txt"]);
    expect(bench.losses).to.deep.equal([]);
  });

  it("takes atomic saves, by rename, by sed and by vim's way, as changes and never as losses", async function () {
    requirePrograms(this, "sed");
    await using bench = await WatchBench.create();
    const names = ["renamed.txt", "sed.txt", "vim.txt"];
    for (const name of names) await bench.folder.write(name, `first ${name}\n`);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    const at = (name: string): string => bench.folder.at(name);
    writeFileSync(at("renamed.txt.tmp"), "second");
    renameSync(at("renamed.txt.tmp"), at("renamed.txt"));
    execFileSync("sed", ["-i", "s/first/second/", at("sed.txt")]);
    renameSync(at("vim.txt"), at("vim.txt~"));
    writeFileSync(at("vim.txt"), "second");
    unlinkSync(at("vim.txt~"));
    await bench.until("three saves", () => new Set(bench.paths("file.changed")).size >= 3);
    await bench.quiet(1200);
    expect([...new Set(bench.paths("file.changed"))].sort()).to.deep.equal(names);
    expect(bench.losses).to.deep.equal([]);
    expect(bench.paths("file.removed")).to.deep.equal([]);
  });

  it("waits until a file rests before it is told", async () => {
    await using bench = await WatchBench.create();
    await bench.protect();
    const file = bench.folder.at("growing.txt");
    let content = "";
    const writing = setInterval(() => writeFileSync(file, (content += "more\n")), 50);
    await bench.until("the folder to be registered", () => bench.told.length > 0);
    await new Promise((resolve) => setTimeout(resolve, 1000)); // the writer works for this long
    const toldWhileWriting = bench.paths("file.changed").filter((name) => name === "growing.txt");
    clearInterval(writing);
    await bench.until("the change", () => bench.paths("file.changed").includes("growing.txt"));
    await bench.quiet();
    expect(toldWhileWriting).to.deep.equal([]);
    const entry = bench.repository.current(bench.folder.bytes("growing.txt"));
    expect(entry?.node.stat.sizeBytes).to.equal(content.length);
  });

  it("finds files in folders that are made and filled at once, and hears what happens there later", async () => {
    await using bench = await WatchBench.create({ times: { folderSweepMs: 600_000, fileSweepMs: 600_000 } });
    await bench.protect();
    const script = "for i in $(seq 150); do mkdir -p made/$i/a/b/c; echo 1 >made/$i/a/b/c/f; done";
    execFileSync("sh", ["-c", script], { cwd: bench.folder.path });
    const names = Array.from({ length: 150 }, (_, index) => `made/${String(index + 1)}/a/b/c/f`);
    const told = (): ReadonlySet<string> => new Set(bench.paths("file.changed"));
    await bench.until("all new files", () => names.every((name) => told().has(name)));
    await bench.quiet(1500);
    bench.clear();
    for (const name of names) writeFileSync(bench.folder.at(name), "later");
    await bench.until("the later writes", () => names.every((name) => told().has(name)), 8000);
  });

  it("finds that a file went while it was made durable, without a sweep", async () => {
    await using bench = await WatchBench.create({
      commits: false,
      nativeEvents: false,
      times: { folderSweepMs: 600_000, fileSweepMs: 600_000, pollMs: 600_000 },
    });
    const file = await bench.folder.write("short-lived.txt", "x");
    await bench.protect();
    await bench.until("the change", () => bench.paths("file.changed").includes("short-lived.txt"));
    const entry = bench.repository.store("data", bench.folder.bytes("short-lived.txt"));
    if (entry === undefined) throw new Error("the file is not there");
    unlinkSync(file);
    const nothing = { unchanged: [], removed: [], unreadable: [], vanished: [] };
    bench.monitor.recordDurable("data", { seq: 1, timeMs: 0, readFromMs: 0, stored: [entry], ...nothing });
    await bench.until("the loss", () => bench.paths("file.lost").includes("short-lived.txt"), 5000);
  });

  it("registers a move within the tree as a removal of the old name and a change at the new", async () => {
    await using bench = await WatchBench.create();
    await bench.folder.write("from.txt", "moving house");
    await bench.folder.write("tree/one/x", "x");
    await bench.folder.write("tree/two/y", "y");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    renameSync(bench.folder.at("from.txt"), bench.folder.at("to.txt"));
    renameSync(bench.folder.at("tree"), bench.folder.at("wood"));
    await bench.until(
      "the removals",
      () => bench.paths("file.removed").filter((p) => !/^tree(\/one|\/two)?$/.test(p)).length >= 3,
    );
    await bench.quiet();
    expect(await bench.live()).to.deep.equal(["to.txt", "wood/one/x", "wood/two/y"]);
    expect(bench.losses).to.deep.equal([]);
    expect(bench.events("mass.loss")).to.deep.equal([]);
    const reason = bench.events("file.removed").find(({ path }) => path.endsWith("from.txt"))?.reason;
    expect(reason).to.equal(`moved to ${bench.folder.at("to.txt")}`);
    // The moved folders are heard under their new names.
    bench.clear();
    writeFileSync(bench.folder.at("wood/one/x"), "changed in the wood");
    await bench.until("the write in the moved folder", () => bench.paths("file.changed").includes("wood/one/x"), 8000);
  });

  it("sees that content was copied elsewhere before the original went", async () => {
    await using bench = await WatchBench.create();
    const from = await bench.folder.write("from.bin", "the same content in both places");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    copyFileSync(from, bench.folder.at("to.bin"));
    unlinkSync(from);
    await bench.until("the removal", () => bench.paths("file.removed").includes("from.bin"));
    expect(bench.losses).to.deep.equal([]);
  });

  it("recognises a rotation with compression and with the oldest one dropped", async () => {
    await using bench = await WatchBench.create();
    const log = await bench.folder.write("app.log", "line\n".repeat(500));
    await bench.folder.write("app.log.1", "older\n".repeat(400));
    await bench.folder.write("app.log.2.gz", "oldest");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    unlinkSync(`${log}.2.gz`);
    writeFileSync(`${log}.2.gz.tmp`, "compressed");
    renameSync(`${log}.2.gz.tmp`, `${log}.2.gz`);
    renameSync(log, `${log}.1`);
    writeFileSync(log, "");
    await bench.until("the new log", () => bench.paths("file.changed").includes("app.log"));
    await bench.quiet(1500);
    expect(bench.losses).to.deep.equal([]);
  });

  it("takes a dropped oldest log as part of the rotation", async () => {
    await using bench = await WatchBench.create();
    const log = await bench.folder.write("app.log", "line\n".repeat(500));
    await bench.folder.write("app.log-20250101", "oldest\n".repeat(40));
    await bench.protect();
    await bench.quiet();
    bench.clear();
    renameSync(log, `${log}-20250102`);
    writeFileSync(log, "");
    unlinkSync(`${log}-20250101`);
    await bench.until("the removal", () => bench.paths("file.removed").includes("app.log-20250101"));
    await bench.quiet(1500);
    expect(bench.losses).to.deep.equal([]);
  });

  it("accepts that the package manager takes node_modules away and rebuilds it", async () => {
    await using bench = await WatchBench.create();
    for (let index = 0; index < 20; index += 1) await bench.folder.write(`node_modules/p/${String(index)}.js`, "1");
    await bench.folder.write("node_modules/.package-lock.json", "{}");
    await bench.folder.write("package.json", "{}");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    rmSync(bench.folder.at("node_modules"), { recursive: true });
    await bench.until("the removals", () => bench.paths("file.removed").length >= 20);
    for (let index = 0; index < 20; index += 1) await bench.folder.write(`node_modules/p/${String(index)}.js`, "2");
    await bench.until("the new files", () => bench.paths("file.changed").includes("node_modules/p/19.js"));
    await bench.quiet();
    expect(bench.losses).to.deep.equal([]);
    expect(bench.events("mass.loss")).to.deep.equal([]);
  });

  it("finds what happened while it was away: new, changed, gone", async () => {
    await using bench = await WatchBench.create();
    for (const name of ["stays", "changes", "goes"]) await bench.folder.write(`${name}.txt`, name);
    await bench.protect();
    await bench.quiet();
    await bench.close();
    bench.clear();
    writeFileSync(bench.folder.at("changes.txt"), "changed");
    writeFileSync(bench.folder.at("comes.txt"), "new");
    unlinkSync(bench.folder.at("goes.txt"));
    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length === 1);
    await bench.quiet();
    expect([...bench.paths("file.changed")].sort()).to.deep.equal(["changes.txt", "comes.txt"]);
    expect(bench.losses[0]).to.include({ kind: "deleted", noticedBy: "start", path: bench.folder.bytes("goes.txt") });
  });

  it("rebuilds a lost registry from the repository and still finds what is missing", async () => {
    await using bench = await WatchBench.create();
    for (const name of ["stays", "goes"]) await bench.folder.write(`${name}.txt`, name);
    await bench.protect();
    await bench.quiet();
    await bench.close();
    bench.clear();
    rmSync(bench.state.at("index"), { recursive: true });
    unlinkSync(bench.folder.at("goes.txt"));
    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length === 1);
    await bench.quiet();
    expect(bench.paths("file.changed")).to.deep.equal([]);
    expect(bench.paths("file.lost")).to.deep.equal(["goes.txt"]);
  });

  it("notices a write that keeps size and mtime, by its ctime", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("same.bin", "aaaa");
    const time = new Date(1_600_000_000_000);
    utimesSync(file, time, time);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    writeFileSync(file, "bbbb");
    utimesSync(file, time, time);
    await bench.until("the change", () => bench.paths("file.changed").includes("same.bin"));
    await bench.quiet();
    expect(bench.losses).to.deep.equal([]);
  });
});
