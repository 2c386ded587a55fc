/** What looks as if it was meant and is not: signs that anybody leaves, and git's folder in other hands than git's. */
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  rmdirSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { gzipSync } from "node:zlib";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { isExpiredReflog } from "../../src/monitor/intent/git-housekeeping.js";
import { TrashKnowledge } from "../../src/monitor/intent/trash.js";
import { lookAt } from "../../src/monitor/look.js";
import { git } from "../support/git.js";
import { requirePrograms, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";
import { WatchBench } from "../support/watch-bench.js";

const PACKERS = [
  ["bzip2", ".bz2", "-kq"],
  ["xz", ".xz", "-kq"],
  ["zstd", ".zst", "-kq"],
  ["lz4", ".lz4", "-kqm"],
] as const;

describe("what is not meant although it looks so", () => {
  const folder = useTempFolder();

  it("is what git never takes from its folder: settings, hooks, the only pack, a branch whose log still stands", async function () {
    requirePrograms(this, "git");
    await using bench = await WatchBench.create();
    const work = bench.folder.at("work");
    await bench.folder.write("work/file", "x");
    await git(work, "init", "-q", "-b", "main");
    await git(work, "add", ".");
    await git(work, "commit", "-qm", "one");
    for (const name of ["ended", "packed"]) await git(work, "branch", name);
    await git(work, "repack", "-adq");
    await bench.folder.write("work/.git/hooks/pre-commit", "#!/bin/sh\n");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    await git(work, "branch", "-qD", "ended");
    await git(work, "pack-refs", "--all");
    await bench.quiet(800);
    expect(bench.losses).to.deep.equal([]);
    await git(work, "commit", "-q", "--allow-empty", "-m", "two"); // main stands in a file of its own again
    await bench.quiet();
    bench.clear();
    const pack = readdirSync(bench.folder.at("work/.git/objects/pack")).find((name) => name.endsWith(".pack")) ?? "";
    const ours = ["config", "index", "logs/HEAD", "packed-refs", "hooks/pre-commit", "refs/heads/main"];
    ours.push(`objects/pack/${pack}`);
    const gone = ours.map((name) => `work/.git/${name}`);
    for (const name of gone) unlinkSync(bench.folder.at(name));
    await bench.until("all of it", () => bench.losses.length >= gone.length);
    expect([...bench.paths("file.lost")].sort()).to.deep.equal([...gone].sort());
  });

  it("is the index of a linked work tree that stands, and an object of its submodule; a work tree that git ends is meant", async function () {
    requirePrograms(this, "git");
    await using bench = await WatchBench.create();
    const work = bench.folder.at("work");
    await bench.folder.write("work/file", "x");
    await git(work, "init", "-q", "-b", "main");
    await git(work, "add", ".");
    await git(work, "commit", "-qm", "one");
    for (const name of ["kept", "ended"]) await git(work, "worktree", "add", "-q", "--detach", folder().at(name));
    const nested = bench.folder.at("work/.git/worktrees/kept/modules/lib");
    await git(work, "clone", "-q", "--bare", work, nested);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    await git(work, "worktree", "remove", folder().at("ended"));
    await git(work, "reflog", "expire", "--expire=now", "--all");
    await git(work, "gc", "-q", "--prune=now");
    await bench.quiet(800);
    expect(bench.losses).to.deep.equal([]);
    expect(statSync(bench.folder.at("work/.git/logs/HEAD")).size, "git emptied it").to.equal(0);
    const gone = ["index", "logs/HEAD", "modules/lib/HEAD"].map((name) => `work/.git/worktrees/kept/${name}`);
    for (const name of gone) unlinkSync(bench.folder.at(name));
    await bench.until("all of it", () => bench.losses.length >= gone.length);
    expect([...bench.paths("file.lost")].sort()).to.deep.equal([...gone].sort());
  });

  it("is a log of git that was emptied in place; a new empty one is git's, also with the number of the old one", async () => {
    const path = folder().bytes("work/.git/logs/HEAD");
    await folder().write("work/.git/logs/HEAD", "before");
    const timesOf = () => statSync(folder().at("work/.git/logs"), { bigint: true });
    const { ctimeNs } = timesOf();
    while (timesOf().ctimeNs === ctimeNs) {
      writeFileSync(folder().at("work/.git/logs/HEAD.lock"), "");
      renameSync(folder().at("work/.git/logs/HEAD.lock"), folder().at("work/.git/logs/HEAD"));
    }
    const keepsBirths = timesOf().birthtimeNs > 0n && timesOf().birthtimeNs !== timesOf().ctimeNs;
    const look = lookAt(path);
    if (look.is !== "there") throw new Error("it is not there");
    const { stat } = look.node;
    const registeredAt = (ctimeNs: bigint) => ({ stat: { ...stat, sizeBytes: 123, ctimeNs } });
    const bornNs = look.stats.birthtimeNs;
    expect(isExpiredReflog(path, registeredAt(bornNs - 1n)), "another file then").to.equal(keepsBirths);
    expect(isExpiredReflog(path, registeredAt(look.stats.ctimeNs)), "the same file").to.equal(false);
  });

  for (const how of ["git", "the file operations of git"] as const)
    it(`is one log of git that goes; that all go with their folders is its dropping of them (by ${how})`, async function () {
      requirePrograms(this, "git");
      if (how === "git" && !(await knowsDrop())) skip(this, "this git has no `reflog drop`, which came with 2.50");
      await using bench = await WatchBench.create();
      const [work, linked] = [bench.folder.at("work"), folder().at("linked")];
      await bench.folder.write("work/file", "x");
      await git(work, "init", "-q", "-b", "main");
      await git(work, "add", ".");
      await git(work, "commit", "-qm", "one");
      await git(work, "worktree", "add", "-q", "-b", "side", linked);
      await bench.protect();
      await bench.quiet();
      bench.clear();
      const logs = ["work/.git/logs", "work/.git/worktrees/linked/logs"];
      const heads = logs.map((name) => `${name}/HEAD`);
      for (const head of heads) unlinkSync(bench.folder.at(head));
      await bench.until("both", () => bench.losses.length >= heads.length);
      expect([...bench.paths("file.lost")].sort()).to.deep.equal(heads);

      for (const place of [work, linked]) await git(place, "commit", "-q", "--allow-empty", "-m", "writes it again");
      const isLive = (path: string) => bench.monitor.registry.get("data", bench.folder.bytes(path))?.state === "live";
      await bench.until("they are known again", () => heads.every(isLive));
      await bench.quiet();
      bench.clear();
      if (how === "git") await git(work, "reflog", "drop", "--all");
      else for (const name of logs) dropLogs(bench.folder.at(name));
      await bench.until("they are removed", () => heads.every((head) => bench.paths("file.removed").includes(head)));
      await bench.quiet();
      expect(bench.losses).to.deep.equal([]);
    });

  it("is an object of a submodule that git needs; a submodule's folder that goes as a whole was cleaned up", async function () {
    requirePrograms(this, "git");
    await using bench = await WatchBench.create();
    const { path } = bench.folder;
    await git(path, "init", "-q", "-b", "main");
    const names = ["kept", "dropped", "packed"] as const;
    for (const name of names) {
      const made = bench.folder.at(name);
      await bench.folder.write(`${name}/file`, name);
      await git(made, "init", "-q", "-b", "main");
      await git(made, "add", ".");
      await git(made, "commit", "-qm", "one");
      mkdirSync(bench.folder.at(".git/modules/libs"), { recursive: true });
      renameSync(`${made}/.git`, bench.folder.at(`.git/modules/libs/${name}`));
    }
    await bench.protect();
    await bench.quiet();
    bench.clear();
    await git(path, `--git-dir=${bench.folder.at(".git/modules/libs/packed")}`, "gc", "-q", "--prune=now");
    await bench.until("what was packed is removed", () => bench.paths("file.removed").length >= 3);
    const objects = ".git/modules/libs/kept/objects";
    const [first] = readdirSync(bench.folder.at(objects)).filter((name) => name.length === 2);
    const [rest] = readdirSync(bench.folder.at(`${objects}/${first ?? ""}`));
    const gone = [`${objects}/${first ?? ""}/${rest ?? ""}`, ".git/modules/libs/kept/HEAD"];
    for (const name of gone) unlinkSync(bench.folder.at(name));
    rmSync(bench.folder.at(".git/modules/libs/dropped"), { recursive: true });
    await bench.until("all of it", () => bench.losses.length >= gone.length);
    await bench.quiet();
    expect([...bench.paths("file.lost")].sort()).to.deep.equal([...gone].sort());
  });

  it("is an object of git that no pack holds and that git needs, or a pack whose objects are nowhere else", async function () {
    requirePrograms(this, "git");
    await using bench = await WatchBench.create();
    const { path } = bench.folder;
    await bench.folder.write("packed", "first");
    await git(path, "init", "-q", "-b", "main");
    await git(path, "add", ".");
    await git(path, "commit", "-qm", "one");
    await git(path, "repack", "-dq");
    await bench.folder.write("second", "second");
    await git(path, "add", ".");
    await git(path, "commit", "-qm", "two");
    await git(path, "repack", "-dq"); // without -a: a pack of its own
    for (const name of ["wanted", "staged"]) await bench.folder.write(name, name);
    await git(path, "add", "wanted");
    await git(path, "commit", "-qm", "three");
    await git(path, "add", "staged");
    const id = async (name: string): Promise<string> => (await git(path, "rev-parse", name)).trim();
    const loose = (of: string): string => `.git/objects/${of.slice(0, 2)}/${of.slice(2)}`;
    await bench.folder.write("dropped", "nobody refers to it");
    const dropped = loose((await git(path, "hash-object", "-w", "dropped")).trim());
    const gone = [loose(await id("HEAD:wanted")), loose(await id(":staged"))];
    await bench.protect();
    await bench.quiet();
    bench.clear();
    await git(path, "prune");
    await bench.until("what was pruned is removed", () => bench.paths("file.removed").includes(dropped));
    expect(bench.losses).to.deep.equal([]);
    for (const name of gone) unlinkSync(bench.folder.at(name));
    await bench.until("the objects are lost", () => bench.losses.length >= gone.length);
    const packs = (await bench.live()).filter((name) => name.endsWith(".pack"));
    expect(packs).to.have.length(2);
    unlinkSync(bench.folder.at(packs[0] ?? ""));
    await bench.until("the pack is lost", () => bench.losses.length > gone.length);
    expect([...bench.paths("file.lost")].sort()).to.deep.equal([...gone, packs[0]].sort());
  });

  it("is what is gone of a `.git` that is no repository any more", async function () {
    requirePrograms(this, "git");
    await using bench = await WatchBench.create();
    await bench.folder.write("file", "x");
    await git(bench.folder.path, "init", "-q");
    await git(bench.folder.path, "add", ".");
    await git(bench.folder.path, "commit", "-qm", "one");
    await bench.protect();
    await bench.quiet();
    const objects = (await bench.live()).filter((name) => name.startsWith(".git/objects/"));
    expect(objects.length).to.be.greaterThan(2);
    bench.clear();
    rmSync(bench.folder.at(".git/objects"), { recursive: true });
    await bench.until("its objects", () => objects.every((name) => bench.paths("file.lost").includes(name)));
  });

  it("is a note of the trash without what it tells of", () => {
    const trash = folder().at(".local/share/Trash");
    mkdirSync(`${trash}/info`, { recursive: true });
    mkdirSync(`${trash}/files`);
    writeFileSync(
      `${trash}/info/letter.trashinfo`,
      "[Trash Info]\nPath=/srv/letter\nDeletionDate=2025-01-01T00:00:00\n",
    );
    const isHeld = (): boolean =>
      new TrashKnowledge([folder().path]).holds("/srv/letter" as BytePath, "/" as BytePath, 0, 0);
    expect(isHeld()).to.equal(false);
    writeFileSync(`${trash}/files/letter`, "x");
    expect(isHeld()).to.equal(true);
  });

  it("is a file beside which an archive of its name stands that is empty or cut off", async () => {
    await using bench = await WatchBench.create();
    const names = ["empty.db", "cut.db", "whole.db"];
    const content = (name: string): string => `${name} ${"0123456789".repeat(5000)}`;
    for (const name of names) await bench.folder.write(name, content(name));
    await bench.protect();
    await bench.quiet();
    bench.clear();
    for (const name of names) writeFileSync(bench.folder.at(`${name}.gz`), gzipSync(content(name)));
    truncateSync(bench.folder.at("empty.db.gz"));
    truncateSync(bench.folder.at("cut.db.gz"), 60);
    for (const name of names) unlinkSync(bench.folder.at(name));
    await bench.until("all three", () => bench.losses.length + bench.paths("file.removed").length >= 3);
    expect([...bench.paths("file.lost")].sort()).to.deep.equal(["cut.db", "empty.db"]);
  });

  for (const [program, ending, options] of PACKERS)
    it(`is a file beside which an archive of ${program} stands that is cut off`, async function () {
      requirePrograms(this, program);
      await using bench = await WatchBench.create();
      const names = ["cut.log", "other.log", "whole.log"];
      for (const name of names) await bench.folder.write(name, `${name} ${"0123456789".repeat(5000)}`);
      await bench.protect();
      await bench.quiet();
      bench.clear();
      for (const name of names) execFileSync(program, [options, bench.folder.at(name)]);
      const cut = bench.folder.at(`cut.log${ending}`);
      truncateSync(cut, statSync(cut).size - 3);
      writeFileSync(bench.folder.at(`other.log${ending}`), "no archive at all");
      for (const name of names) unlinkSync(bench.folder.at(name));
      await bench.until("all three", () => bench.losses.length + bench.paths("file.removed").length >= 3);
      expect([...bench.paths("file.lost")].sort()).to.deep.equal(["cut.log", "other.log"]);
    });
});

async function knowsDrop(): Promise<boolean> {
  const [, major = 0, minor = 0] = (/(\d+)\.(\d+)/.exec(await git("/", "version")) ?? []).map(Number);
  return major > 2 || (major === 2 && minor >= 50);
}

/** As git does it: each log is unlinked, and then its folder and those above, as far as they are empty. */
function dropLogs(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true }))
    if (entry.isDirectory()) dropLogs(`${folder}/${entry.name}`);
    else unlinkSync(`${folder}/${entry.name}`);
  rmdirSync(folder);
}
