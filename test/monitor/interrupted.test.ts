/** What was under way when the daemon was killed, or when a pause ended: nothing of it is taken for a loss. */
import { lstatSync, renameSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { skip } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

/** So long a grace that nothing missing is judged before the end. */
const UNJUDGED = { graceMs: 60_000 };
const INODES_TRIED = 50;
const TEN_MINUTES_MS = 600_000;
const MARK_TRIES = 250;

/** `old` becomes `new`, which is known, while nothing is said of `old` yet. */
async function renameUnjudged(bench: WatchBench): Promise<void> {
  const { registry } = bench.monitor;
  renameSync(bench.folder.at("old"), bench.folder.at("new"));
  await bench.until("the new name is known", () => registry.get("data", bench.folder.bytes("new"))?.state === "live");
}

/** The next daemon takes it for the rename that it was. */
async function expectMeantAtNextStart(bench: WatchBench): Promise<void> {
  await bench.close();
  bench.clear();

  await bench.open();
  await bench.protect();
  await bench.until("a verdict", () => bench.paths("file.removed").length + bench.losses.length > 0);
  expect([bench.losses, bench.paths("file.removed")]).to.deep.equal([[], ["old"]]);
}

describe("work that was interrupted", () => {
  it("a folder was renamed and its files were stored under the new name before a kill: the old names are no losses", async () => {
    await using bench = await WatchBench.create();
    for (const name of ["a", "b", "c"]) await bench.folder.write(`old/${name}`, `content of ${name}`);
    await bench.protect(UNJUDGED);
    await bench.quiet();
    renameSync(bench.folder.at("old"), bench.folder.at("new"));
    await bench.until("the new names", () => bench.paths("file.changed").includes("new/c"));
    await bench.until("the old ones are missed", () => (bench.monitor.status()[0]?.pending ?? 0) >= 4);
    await bench.close();
    bench.clear();

    await bench.open();
    await bench.protect();
    await bench.until("the old names are gone", () => bench.paths("file.removed").length >= 3);
    await bench.quiet();
    expect(bench.losses).to.deep.equal([]);
    expect(await bench.live()).to.have.members(["new/a", "new/b", "new/c"]);
  });

  for (const [dated, yearMs] of [
    ["", Date.UTC(2020, 0, 1)],
    [", also of a file that is dated after the year 2262", Date.UTC(2400, 0, 1)],
  ] as const)
    it(`a new name that was stored long before the last kill, while no daemon came to judge the old one, is known${dated}`, async () => {
      await using bench = await WatchBench.create({ times: { rootCheckMs: 50 } });
      utimesSync(await bench.folder.write("old", "content that was renamed"), yearMs / 1000, yearMs / 1000);
      await bench.protect(UNJUDGED);
      await bench.quiet();
      const { registry } = bench.monitor;
      await renameUnjudged(bench);
      // What is stored ten minutes later, by one of many daemons that were killed before they came to a verdict.
      await bench.folder.write("later", "later");
      const later = bench.folder.bytes("later");
      await bench.until("the later file is known", () => registry.get("data", later) !== undefined);
      const record = registry.get("data", later);
      if (record === undefined) throw new Error("it is not known");
      registry.put("data", later, { ...record, registeredAtMs: record.registeredAtMs + TEN_MINUTES_MS });
      await expectMeantAtNextStart(bench);
    });

  it("what was judged before is not asked for again: the mark moves when everything is at rest, and not before", async () => {
    await using bench = await WatchBench.create({ times: { rootCheckMs: 20, folderSweepMs: 20 } });
    await bench.folder.write("file", "1");
    const startedMs = Date.now() - 50; // as far as a clock may go back without being noticed
    await bench.protect(UNJUDGED);
    const mark = async () => Number((await bench.monitor.registry.readNote("settled:data")) ?? 0);
    const judgedSince = async (timeMs: number) => {
      for (let tries = 0; tries < MARK_TRIES && (await mark()) < timeMs; tries += 1) await delay(20);
      return (await mark()) >= timeMs;
    };
    await bench.quiet();
    expect(await judgedSince(startedMs), "at rest").to.equal(true);
    unlinkSync(bench.folder.at("file"));
    await bench.until("it is missed", () => (bench.monitor.status()[0]?.pending ?? 0) > 0);
    const missedMs = Date.now();
    await bench.folder.write("other", "2");
    await bench.until("the other is known", () => bench.paths("file.changed").includes("other"));
    await delay(200);
    expect(await mark(), "something is missing").to.be.below(missedMs);
  });

  it("a clock that was set back before the rename does not hide the new name", async () => {
    await using bench = await WatchBench.create();
    await bench.folder.write("old", "content that was renamed");
    await bench.protect(UNJUDGED);
    await bench.quiet();
    const { registry } = bench.monitor;
    await renameUnjudged(bench);
    await registry.writeNote("settled:data", String(Date.now() + TEN_MINUTES_MS)); // when the clock went ahead
    await expectMeantAtNextStart(bench);
  });

  it("a mark that cannot be written, as on a full disk, ends nothing, and moves when there is room again", async () => {
    await using bench = await WatchBench.create({ times: { rootCheckMs: 20, folderSweepMs: 20 } });
    await bench.folder.write("file", "1");
    await bench.protect();
    await bench.quiet();
    const { registry } = bench.monitor;
    const write = registry.writeNote.bind(registry);
    registry.writeNote = () => Promise.reject(new Error("no space left on device"));
    await bench.folder.write("other", "2");
    await bench.until("it is told", () => bench.faults.some((fault) => fault.startsWith("watch.mark_failed")));
    let markedMs = 0;
    registry.writeNote = async (name, value) => {
      await write(name, value);
      if (name === "settled:data") markedMs = Number(value);
    };
    await bench.until("the mark moves", () => markedMs > 0);
  });

  it("a copy that was made long before the kill is no new name of what is gone", async () => {
    await using bench = await WatchBench.create();
    const original = await bench.folder.write("original", "the same content");
    await bench.folder.write("copy", "the same content");
    await bench.protect();
    await bench.quiet();
    await bench.close();
    unlinkSync(original);
    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["original"]);
  });

  it("a loss that was told and that nobody noted before a kill is told again", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("wanted", "wanted");
    await bench.protect();
    await bench.quiet();
    unlinkSync(file);
    await bench.until("the loss", () => bench.losses.length === 1);
    await bench.close();
    await bench.open();
    await bench.protect();
    await bench.until("the loss again", () => bench.losses.length === 2);
    expect(bench.paths("file.lost")).to.deep.equal(["wanted", "wanted"]);
  });

  it("damage that was told and that nobody noted before a kill is told again", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("wanted", "wanted");
    await bench.protect();
    await bench.quiet();
    writeFileSync(file, "");
    await bench.until("the damage", () => bench.losses.length === 1);
    await bench.close();
    await bench.open();
    await bench.protect();
    await bench.until("the damage again", () => bench.losses.length === 2);
    expect(bench.losses.map(({ kind }) => kind)).to.deep.equal(["truncated", "truncated"]);
  });

  it("a file that was put back a moment before a kill, unseen, is known for holdfast's own: deleted again it is meant", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("unwanted", "unwanted");
    await bench.protect();
    await bench.quiet();
    unlinkSync(file);
    await bench.until("the loss", () => bench.losses.length === 1);
    const staged = bench.state.at("staged");
    writeFileSync(staged, "unwanted");
    const stat = lstatSync(staged, { bigint: true });
    const path = bench.folder.bytes("unwanted");
    const sha256 = bench.monitor.registry.get("data", path)?.sha256;
    await bench.monitor.expectOwnWrite({ path, stat: { ...stat, sizeBytes: Number(stat.size) }, sha256 });
    await bench.close();
    renameSync(staged, file);
    await bench.open();
    await bench.protect();
    await bench.quiet();
    expect(bench.monitor.registry.get("data", path)).to.include({ state: "live" });
    unlinkSync(file);
    await bench.until("the removal", () => bench.paths("file.removed").includes("unwanted"));
    expect(bench.losses).to.have.length(1);
  });

  it("a pause whose end is cut short by the end of the daemon goes on, so that what went in it stays gone", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("dir/unwanted", "unwanted");
    await bench.protect({ graceMs: 60_000 });
    await bench.quiet();
    await bench.monitor.pause(bench.folder.bytes("dir"), 60_000, "cleaning up");
    unlinkSync(file);
    const refusal = bench.monitor.resume(bench.folder.bytes("dir")).then(
      () => "",
      (error: unknown) => String(error),
    );
    await bench.close();
    expect(await refusal).to.include("the pause goes on");
    await bench.open();
    await bench.protect();
    await bench.until("the removal", () => bench.paths("file.removed").includes("dir/unwanted"));
    expect(bench.losses).to.deep.equal([]);
  });

  it("what went in a pause that ended while the daemon was down stays gone; what goes after the next start comes back", async () => {
    await using bench = await WatchBench.create();
    const [first, second] = [await bench.folder.write("dir/first", "1"), await bench.folder.write("dir/second", "2")];
    await bench.protect({ graceMs: 60_000 });
    await bench.quiet();
    await bench.monitor.pause(bench.folder.bytes("dir"), 1, "cleaning up");
    await bench.close();
    unlinkSync(first);
    await delay(2);
    await bench.open();
    await bench.protect();
    await bench.until("the removal", () => bench.paths("file.removed").includes("dir/first"));
    unlinkSync(second);
    await bench.until("the loss", () => bench.losses.length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["dir/second"]);
  });

  it("what goes after the end of a pause, just before a restart, comes back, whatever went in the pause", async () => {
    await using bench = await WatchBench.create();
    const [first, second] = [await bench.folder.write("dir/first", "1"), await bench.folder.write("dir/second", "2")];
    await bench.protect();
    await bench.quiet();
    await bench.monitor.pause(bench.folder.bytes("dir"), 60_000, "cleaning up");
    unlinkSync(first);
    await bench.monitor.resume(bench.folder.bytes("dir"));
    expect(bench.paths("file.removed")).to.deep.equal(["dir/first"]);
    await bench.close();
    unlinkSync(second);
    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length > 0);
    expect([bench.paths("file.lost"), bench.paths("file.removed")]).to.deep.equal([["dir/second"], ["dir/first"]]);
  });

  it("what goes after a pause was over and looked after, just before a restart, comes back", async () => {
    await using bench = await WatchBench.create({ times: { rootCheckMs: 20, folderSweepMs: 20 } });
    const [first, second] = [await bench.folder.write("dir/first", "1"), await bench.folder.write("dir/second", "2")];
    await bench.protect();
    await bench.quiet();
    await bench.monitor.pause(bench.folder.bytes("dir"), 300, "cleaning up");
    unlinkSync(first);
    await bench.until("the removal", () => bench.paths("file.removed").includes("dir/first"));
    await bench.until("the end", () => bench.monitor.pauses().length === 0);
    await bench.quiet(600);
    await bench.close();
    unlinkSync(second);
    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["dir/second"]);
  });

  it("what went in a pause that was ended before its source was looked through, or seen to be judged, stays gone", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("unwanted", "unwanted");
    await bench.protect();
    await bench.quiet();
    await bench.close();
    await bench.open();
    await bench.monitor.pause(bench.folder.bytes(), 60_000, "cleaning up");
    unlinkSync(file);
    await bench.monitor.resume(bench.folder.bytes());
    await bench.close();
    await bench.open();
    await delay(2);
    await bench.protect();
    await bench.until("the removal", () => bench.paths("file.removed").includes("unwanted"));
    expect(bench.losses).to.deep.equal([]);
  });

  it("a file that was stored and not noted before a kill, and is deleted meanwhile, is missed", async () => {
    await using bench = await WatchBench.create({ commits: false });
    const file = await bench.folder.write("new", "stored, and the daemon killed before it noted that");
    await bench.protect();
    await bench.until("the change", () => bench.paths("file.changed").includes("new"));
    bench.repository.store("data", bench.folder.bytes("new"));
    await bench.close();
    unlinkSync(file);
    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["new"]);
  });

  it("a version that was stored and not noted before a kill is what is missed, not the one before it", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("text", "first");
    await bench.protect();
    await bench.quiet();
    await bench.close();
    writeFileSync(file, "second, longer");
    const stored = bench.repository.store("data", bench.folder.bytes("text"));
    unlinkSync(file);
    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length > 0);
    const known = bench.monitor.registry.get("data", bench.folder.bytes("text"));
    expect(known?.sha256).to.equal(stored?.node.sha256);
  });

  it("a store that was put back and wrote on past the noted number: what it lost is stored again, nothing is taken for known", async () => {
    await using bench = await WatchBench.create();
    const { repository, folder } = bench;
    const file = await folder.write("text", "first");
    await bench.protect();
    await bench.quiet();
    const putBack = repository.keep();
    writeFileSync(file, "second, longer");
    await folder.write("late", "came later");
    await folder.write("later", "came later still");
    await bench.until("they are stored", () => repository.current(folder.bytes("later"), "data") !== undefined);
    await bench.quiet();
    await bench.close();
    const noted = repository.seq;
    putBack();
    // A backup without the daemon: of three files deleted meanwhile it stored one more version.
    const between = await folder.write("between", "stored while nobody watched");
    while (repository.seq <= noted + 1) repository.store("data", folder.bytes("between"));
    repository.rewind("data", folder.bytes("between"), noted - 1);
    unlinkSync(between);
    unlinkSync(folder.at("later"));
    bench.clear();

    await bench.open();
    await bench.protect();
    await bench.until("the loss", () => bench.losses.length >= 2);
    await bench.quiet();
    expect(bench.paths("file.lost")).to.have.members(["between", "later"]);
    expect(bench.paths("file.changed")).to.include.members(["text", "late"]);
  });

  it("a removal that a store has lost which was put back is stored again, so that the file comes back in no backup", async () => {
    await using bench = await WatchBench.create();
    const { repository, folder } = bench;
    const [file, path] = [await folder.write("unwanted", "unwanted"), folder.bytes("unwanted")];
    await folder.write("wanted", "wanted");
    await bench.protect();
    await bench.quiet();
    const putBack = repository.keep();
    await bench.monitor.pause(undefined, 60_000, "it is meant");
    unlinkSync(file);
    await bench.until("it is removed", () => repository.current(path, "data") === undefined);
    await bench.quiet();
    await bench.close();
    putBack();
    bench.clear();
    expect(repository.current(path, "data")).not.to.equal(undefined);

    await bench.open();
    await bench.protect();
    await bench.quiet();
    expect(repository.current(path, "data")).to.equal(undefined);
    expect(bench.paths("file.removed")).to.deep.equal(["unwanted"]);
    expect(bench.losses).to.deep.equal([]);
  });

  it("a removal that was stored and not noted before a power loss is no loss", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("unwanted", "unwanted");
    await bench.protect();
    await bench.quiet();
    await bench.close();
    unlinkSync(file);
    bench.repository.remove("data", bench.folder.bytes("unwanted"));
    bench.clear();
    await bench.open();
    await bench.protect();
    await bench.until("the removal is noted", () => {
      return bench.monitor.registry.get("data", bench.folder.bytes("unwanted"))?.state === "removed";
    });
    expect([bench.losses, bench.paths("file.removed")]).to.deep.equal([[], []]);
  });

  it("a file that is saved and renamed before the new content is stored is no loss", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("draft", "first");
    await bench.protect({ restMs: 1500 });
    await bench.quiet();
    writeFileSync(bench.folder.at("draft.tmp"), "second, longer");
    renameSync(bench.folder.at("draft.tmp"), file);
    await bench.until("the save is seen", () => (bench.monitor.status()[0]?.pending ?? 0) > 0);
    renameSync(file, bench.folder.at("final"));
    await bench.until("the new name", () => bench.paths("file.changed").includes("final"));
    await bench.quiet(1000);
    expect(bench.losses).to.deep.equal([]);
    expect(bench.paths("file.removed")).to.deep.equal(["draft"]);
  });

  it("what is deleted in a pause that ends at once is removed, not lost", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("dir/unwanted", "unwanted");
    await bench.protect();
    await bench.quiet();
    await bench.monitor.pause(bench.folder.bytes("dir"), 60_000, "cleaning up");
    unlinkSync(file);
    expect(await bench.monitor.resume(bench.folder.bytes("dir"))).to.have.length(1);
    expect(bench.monitor.pauses()).to.deep.equal([]);
    await bench.quiet(1000);
    expect(bench.losses).to.deep.equal([]);
    expect(bench.paths("file.removed")).to.deep.equal(["dir/unwanted"]);
  });

  it("a new file that was given the inode number of a deleted text is not that text encrypted", async function () {
    await using bench = await WatchBench.create();
    const text = await bench.folder.write("notes.txt", "words of a text\n".repeat(50));
    await bench.protect();
    await bench.quiet();
    const { ino } = lstatSync(text);
    unlinkSync(text);
    if (!takeInode(bench, ino)) skip(this, "this file system does not use inode numbers again at once");
    await bench.until("the loss", () => bench.losses.length > 0);
    await bench.quiet();
    expect(bench.warnings).to.not.include("watch.suspicious");
  });

  it("a file is a loss when its inode number is given to another of the same size and time", async function () {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("lost.txt", "sixteen letters.");
    utimesSync(file, 1_700_000_000, 1_700_000_000);
    await bench.protect();
    await bench.quiet();
    const { ino } = lstatSync(file);
    unlinkSync(file);
    const other = madeWithInode(bench, ino, "SIXTEEN LETTERS.");
    if (other === undefined) skip(this, "this file system does not use inode numbers again at once");
    utimesSync(other, 1_700_000_000, 1_700_000_000);
    await bench.until("a verdict", () => bench.paths("file.lost").length + bench.paths("file.removed").length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["lost.txt"]);
  });

  it("a file that is renamed and then lost under its new name is not missed under the old one", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("old", "renamed, then lost");
    await bench.protect({ graceMs: 2000 });
    await bench.quiet();
    renameSync(file, bench.folder.at("new"));
    const path = bench.folder.bytes("new");
    await bench.until("the new name is known", () => bench.monitor.registry.get("data", path)?.state === "live");
    unlinkSync(bench.folder.at("new"));
    await bench.until("the loss", () => bench.losses.length > 0);
    await bench.quiet();
    expect([bench.paths("file.lost"), bench.paths("file.removed")]).to.deep.equal([["new"], ["old"]]);
  });

  it("a file that was put back and made again since, with the same content, is a loss when it goes", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("wanted", "wanted");
    await bench.protect();
    await bench.quiet();
    const path = bench.folder.bytes("wanted");
    const { registry } = bench.monitor;
    const record = registry.get("data", path);
    if (record === undefined) throw new Error("it is not known");
    registry.put("data", path, { ...record, healedAtMs: Date.now() });
    writeFileSync(`${file}.new`, "wanted");
    renameSync(`${file}.new`, file);
    const { ino } = lstatSync(file, { bigint: true });
    await bench.until("the new file is known", () => registry.get("data", path)?.stat.ino === ino);
    unlinkSync(file);
    await bench.until("the loss", () => bench.losses.length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["wanted"]);
  });
});

/** Makes files until one has the number; gives its path. */
function madeWithInode(bench: WatchBench, ino: number, content: string): string | undefined {
  for (let index = 0; index < INODES_TRIED; index += 1) {
    const path = bench.folder.at(`other-${String(index)}`);
    writeFileSync(path, content);
    if (lstatSync(path).ino === ino) return path;
  }
  return undefined;
}

/** Makes files of no text until one has the number. */
function takeInode(bench: WatchBench, ino: number): boolean {
  for (let index = 0; index < INODES_TRIED; index += 1) {
    const path = bench.folder.at(`image-${String(index)}.bin`);
    writeFileSync(path, Buffer.from(Array.from({ length: 900 }, (_none, at) => (at * 7919) % 256)));
    if (lstatSync(path).ino === ino) return true;
  }
  return false;
}
