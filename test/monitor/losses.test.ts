/** What counts as a loss and what as the owner's will: real files, the real watcher, ordinary tools. */
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { expect } from "chai";
import { openAnchored } from "../../src/base/anchored.js";
import type { BytePath } from "../../src/base/paths.js";
import { lookAt } from "../../src/monitor/look.js";
import { hasProgram, requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

describe("losses of protected files", () => {
  it("tells a deleted file as lost after the grace, once, with how it was noticed", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("wanted.txt", "wanted");
    await bench.protect();
    await bench.quiet();
    unlinkSync(file);
    await bench.until("the loss", () => bench.losses.length > 0, 3000);
    await bench.quiet(1200);
    expect(bench.losses).to.have.length(1);
    expect(bench.losses[0]).to.include({
      source: "data",
      kind: "deleted",
      noticedBy: "event",
      path: bench.folder.bytes("wanted.txt"),
    });
    expect(bench.monitor.registry.get("data", bench.folder.bytes("wanted.txt"))).to.include({ state: "lost" });
    expect(bench.paths("file.missed"), "told before, so that healing can get ready").to.deep.equal(["wanted.txt"]);
    expect(bench.events("file.missed")[0]?.seenAtMs, "by the time that tells losses apart").to.equal(
      bench.losses[0]?.seenAtMs,
    );
  });

  it("says nothing of a file that is back within the grace", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("flicker.txt", "flicker");
    await bench.protect({ graceMs: 1500 });
    await bench.quiet();
    unlinkSync(file);
    await bench.until("it is missed", () => (bench.monitor.status()[0]?.pending ?? 0) > 0, 3000);
    writeFileSync(file, "flicker again");
    await bench.until(
      "the change",
      () => bench.paths("file.changed").filter((name) => name === "flicker.txt").length === 2,
    );
    await bench.quiet(2000);
    expect(bench.losses).to.deep.equal([]);
    expect(bench.paths("file.removed")).to.deep.equal([]);
  });

  it("tells a loss although the round in which it was judged first failed", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("wanted.txt", "wanted");
    await bench.protect();
    await bench.quiet();
    const { registry } = bench.monitor;
    registry.isCurrent = () => false; // what was read when it was missed is read again
    const read = registry.getMany.bind(registry);
    registry.getMany = async () => {
      registry.getMany = read;
      return await Promise.reject(new Error("the disk gives an error"));
    };
    unlinkSync(file);
    await bench.until("the loss", () => bench.losses.length > 0, 5000);
    expect(bench.faults).to.have.length(1);
    expect(bench.paths("file.lost")).to.deep.equal(["wanted.txt"]);
  });

  it("tells a thousand files deleted at once as one event and none of them alone", async () => {
    await using bench = await WatchBench.create();
    for (let index = 0; index < 1000; index += 1)
      await bench.folder.write(`d${String(index % 10)}/${String(index)}`, "x");
    await bench.folder.write("stays.txt", "stays");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    for (let index = 0; index < 10; index += 1) rmSync(bench.folder.at(`d${String(index)}`), { recursive: true });
    await bench.until("the event", () => bench.events("mass.loss").length > 0);
    await bench.quiet(1500);
    expect(bench.losses).to.deep.equal([]);
    expect(bench.paths("file.removed")).to.deep.equal([]);
    expect(bench.events("mass.loss")).to.have.length(1);
    expect(new Set(bench.events("mass.loss")[0]?.losses.map(({ path }) => path)).size).to.equal(1000);
  });

  it("does not begin to tell losses one by one while a slow deletion of many goes on", async () => {
    await using bench = await WatchBench.create();
    const files: string[] = [];
    for (let index = 0; index < 120; index += 1) files.push(await bench.folder.write(String(index), "x"));
    await bench.protect();
    await bench.quiet();
    bench.clear();
    for (const file of files) {
      unlinkSync(file);
      await new Promise((resolve) => setTimeout(resolve, 15));
    }
    await bench.until("the event", () => bench.events("mass.loss").length > 0);
    await bench.quiet(1000);
    expect(bench.losses).to.deep.equal([]);
    expect(bench.events("mass.loss").flatMap(({ losses }) => losses)).to.have.length(120);
  });

  it("finds a file that was replaced and deleted in one breath, which no event tells", async () => {
    await using bench = await WatchBench.create({ times: { folderSweepMs: 1000 } });
    for (let index = 0; index < 20; index += 1) await bench.folder.write(`other${String(index)}`, "x");
    const file = await bench.folder.write("victim.txt", "victim");
    await bench.protect();
    await bench.quiet();
    writeFileSync(bench.folder.at("new"), "new content");
    renameSync(bench.folder.at("new"), file);
    unlinkSync(file);
    await bench.until("the loss", () => bench.paths("file.lost").includes("victim.txt"), 8000);
  });

  it("registers what holdfast itself puts back, and respects that it is deleted again", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("twice.txt", "content");
    const path = bench.folder.bytes("twice.txt");
    await bench.protect();
    await bench.quiet();
    unlinkSync(file);
    await bench.until("the loss", () => bench.losses.length === 1);
    bench.clear();
    const staged = await bench.folder.write(".holdfast-tmp-x", "content");
    const staged2 = lookAt(bench.folder.bytes(".holdfast-tmp-x"));
    if (staged2.is !== "there") throw new Error("the staged file is not there");
    await bench.monitor.expectOwnWrite({
      path,
      stat: staged2.node.stat,
      sha256: createHash("sha256").update("content").digest("hex"),
    });
    linkSync(staged, file);
    unlinkSync(staged);
    await bench.until("it is registered", () => bench.monitor.registry.get("data", path)?.state === "live");
    await bench.quiet();
    expect(bench.paths("file.changed")).to.deep.equal([]);
    unlinkSync(file);
    await bench.until("the removal", () => bench.paths("file.removed").includes("twice.txt"));
    expect(bench.events("file.removed")[0]?.reason).to.contain("deleted again");
    expect(bench.losses).to.deep.equal([]);
  });

  it("counts a file as whole the moment its good content is exchanged for the damaged", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("settings.json", '{"good": 1}');
    const path = bench.folder.bytes("settings.json");
    await bench.protect();
    await bench.quiet();
    writeFileSync(file, '{"good": ');
    await bench.until("the damage", () => bench.losses.length === 1);
    await bench.quiet();
    const staged = await bench.folder.write(".holdfast-tmp-x", '{"good": 1}');
    const look = lookAt(bench.folder.bytes(".holdfast-tmp-x"));
    if (look.is !== "there") throw new Error("the staged file is not there");
    const sha256 = createHash("sha256").update('{"good": 1}').digest("hex");
    await bench.monitor.expectOwnWrite({ path, stat: look.node.stat, sha256 });
    await using folder = openAnchored("/" as BytePath, bench.folder.bytes());
    if (!folder.exchange(".holdfast-tmp-x", folder, "settings.json")) renameSync(staged, file);
    else unlinkSync(staged);
    bench.monitor.ownWriteStands(path);
    await bench.until("it counts", () => bench.monitor.status()[0]?.files === 1, 1500);
    expect(bench.monitor.registry.get("data", path)).to.include({ state: "live", sha256 });
  });

  it("makes healed content the newest version again when the damage had become one", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("healed.txt", "good");
    const path = bench.folder.bytes("healed.txt");
    await bench.protect();
    await bench.quiet();
    const entry = bench.repository.current(path, "data");
    if (entry === undefined) throw new Error("the file is not stored");
    bench.repository.entries.set(`data\0${path}`, { ...entry, node: { ...entry.node, sha256: "0".repeat(64) } });
    bench.clear();
    const staged = await bench.folder.write(".holdfast-tmp-x", "good");
    const look = lookAt(bench.folder.bytes(".holdfast-tmp-x"));
    if (look.is !== "there") throw new Error("the staged file is not there");
    const good = createHash("sha256").update("good").digest("hex");
    await bench.monitor.expectOwnWrite({ path, stat: look.node.stat, sha256: good });
    renameSync(staged, file);
    await bench.until("it is committed anew", () => bench.repository.current(path, "data")?.node.sha256 === good);
    expect(bench.paths("file.changed")).to.include("healed.txt");
  });

  it("tells a foreign write of the same size beside an announced one as a change", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("own.txt", "content");
    const path = bench.folder.bytes("own.txt");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    const look = lookAt(path);
    if (look.is !== "there") throw new Error("the file is not there");
    await bench.monitor.expectOwnWrite({ path, stat: { ...look.node.stat, mtimeNs: 5n }, sha256: "00" });
    writeFileSync(file, "foreign");
    await bench.until("the change", () => bench.paths("file.changed").includes("own.txt"));
  });

  it("does not take an older twin of a lost file, or another name of it, for its new place", async () => {
    await using bench = await WatchBench.create();
    for (const name of ["one.txt", "twin.txt"]) await bench.folder.write(name, "the same content in both");
    linkSync(await bench.folder.write("name.txt", "a file with two names"), bench.folder.at("other-name.txt"));
    await bench.protect();
    await bench.quiet();
    unlinkSync(bench.folder.at("one.txt"));
    unlinkSync(bench.folder.at("name.txt"));
    await bench.until("both losses", () => bench.losses.length === 2);
    expect([...bench.paths("file.lost")].sort()).to.deep.equal(["name.txt", "one.txt"]);
    expect(bench.paths("file.removed")).to.deep.equal([]);
  });

  it("does not take what holdfast put back for the new place of a twin that goes next", async () => {
    await using bench = await WatchBench.create();
    const [one, twin] = [await bench.folder.write("one.txt", "both"), await bench.folder.write("twin.txt", "both")];
    const path = bench.folder.bytes("one.txt");
    await bench.protect();
    await bench.quiet();
    unlinkSync(one);
    await bench.until("the loss", () => bench.losses.length === 1);
    const staged = await bench.folder.write(".holdfast-tmp-x", "both");
    const look = lookAt(bench.folder.bytes(".holdfast-tmp-x"));
    if (look.is !== "there") throw new Error("the staged file is not there");
    const sha256 = createHash("sha256").update("both").digest("hex");
    await bench.monitor.expectOwnWrite({ path, stat: look.node.stat, sha256 });
    linkSync(staged, one);
    unlinkSync(staged);
    await bench.until("it is registered", () => bench.monitor.registry.get("data", path)?.state === "live");
    unlinkSync(twin);
    await bench.until("the second loss", () => bench.paths("file.lost").includes("twin.txt"), 3000);
    expect(bench.paths("file.removed")).to.deep.equal([]);
  });

  it("accepts what lies in the trash now", async function () {
    if (!hasProgram("gio")) requirePrograms(this, "gio");
    await using bench = await WatchBench.create();
    const home = process.env["HOME"] ?? "/root";
    mkdirSync(join(home, ".local/share"), { recursive: true });
    const name = `trash-${String(process.pid)}.txt`;
    const file = await bench.folder.write(name, "away with it");
    await bench.protect();
    await bench.quiet();
    execFileSync("gio", ["trash", file]);
    try {
      await bench.until("the removal", () => bench.paths("file.removed").includes(name));
      expect(bench.events("file.removed")[0]?.reason).to.contain("trash");
      expect(bench.losses).to.deep.equal([]);
    } finally {
      for (const sub of ["files", "info"])
        rmSync(join(home, ".local/share/Trash", sub, sub === "files" ? name : `${name}.trashinfo`), { force: true });
    }
  });

  it("accepts deletions while it is paused and heals again afterwards", async () => {
    await using bench = await WatchBench.create();
    const [first, second] = [await bench.folder.write("first", "1"), await bench.folder.write("second", "2")];
    await bench.protect();
    await bench.quiet();
    await bench.monitor.pause(bench.folder.bytes(), 600_000, "cleaning up");
    expect(bench.monitor.status()[0]).to.include({ state: "paused", reason: "cleaning up" });
    unlinkSync(first);
    await bench.until("the removal", () => bench.paths("file.removed").includes("first"));
    expect(await bench.monitor.resume(undefined)).to.have.length(1);
    unlinkSync(second);
    await bench.until("the loss", () => bench.paths("file.lost").includes("second"));
    expect(bench.paths("file.lost")).to.deep.equal(["second"]);
  });

  it("follows the modes: mirror lets go, ask and alert tell, ignore keeps silent", async () => {
    await using bench = await WatchBench.create();
    for (const name of ["m.mirror", "a.ask", "t.alert", "i.ignore"]) await bench.folder.write(name, name);
    await bench.protect({
      rules: (["mirror", "ask", "alert", "ignore"] as const).map((mode) => ({ match: `*.${mode}`, mode })),
    });
    await bench.quiet();
    for (const name of ["m.mirror", "a.ask", "t.alert", "i.ignore"]) unlinkSync(bench.folder.at(name));
    await bench.until("the losses", () => bench.losses.length === 2);
    await bench.quiet(1000);
    expect([...bench.paths("file.lost")].sort()).to.deep.equal(["a.ask", "t.alert"]);
    expect([...bench.paths("file.removed")].sort()).to.deep.equal(["i.ignore", "m.mirror"]);
    const why = bench.monitor.explain(bench.folder.bytes("m.mirror"));
    expect(why).to.include({
      source: "data",
      mode: "mirror",
      rule: "*.mirror: mirror",
      origin: "rules[0] of source data",
    });
  });

  it("keeps a removal as meant when it is accepted by hand", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("gone.txt", "gone");
    const path = bench.folder.bytes("gone.txt");
    await bench.protect();
    await bench.quiet();
    unlinkSync(file);
    await bench.until("the loss", () => bench.losses.length === 1);
    await bench.monitor.acceptRemoval(path, "denied by the owner");
    await bench.until("it is removed", () => bench.monitor.registry.get("data", path)?.state === "removed");
    const report = await bench.monitor.scan({}, bench.signal.signal);
    expect(report.findings).to.deep.equal([]);
    writeFileSync(file, "new life");
    await bench.until("it is protected anew", () => bench.monitor.registry.get("data", path)?.state === "live");
  });

  describe("in a git work tree", () => {
    const git = (folder: string, ...args: string[]): string =>
      execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", ...args], {
        cwd: folder,
        encoding: "utf8",
        env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null" },
      });

    it("accepts what checkout, stash, reset and rm take away, also when deletions are to be healed", async function () {
      requirePrograms(this, "git");
      await using bench = await WatchBench.create();
      const folder = bench.folder.path;
      git(folder, "init", "-q");
      await bench.folder.write("common.txt", "common");
      git(folder, "add", ".");
      git(folder, "commit", "-qm", "base");
      git(folder, "checkout", "-qb", "feature");
      for (let index = 0; index < 8; index += 1)
        await bench.folder.write(`feature${String(index)}.txt`, `only here ${String(index)}`);
      git(folder, "add", ".");
      git(folder, "commit", "-qm", "feature");
      await bench.protect({ mode: "protect" });
      await bench.quiet();
      const noLosses = async (what: string): Promise<void> => {
        await bench.quiet(1500);
        expect(bench.paths("file.lost"), what).to.deep.equal([]);
        expect(bench.events("mass.loss"), what).to.deep.equal([]);
      };
      git(folder, "checkout", "-q", "main");
      await noLosses("checkout");
      expect(bench.paths("file.removed")).to.include("feature3.txt");
      git(folder, "checkout", "-q", "feature");
      await noLosses("checkout back");
      await bench.folder.write("new.txt", "to be stashed");
      await bench.quiet();
      git(folder, "stash", "-q", "-u");
      await noLosses("stash");
      git(folder, "reset", "-q", "--hard", "HEAD~1");
      await noLosses("reset");
      git(folder, "rm", "-q", "common.txt");
      await noLosses("rm");
    });

    it("heals a tracked file that was simply deleted when its source says so, and lets it go by default", async function () {
      requirePrograms(this, "git");
      await using bench = await WatchBench.create();
      git(bench.folder.path, "init", "-q");
      for (const name of ["tracked.txt", "other.txt"]) await bench.folder.write(name, name);
      git(bench.folder.path, "add", ".");
      git(bench.folder.path, "commit", "-qm", "base");
      await bench.folder.write("untracked.txt", "untracked");
      await bench.protect();
      await bench.quiet();
      expect(bench.monitor.explain(bench.folder.bytes("tracked.txt")).mode).to.equal("mirror");
      expect(bench.monitor.explain(bench.folder.bytes("untracked.txt")).mode).to.equal("protect");
      unlinkSync(bench.folder.at("tracked.txt"));
      unlinkSync(bench.folder.at("untracked.txt"));
      await bench.until("the loss", () => bench.losses.length === 1);
      await bench.quiet(800);
      expect(bench.paths("file.lost")).to.deep.equal(["untracked.txt"]);
      expect(bench.paths("file.removed")).to.include("tracked.txt");
      await bench.monitor.removeSource("data");
      await bench.protect({ mode: "protect" });
      await bench.quiet(2500); // git's files must be old news
      bench.clear();
      unlinkSync(bench.folder.at("other.txt"));
      await bench.until("the loss", () => bench.losses.length === 1);
    });
  });

  describe("of the ground under them", () => {
    it("holds everything as one event when the protected folder itself is deleted", async () => {
      await using bench = await WatchBench.create({ times: { rootCheckMs: 300 } });
      for (let index = 0; index < 5; index += 1) await bench.folder.write(`inner/${String(index)}.txt`, "x");
      await bench.protect({}, { paths: [bench.folder.bytes("inner")] });
      await bench.quiet();
      rmSync(bench.folder.at("inner"), { recursive: true });
      await bench.until("the event", () => bench.events("mass.loss").length > 0);
      await bench.quiet(800);
      expect(bench.losses).to.deep.equal([]);
      const losses = bench.events("mass.loss")[0]?.losses ?? [];
      expect(losses).to.have.length(5);
      expect(losses[0]?.detail).to.contain("the protected folder itself was deleted");
      expect(bench.monitor.status()[0]?.state).to.equal("root_gone");
      bench.clear();
      for (let index = 0; index < 5; index += 1) await bench.folder.write(`inner/${String(index)}.txt`, "x");
      await bench.until("all are back", () => new Set(bench.paths("file.returned")).size === 5);
      await bench.quiet();
      expect(bench.monitor.status()[0]?.state).to.equal("protected");
      writeFileSync(bench.folder.at("inner/later.txt"), "later");
      await bench.until("it hears again", () => bench.paths("file.changed").includes("inner/later.txt"), 5000);
    });

    it("says that the root is gone, and nothing of deletions, when it is renamed away; and returns with it", async () => {
      await using bench = await WatchBench.create({ times: { rootCheckMs: 300 } });
      for (let index = 0; index < 5; index += 1) await bench.folder.write(`inner/${String(index)}.txt`, "x");
      await bench.protect({}, { paths: [bench.folder.bytes("inner")] });
      await bench.quiet();
      bench.clear();
      renameSync(bench.folder.at("inner"), bench.folder.at("elsewhere"));
      await bench.until("root.gone", () => bench.events("root.gone").length === 1);
      expect(bench.events("root.gone")[0]?.reason).to.contain("renamed to elsewhere");
      renameSync(bench.folder.at("elsewhere"), bench.folder.at("inner"));
      await bench.until("root.returned", () => bench.events("root.returned").length === 1);
      await bench.quiet(1000);
      expect(bench.losses).to.deep.equal([]);
      expect(bench.events("mass.loss")).to.deep.equal([]);
      writeFileSync(bench.folder.at("inner/0.txt"), "changed");
      await bench.until("it hears again", () => bench.paths("file.changed").includes("inner/0.txt"), 5000);
    });

    it("says that the root is gone when its file system is unmounted", async function () {
      requireRoot(this);
      await using bench = await WatchBench.create({ times: { rootCheckMs: 1500 } });
      const mount = await bench.folder.folder("mount");
      const image = bench.state.at("image");
      const run = (program: string, ...args: string[]): string =>
        execFileSync(program, args, { encoding: "utf8", stdio: "pipe" }).trim();
      let device = "";
      try {
        run("truncate", "-s", "8M", image);
        run("mkfs.ext4", "-q", image);
        device = run("losetup", "-f", "--show", image);
        run("mount", device, mount);
      } catch (error) {
        if (device !== "") run("losetup", "-d", device);
        skip(this, `no file system can be mounted here: ${String(error).slice(0, 100)}`);
      }
      try {
        for (let index = 0; index < 5; index += 1) await bench.folder.write(`mount/${String(index)}.txt`, "x");
        await bench.protect({}, { paths: [bench.folder.bytes("mount")], exclude: ["lost+found/"] });
        await bench.quiet();
        run("umount", "-l", mount);
        // Whoever looks first finds every file missing; the ground is looked at before anything is said of them.
        await bench.monitor.scan({}, bench.signal.signal);
        await bench.until("root.gone", () => bench.events("root.gone").length === 1);
        expect(bench.monitor.status()[0]?.state).to.equal("root_gone");
        await bench.quiet(1500);
        expect(bench.losses).to.deep.equal([]);
        expect(bench.events("mass.loss")).to.deep.equal([]);
        run("mount", device, mount);
        await bench.until("root.returned", () => bench.events("root.returned").length === 1);
        writeFileSync(join(mount, "0.txt"), "changed");
        await bench.until(
          "it hears again",
          () => bench.paths("file.changed").filter((p) => p === "mount/0.txt").length > 1,
          8000,
        );
      } finally {
        execFileSync("sh", ["-c", `umount -l '${mount}' 2>/dev/null; losetup -d ${device} 2>/dev/null; true`]);
      }
    });
  });
});
