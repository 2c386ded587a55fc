/** What looks as if it was meant and is not: signs that anybody leaves, and git's folder in other hands than git's. */
import { mkdirSync, readdirSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { TrashKnowledge } from "../../src/monitor/intent/trash.js";
import { git } from "../support/git.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";
import { WatchBench } from "../support/watch-bench.js";

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
    const ours = ["config", "hooks/pre-commit", "refs/heads/main", `objects/pack/${pack}`];
    const gone = ours.map((name) => `work/.git/${name}`);
    for (const name of gone) unlinkSync(bench.folder.at(name));
    await bench.until("all of it", () => bench.losses.length >= gone.length);
    expect([...bench.paths("file.lost")].sort()).to.deep.equal([...gone].sort());
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
});
