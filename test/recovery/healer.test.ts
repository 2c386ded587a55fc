/** Healing end to end below the daemon: events in, files back, incidents kept, people obeyed. */
import { existsSync, readdirSync } from "node:fs";
import { chmod, lstat, mkdir, open, readFile, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import type { LossEvent } from "../../src/base/events.js";
import type { BytePath } from "../../src/base/paths.js";
import { STAGING_PREFIX } from "../../src/base/atomic-file.js";
import { runProgram } from "../../src/base/spawn.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import { FakeClock } from "../support/fake-clock.js";
import { spawnHolder } from "../support/file-holder.js";
import { NEVER, RecoveryRig, type RigOptions, nodeAt, sha256 } from "../support/recovery-rig.js";
import { requireRoot, skip } from "../support/requirements.js";
import { rejection } from "../support/rejection.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("the healer", () => {
  const folder = useTempFolder("healer");

  it("brings a deleted file back with bytes, mode and time, and closes the incident", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("notes.txt", "precious", 0o640);
    const before = await lstat(folder().at("data/notes.txt"), { bigint: true });
    await rm(folder().at("data/notes.txt"));
    await rig.lose(path);
    const after = await lstat(folder().at("data/notes.txt"), { bigint: true });
    expect(await readFile(folder().at("data/notes.txt"), "utf8")).to.equal("precious");
    expect([after.mode, after.mtimeNs]).to.deep.equal([before.mode, before.mtimeNs]);
    const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 10 });
    expect(incident).to.deep.include({ state: "healed", kind: "deleted", pathCount: 1 });
    expect(incident?.taken).to.deep.include({ strategy: "latest_backup", identical: true });
    expect(rig.events).to.deep.equal(["incident.opened", "incident.healed"]);
  });

  it("announces its write with the stat and digest that the file then has", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.txt", "text");
    await rm(folder().at("data/a.txt"));
    await rig.lose(path);
    const stat = await lstat(folder().at("data/a.txt"), { bigint: true });
    const announced = rig.watch.ownWrites.find((write) => write.path === path);
    expect(announced?.sha256).to.equal(sha256("text"));
    expect([announced?.stat.ino, announced?.stat.mtimeNs]).to.deep.equal([stat.ino, stat.mtimeNs]);
  });

  it("replaces a broken file by the good version and keeps the broken one, which a person can have back and forth", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("settings.json", '{"size": 3}');
    const file = folder().at("data/settings.json");
    await writeFile(file, '{"siz');
    await rig.lose(path, "invalid_structure");
    expect(await readFile(file, "utf8")).to.equal('{"size": 3}');
    const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
    expect(incident?.quarantined).to.have.length(1);
    await rig.healer.restoreQuarantined(incident?.id ?? "", NEVER);
    expect(await readFile(file, "utf8")).to.equal('{"siz');
    expect(rig.watch.contentsAccepted).to.deep.equal([path]);
    await rig.healer.restoreQuarantined(incident?.id ?? "", NEVER);
    expect(await readFile(file, "utf8")).to.equal('{"size": 3}');
  });

  it("makes folders and links again", async () => {
    await using rig = await startedRig(folder());
    await mkdir(folder().at("data/sub"), 0o711);
    await symlink("sub", folder().at("data/link"));
    const paths = ["sub", "link"].map((name) => rig.register(folder().bytes(`data/${name}`)));
    await rm(folder().at("data/sub"), { recursive: true });
    await rm(folder().at("data/link"));
    for (const path of paths) await rig.lose(path);
    expect((await lstat(folder().at("data/sub"))).mode & 0o777).to.equal(0o711);
    expect((await lstat(folder().at("data/link"))).isSymbolicLink()).to.equal(true);
  });

  it("does nothing but close when the file has come back by itself", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.txt", "old");
    await writeFile(folder().at("data/a.txt"), "written by its owner");
    await rig.lose(path);
    expect(await readFile(folder().at("data/a.txt"), "utf8")).to.equal("written by its owner");
    expect((await rig.healer.incidents({ onlyOpen: false, limit: 1 }))[0]?.state).to.equal("returned");
  });

  it("respects a second deletion soon after its restore, also over a restart", async () => {
    for (const restarts of [false, true]) {
      await using rig = await startedRig(folder());
      const path = await rig.protect(`twice-${String(restarts)}.txt`, "text");
      const file = folder().at(`data/twice-${String(restarts)}.txt`);
      await rm(file);
      await rig.lose(path);
      if (restarts) {
        await rig.healer[Symbol.asyncDispose]();
        await rig.start();
      }
      await rm(file);
      await rig.lose(path);
      expect(existsSync(file)).to.equal(false);
      expect(rig.watch.removalsAccepted).to.deep.equal([path]);
      expect((await rig.healer.incidents({ onlyOpen: false, limit: 1 }))[0]?.state).to.equal("respected");
    }
  });

  it("heals what was worked on after its restore and is deleted soon, also over a restart", async () => {
    for (const restarts of [false, true]) {
      await using rig = await startedRig(folder());
      const name = `worked-on-${String(restarts)}.txt`;
      const path = await rig.protect(name, "text");
      await rm(folder().at(`data/${name}`));
      await rig.lose(path);
      await rig.protect(name, "text with more work in it");
      if (restarts) {
        await rig.healer[Symbol.asyncDispose]();
        await rig.start();
      }
      await rm(folder().at(`data/${name}`));
      await rig.lose(path);
      expect(await readFile(folder().at(`data/${name}`), "utf8")).to.equal("text with more work in it");
      expect(rig.watch.removalsAccepted).to.deep.equal([]);
    }
  });

  it("heals what was restored, removed as its owner wanted and made again, also over a restart", async () => {
    for (const restarts of [false, true]) {
      await using rig = await startedRig(folder());
      const name = `made-again-${String(restarts)}.txt`;
      const path = await rig.protect(name, "text");
      await rm(folder().at(`data/${name}`));
      await rig.lose(path);
      // A tool removes it and makes the same again: the watch has registered it anew.
      await rig.protect(name, "text");
      if (restarts) {
        await rig.healer[Symbol.asyncDispose]();
        await rig.start();
      }
      await rm(folder().at(`data/${name}`));
      await rig.lose(path);
      expect(await readFile(folder().at(`data/${name}`), "utf8")).to.equal("text");
      expect(rig.watch.removalsAccepted).to.deep.equal([]);
    }
  });

  it("heals a deletion that comes long after its restore", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await startedRig(folder(), { clock });
    const path = await rig.protect("a.txt", "text");
    await rm(folder().at("data/a.txt"));
    await rig.lose(path);
    clock.jumpWall(11 * 60_000);
    await rm(folder().at("data/a.txt"));
    await rig.lose(path);
    expect(existsSync(folder().at("data/a.txt"))).to.equal(true);
  });

  it("stops restoring a path that is damaged again and again", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.json", "{}");
    const file = folder().at("data/a.json");
    for (let round = 0; round < 3; round += 1) {
      await writeFile(file, "{");
      await rig.lose(path, "invalid_structure");
      expect(await readFile(file, "utf8")).to.equal("{}");
    }
    await writeFile(file, "{");
    await rig.lose(path, "invalid_structure");
    expect(await readFile(file, "utf8")).to.equal("{");
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident?.state).to.equal("waiting");
    expect(incident?.reason).to.contain("3 times");
  });

  it("stops restoring when too many files are restored in a minute", async () => {
    await using rig = await startedRig(folder(), { settings: { breakerRestoresPerMinute: 2 } });
    const paths = [];
    for (const name of ["a", "b", "c"]) paths.push(await rig.protect(name, name));
    for (const path of paths) {
      await rm(path);
      await rig.lose(path);
    }
    expect(readdirSync(folder().at("data")).sort()).to.deep.equal(["a", "b"]);
    expect(rig.events.filter((name) => name === "incident.held")).to.have.length(1);
  });

  for (const [mode, state] of [
    ["ask", "waiting"],
    ["alert", "noted"],
  ] as const)
    it(`in mode ${mode} it writes nothing until a person approves`, async () => {
      await using rig = await startedRig(folder(), { policy: { mode } });
      const path = await rig.protect("a.txt", "text");
      await rm(folder().at("data/a.txt"));
      await rig.lose(path);
      expect(existsSync(folder().at("data/a.txt"))).to.equal(false);
      const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
      expect(incident?.state).to.equal(state);
      const report = await rig.healer.approve(incident?.id ?? "", NEVER);
      expect(report).to.deep.include({ healed: 1, pathsTotal: 1 });
      expect(await readFile(folder().at("data/a.txt"), "utf8")).to.equal("text");
      expect(await rejection(rig.healer.approve(incident?.id ?? "", NEVER))).to.have.property("code", "INCIDENT_STATE");
    });

  it("in mode mirror it holds damage, and in mode ignore it does nothing", async () => {
    await using rig = await startedRig(folder(), { policy: { mode: "mirror" } });
    const path = await rig.protect("a.json", "{}");
    await writeFile(folder().at("data/a.json"), "{");
    await rig.lose(path, "invalid_structure");
    expect((await rig.healer.incidents({ onlyOpen: true, limit: 1 }))[0]?.state).to.equal("waiting");
    rig.policy = { ...rig.policy, mode: "ignore" };
    const other = await rig.protect("b.txt", "x");
    await rm(folder().at("data/b.txt"));
    await rig.lose(other);
    expect(await rig.healer.incidents({ onlyOpen: false, limit: 9 })).to.have.length(1);
  });

  it("accepts a loss that a person denies, and damage as the new content", async () => {
    await using rig = await startedRig(folder(), { policy: { mode: "ask" } });
    const gone = await rig.protect("gone.txt", "x");
    const broken = await rig.protect("broken.json", "{}");
    await rm(folder().at("data/gone.txt"));
    await writeFile(folder().at("data/broken.json"), "{");
    await rig.lose(gone);
    await rig.lose(broken, "invalid_structure");
    for (const incident of await rig.healer.incidents({ onlyOpen: true, limit: 9 })) await rig.healer.deny(incident.id);
    expect(rig.watch.removalsAccepted).to.deep.equal([gone]);
    expect(rig.watch.contentsAccepted).to.deep.equal([broken]);
    expect(await rejection(rig.healer.deny("inc_none"))).to.have.property("code", "INCIDENT_NOT_FOUND");
  });

  it("closes a waiting incident when the file returns", async () => {
    await using rig = await startedRig(folder(), { policy: { mode: "ask" } });
    const path = await rig.protect("a.txt", "x");
    await rm(folder().at("data/a.txt"));
    await rig.lose(path);
    rig.bus.emit("file.returned", { source: "data", path });
    await rig.healer.idle();
    expect((await rig.healer.incidents({ onlyOpen: false, limit: 1 }))[0]?.state).to.equal("returned");
  });

  it("has one incident for a path however often it is reported", async () => {
    await using rig = await startedRig(folder(), { policy: { mode: "ask" } });
    const path = await rig.protect("a.txt", "x");
    await rm(folder().at("data/a.txt"));
    for (let count = 0; count < 5; count += 1) rig.bus.emit("file.lost", lossOf(path));
    await rig.healer.idle();
    expect(await rig.healer.incidents({ onlyOpen: false, limit: 9 })).to.have.length(1);
  });

  it("holds when a writer has the damaged file open, and heals when it is done", async () => {
    await using rig = await startedRig(folder(), { settings: { writerWaitMs: 0 } });
    const path = await rig.protect("a.json", "{}");
    await writeFile(folder().at("data/a.json"), "{");
    const tail = await spawnHolder(folder().at("data/a.json"));
    try {
      await rig.lose(path, "invalid_structure");
      const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
      expect(incident?.state).to.equal("waiting");
      expect(incident?.reason).to.match(/process \d+ .* has it open for writing/);
    } finally {
      await tail.end();
    }
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    await rig.healer.approve(incident?.id ?? "", NEVER);
    expect(await readFile(folder().at("data/a.json"), "utf8")).to.equal("{}");
  });

  it("fails with commands for a person when nothing is found, and can be tried again", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.txt", "only here");
    rig.versions.damage(sha256("only here"));
    await rm(folder().at("data/a.txt"));
    await rig.lose(path);
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident?.state).to.equal("failed");
    expect(incident?.failure?.code).to.equal("RECOVERY_FAILED");
    expect(incident?.manualCommands.join("\n")).to.contain("holdfast recover --file");
    expect(incident?.candidates[0]).to.deep.include({ verdict: "refused" });
    expect(rig.events).to.deep.equal(["incident.opened", "incident.failed"]);
    await writeFile(folder().at("data/a.txt"), "back");
    await rig.healer.approve(incident?.id ?? "", NEVER);
    expect((await rig.healer.incident(incident?.id ?? "")).state).to.equal("returned");
  });

  it("offers older versions instead of applying them, and takes the best when a person approves", async () => {
    await using rig = await startedRig(folder());
    const file = folder().at("data/a.txt");
    const path = await rig.protect("a.txt", "version one");
    await writeFile(file, "version two");
    rig.register(path);
    rig.versions.damage(sha256("version two"));
    await rm(file);
    await rig.lose(path);
    expect(existsSync(file)).to.equal(false);
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident?.state).to.equal("waiting");
    await rig.healer.approve(incident?.id ?? "", NEVER);
    expect(await readFile(file, "utf8")).to.equal("version one");
  });

  it("finishes at the next start what was interrupted, and removes what it had staged", async () => {
    const path = await (async () => {
      await using rig = await startedRig(folder(), { policy: { mode: "ask" } });
      const lost = await rig.protect("a.txt", "text");
      await rm(folder().at("data/a.txt"));
      await rig.lose(lost);
      const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
      const key = `i!${incident?.id ?? ""}`;
      const record = JSON.parse((await rig.database.get(key)) ?? "") as Record<string, unknown>;
      const value = JSON.stringify({ ...record, state: "healing", reason: "under way" });
      await rig.database.batch([{ type: "put", key, value }]);
      await folder().write(`data/${STAGING_PREFIX}${incident?.id ?? ""}-aabbcc`, "half");
      await rig.healer[Symbol.asyncDispose]();
      const versions = rig.versions;
      await rig.start();
      await rig.healer.idle();
      expect(versions.versions(lost)).to.have.length(1);
      return lost;
    })();
    expect(readdirSync(folder().at("data"))).to.deep.equal(["a.txt"]);
    expect(await readFile(path, "utf8")).to.equal("text");
  });

  it("leaves what was interrupted alone until its source was looked through, whose modes nobody knows before", async () => {
    await using rig = await startedRig(folder(), { policy: { mode: "ask" } });
    const lost = await rig.protect("a.txt", "text");
    await rm(folder().at("data/a.txt"));
    await rig.lose(lost);
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    const key = `i!${incident?.id ?? ""}`;
    const record = JSON.parse((await rig.database.get(key)) ?? "") as Record<string, unknown>;
    const value = JSON.stringify({ ...record, state: "open", reason: "" });
    await rig.database.batch([{ type: "put", key, value }]);
    await rig.healer[Symbol.asyncDispose]();
    rig.policy = { ...rig.policy, mode: "ignore" }; // what the monitor says of a source that it does not watch yet
    await rig.start(false);
    await rig.healer.idle();
    expect((await rig.healer.incident(incident?.id ?? "")).state).to.equal("open");
    rig.policy = { ...rig.policy, mode: "protect" };
    rig.bus.emit("watch.ready", { source: "another" });
    await rig.healer.idle();
    expect(readdirSync(folder().at("data"))).to.deep.equal([]);
    rig.bus.emit("watch.ready", { source: "data" });
    await rig.healer.idle();
    expect((await rig.healer.incident(incident?.id ?? "")).state).to.equal("healed");
    expect(readdirSync(folder().at("data"))).to.deep.equal(["a.txt"]);
  });

  it("puts nothing back while the storage is away, and goes on with what was interrupted when it is back", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.txt", "text");
    await rm(folder().at("data/a.txt"));
    rig.watch.away = "its file system is not mounted";
    await rig.lose(path);
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident).to.include({ state: "waiting", reason: "its file system is not mounted" });
    const key = `i!${incident?.id ?? ""}`;
    await rig.database.batch([{ type: "put", key, value: JSON.stringify({ ...incident, state: "healing" }) }]);
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    await rig.healer.idle();
    expect(readdirSync(folder().at("data"))).to.deep.equal([]);
    rig.watch.away = undefined;
    rig.bus.emit("root.returned", { source: "data", root: folder().bytes("data") });
    await rig.healer.idle();
    expect(readdirSync(folder().at("data"))).to.deep.equal(["a.txt"]);
  });

  it("brings back a file whose bytes a process still holds, newer than the last backup", async () => {
    await using rig = await startedRig(folder());
    const file = folder().at("data/log.txt");
    const path = await rig.protect("log.txt", "backed up\n");
    const handle = await open(file, "a");
    await handle.write("written after the backup\n");
    const holder = await spawnHolder(file);
    await handle.close();
    try {
      await rm(file);
      await rig.lose(path);
      expect(await readFile(file, "utf8")).to.equal("backed up\nwritten after the backup\n");
      const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
      expect(incident?.taken?.strategy).to.equal("open_files");
    } finally {
      await holder.end();
    }
  });

  it("leaves a file that its owner mended before it was healed", async () => {
    await using rig = await startedRig(folder());
    const mended: [LossEvent["kind"], string][] = [
      ["invalid_structure", '{"mended": true}'],
      ["truncated", '{"longer than it was": "before"}'],
      ["nul_tail", '{"a": 1}'],
      ["bit_rot", '{"b": 2}'],
    ];
    for (const [kind, text] of mended) {
      const path = await rig.protect(`${kind}.json`, '{"old": 0}');
      await writeFile(folder().at(`data/${kind}.json`), text);
      await rig.lose(path, kind);
      expect(await readFile(folder().at(`data/${kind}.json`), "utf8"), kind).to.equal(text);
      expect((await rig.healer.incidents({ onlyOpen: false, limit: 1 }))[0]?.state).to.equal("returned");
    }
  });

  it("heals bit rot, a NUL tail and a truncation", async () => {
    await using rig = await startedRig(folder());
    const good = "x".repeat(2000);
    const rotten = await rig.protect("rotten", good);
    const { mtimeMs } = await lstat(folder().at("data/rotten"));
    await writeFile(folder().at("data/rotten"), good.replace("x", "y"));
    await utimes(folder().at("data/rotten"), mtimeMs / 1000, mtimeMs / 1000);
    rig.watch.known.set(rotten, { ...lastGoodOf(nodeAt(rotten)), sha256: sha256(good) });
    await rig.lose(rotten, "bit_rot");
    const tail = await rig.protect("tail", good);
    await writeFile(folder().at("data/tail"), good.slice(0, 1000) + "\0".repeat(1000));
    await rig.lose(tail, "nul_tail");
    const short = await rig.protect("short", good);
    await truncate(folder().at("data/short"), 0);
    await rig.lose(short, "truncated");
    for (const name of ["rotten", "tail", "short"])
      expect(await readFile(folder().at(`data/${name}`), "utf8"), name).to.equal(good);
  });

  it("tries again by itself when the disk was full", async function () {
    requireRoot(this);
    const clock = new FakeClock(Date.now());
    await folder().folder("data");
    const mounted = await runProgram(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder().at("data")], {
      timeoutMs: 10_000,
      signal: NEVER,
    });
    if (mounted.exitCode !== 0) return skip(this, "a tmpfs cannot be mounted here");
    try {
      await using rig = await startedRig(folder(), { clock });
      const path = await rig.protect("a.txt", "x".repeat(60_000));
      await rm(folder().at("data/a.txt"));
      await writeFile(folder().at("data/filler"), Buffer.alloc(100_000));
      await rig.lose(path);
      const [failed] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
      expect([failed?.state, failed?.failure?.code]).to.deep.equal(["failed", "TARGET_IO"]);
      expect(readdirSync(folder().at("data"))).to.deep.equal(["filler"]);
      await rm(folder().at("data/filler"));
      await clock.advance(10 * 60_000);
      await rig.healer.idle();
      expect((await rig.healer.incident(failed?.id ?? "")).state).to.equal("healed");
      await rig.healer[Symbol.asyncDispose]();
    } finally {
      await runProgram(["umount", folder().at("data")], { timeoutMs: 10_000, signal: NEVER });
    }
  });

  it("tries again by itself when a link stood in the way and is gone", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await startedRig(folder(), { clock });
    const path = await rig.protect("d/a.txt", "good");
    await rm(folder().at("data/d"), { recursive: true });
    await folder().folder("outside");
    await symlink(folder().at("outside"), folder().at("data/d"));
    await rig.lose(path);
    const [failed] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect([failed?.state, failed?.failure?.code]).to.deep.equal(["failed", "TARGET_UNSAFE"]);
    await clock.advance(10 * 60_000);
    await rig.healer.idle();
    expect((await rig.healer.incident(failed?.id ?? "")).state).to.equal("failed");
    expect(readdirSync(folder().at("outside"))).to.deep.equal([]);
    await rm(folder().at("data/d"));
    await clock.advance(10 * 60_000);
    await rig.healer.idle();
    expect((await rig.healer.incident(failed?.id ?? "")).state).to.equal("healed");
    expect(await readFile(folder().at("data/d/a.txt"), "utf8")).to.equal("good");
  });

  it("keeps private what is in quarantine", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.json", "{}", 0o644);
    await writeFile(folder().at("data/a.json"), "{");
    await chmod(folder().at("data/a.json"), 0o644);
    await rig.lose(path, "invalid_structure");
    const [incident] = readdirSync(folder().at("state/quarantine"));
    expect((await lstat(join(folder().at("state/quarantine"), incident ?? ""))).mode & 0o777).to.equal(0o700);
  });
});

async function startedRig(folder: TempFolder, options: RigOptions = {}): Promise<RecoveryRig> {
  const rig = await RecoveryRig.create(folder, options);
  await rig.start();
  return rig;
}

function lossOf(path: BytePath): LossEvent {
  return { source: "data", path, kind: "deleted", noticedBy: "event", seenAtMs: Date.now(), detail: "gone" };
}
