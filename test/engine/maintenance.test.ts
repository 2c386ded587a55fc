/** Check and garbage collection on real repositories: damage is found and named, garbage goes, nothing else does. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { chmod, open, rm, unlink } from "node:fs/promises";
import { systemClock } from "../../src/base/clock.js";
import { hasCode } from "../../src/base/errors.js";
import type { BytePath } from "../../src/base/paths.js";
import { type CheckReport, check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import type { LevelOperation } from "../../src/engine/index/level-store.js";
import type { Repository } from "../../src/engine/repository.js";
import type { Manifest } from "../../src/engine/types.js";
import { FakeClock } from "../support/fake-clock.js";
import { EngineRig, UNLIMITED, contentOf, storeFiles, upsert, walkFolder } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

async function backUp(repository: Repository, root: BytePath): Promise<Manifest> {
  const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
  return await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
}

const kindsOf = (report: CheckReport): string[] => [...new Set(report.problems.map(({ kind }) => kind))];

async function flip(file: string, offset: number): Promise<void> {
  await chmod(file, 0o600);
  await using handle = await open(file, "r+");
  const byte = Buffer.alloc(1);
  const { bytesRead } = await handle.read(byte, 0, 1, offset);
  if (bytesRead === 0) return; // a shorter file stays as it is
  byte[0] = (byte[0] ?? 0) ^ 0xff;
  await handle.write(byte, 0, 1, offset);
}

async function totalSize(rig: EngineRig): Promise<number> {
  let total = 0;
  for (const file of await storeFiles(rig.storeUrl, "packs")) {
    await using handle = await open(file, "r");
    total += (await handle.stat()).size;
  }
  return total;
}

describe("check", () => {
  const folder = useTempFolder("check");

  async function filled(): Promise<{ rig: EngineRig; path: BytePath }> {
    const rig = await EngineRig.create(folder());
    await folder().write("data/a", randomBytes(300_000));
    await folder().write("data/b", "small b");
    await using repository = await rig.open();
    await upsert(repository, "docs", [folder().bytes("data/b")]);
    await backUp(repository, folder().bytes("data"));
    return { rig, path: folder().bytes("data/a") };
  }

  it("finds nothing wrong with a whole repository, at every level", async () => {
    const { rig } = await filled();
    await using repository = await rig.open();
    for (const level of ["structure", "sample", "full"] as const) {
      const report = await check(repository, { level }, UNLIMITED);
      expect(report.problems).to.deep.equal([]);
      expect(report.bytesChecked > 0).to.equal(level === "full" || report.bytesChecked > 0);
    }
  });

  it("names the file that a damaged record belongs to, and is content again after the file was stored anew", async () => {
    const { rig, path } = await filled();
    const packs = await storeFiles(rig.storeUrl, "packs/d");
    for (const pack of packs) await flip(pack, 5000);
    await using repository = await rig.open();
    const report = await check(repository, { level: "full" }, UNLIMITED);
    expect(kindsOf(report)).to.include.members(["pack_damaged", "content_damaged"]);
    expect(report.problems.flatMap((problem) => problem.paths.map((hit) => hit.path))).to.include(path);
    await upsert(repository, "docs", [path]);
    const again = await check(repository, { level: "structure" }, UNLIMITED);
    expect(kindsOf(again)).to.deep.equal([]);
    await contentOf(repository, repository.current(path)?.node);
  });

  it("notices a missing pack, and what is hit by it", async () => {
    const { rig } = await filled();
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) await unlink(pack);
    await using repository = await rig.open();
    const report = await check(repository, { level: "structure" }, UNLIMITED);
    expect(kindsOf(report)).to.include.members(["pack_missing", "content_damaged"]);
  });

  it("notices damaged trees, commits, fragments and configuration copies, and goes on", async () => {
    const { rig } = await filled();
    for (const pack of await storeFiles(rig.storeUrl, "packs/m")) await flip(pack, 200);
    for (const fragment of await storeFiles(rig.storeUrl, "index")) await flip(fragment, 100);
    const [commit] = (await storeFiles(rig.storeUrl, "commits")).sort();
    await flip(commit ?? "", 100);
    await flip(folder().at("store/config/2"), 10);
    await using repository = await rig.open();
    const report = await check(repository, { level: "full" }, UNLIMITED);
    expect(kindsOf(report)).to.include.members([
      "tree_damaged",
      "commit_damaged",
      "fragment_damaged",
      "config_damaged",
    ]);
  });

  it("takes those packs first that were not read for longest, and comes around to all of them", async () => {
    const rig = await EngineRig.create(folder());
    const clock = new FakeClock();
    await using repository = await rig.open({ clock });
    for (let number = 0; number < 6; number += 1) {
      await folder().write(`data/${String(number)}`, randomBytes(2000 + number));
      await upsert(repository, "docs", [folder().bytes("data", String(number))]);
      await repository.seal(UNLIMITED);
    }
    const { catalog } = repository.core.parts;
    const times = (): number[] => [...catalog.chunks.holders()].map(({ name }) => catalog.verified.timeOf(name)).sort();
    for (let round = 1; round <= 3; round += 1) {
      clock.jumpWall(1000);
      await check(repository, { level: "sample", share: 0.333 }, UNLIMITED);
    }
    const [oldest = 0] = times();
    expect(oldest, "three samples of a third have read all six").to.be.greaterThan(0);
    clock.jumpWall(1000);
    await check(repository, { level: "sample", share: 0.333 }, UNLIMITED);
    expect(times().filter((time) => time === oldest)).to.have.length(0);
  });

  it("goes on with a full check that was cut short, also after a new start", async () => {
    const { rig } = await filled();
    const clock = new FakeClock();
    const stop = new AbortController();
    {
      await using repository = await rig.open({ clock });
      const cut = check(repository, { level: "full" }, stop.signal, () => stop.abort());
      expect(await cut.catch(() => "cut")).to.equal("cut");
    }
    await using repository = await rig.open({ clock });
    const resumed = await check(repository, { level: "full", resume: true }, UNLIMITED);
    expect(resumed.packsSkipped).to.be.greaterThan(0).and.lessThan(resumed.packsChecked);
    const whole = await check(repository, { level: "full", resume: true }, UNLIMITED);
    expect(whole.packsSkipped, "the one before had ended").to.equal(0);
  });

  it("notices a commit that was taken out of the chain", async () => {
    const { rig } = await filled();
    const [first] = (await storeFiles(rig.storeUrl, "commits")).sort();
    await unlink(first ?? "");
    await using repository = await rig.open();
    const report = await check(repository, { level: "structure" }, UNLIMITED);
    expect(kindsOf(report)).to.include("commit_missing");
  });
});

describe("garbage collection", () => {
  const folder = useTempFolder("gc");

  it("removes nothing that is referred to", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", randomBytes(200_000));
    await upsert(repository, "docs", [folder().bytes("data/a")]);
    await folder().write("data/a", randomBytes(200_000));
    await backUp(repository, folder().bytes("data"));
    const report = await gc(repository, { dryRun: false }, UNLIMITED);
    expect(report).to.include({ chunksRemoved: 0, packsDeleted: 0, packsRewritten: 0 });
    for (const { node } of await repository.versions(folder().bytes("data/a"))) await contentOf(repository, node);
  });

  /** One old version in a pack with a current one, so that the pack has to be written anew. */
  async function withOldVersions(rig: EngineRig, rounds: number): Promise<void> {
    await using repository = await rig.open();
    for (let round = 0; round < rounds; round += 1) {
      for (const name of ["a", "b"]) await folder().write(`data/${name}`, randomBytes(100_000));
      await folder().write("data/small", `small ${String(round)}`);
      if (round === 0) await folder().write("data/stays", randomBytes(60_000));
      await upsert(
        repository,
        "docs",
        ["a", "b", "small", "stays"].map((name) => folder().bytes(`data/${name}`)),
      );
      await repository.seal(UNLIMITED);
    }
  }

  async function expectWhole(repository: Repository): Promise<void> {
    for (const name of ["a", "b", "small", "stays"]) {
      const content = await contentOf(repository, repository.current(folder().bytes(`data/${name}`))?.node);
      expect(content.length).to.be.greaterThan(0);
    }
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  }

  it("forgets versions older than asked, frees their space, and the index can still be made anew", async () => {
    const rig = await EngineRig.create(folder());
    await withOldVersions(rig, 12);
    const before = await totalSize(rig);
    {
      await using repository = await rig.open();
      await systemClock.sleep(5, UNLIMITED);
      const dry = await gc(repository, { dryRun: true, versionsKeptMs: 0 }, UNLIMITED);
      expect(await repository.versions(folder().bytes("data/a"))).to.have.length(12);
      const report = await gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED);
      expect(report.versionsRemoved).to.be.greaterThan(20);
      expect(report.packsDeleted).to.be.greaterThan(5);
      expect(report.packsRewritten).to.be.greaterThan(0);
      expect(dry, "a dry run tells what the real one does").to.deep.equal({ ...report, dryRun: true });
      const after = await gc(repository, { dryRun: true, versionsKeptMs: 0 }, UNLIMITED);
      expect([after.versionsRemoved, after.chunksRemoved]).to.deep.equal([0, 0]);
      await expectWhole(repository);
    }
    expect(await totalSize(rig)).to.be.lessThan(before / 2);
    await rm(folder().at("state", "index"), { recursive: true });
    await using repository = await rig.open();
    await expectWhole(repository);
    const versions = await repository.versions(folder().bytes("data/a"));
    expect(versions.length).to.be.lessThan(4);
    for (const { node } of versions) await contentOf(repository, node);
  });

  it("keeps what a backup holds, whatever its age, and lets it go with the backup", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "the first content");
    const kept = await backUp(repository, folder().bytes("data"));
    for (let round = 0; round < 12; round += 1) {
      await folder().write("data/a", `content ${String(round)}`);
      await upsert(repository, "docs", [folder().bytes("data/a")]);
      await repository.seal(UNLIMITED);
    }
    await systemClock.sleep(5, UNLIMITED);
    const dry = await gc(repository, { dryRun: true, versionsKeptMs: 0 }, UNLIMITED);
    const report = await gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED);
    expect(dry.versionsRemoved).to.equal(report.versionsRemoved);
    const entries = repository.backupEntries(kept.backup_id, { under: folder().bytes("data/a") }, UNLIMITED);
    for await (const entry of entries) {
      expect((await contentOf(repository, entry.node)).toString()).to.equal("the first content");
    }
    const contents: string[] = [];
    for (const { node } of await repository.versions(folder().bytes("data/a"))) {
      contents.push((await contentOf(repository, node)).toString());
    }
    expect(contents).to.include("the first content");
    expect(contents).to.not.include("content 3");
    await repository.deleteBackups([kept.backup_id], UNLIMITED);
    const last = await gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED);
    expect(last.packsDeleted + last.packsRewritten).to.be.greaterThan(0);
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  describe("of a file that was removed and that a backup holds", () => {
    const clock = new FakeClock();
    const gone = (): BytePath => folder().bytes("data/gone");

    /** A repository in which that happened, and the number of the commit that removed it. */
    async function removed(): Promise<{ rig: EngineRig; seq: number }> {
      const rig = await EngineRig.create(folder());
      await folder().write("data/gone", "gone");
      await using repository = await rig.open({ clock });
      await backUp(repository, folder().bytes("data"));
      await unlink(folder().at("data/gone"));
      const { seq } = await repository.commitChanges("docs", [{ path: gone(), kind: "remove" }], UNLIMITED);
      return { rig, seq };
    }

    async function thin(repository: Repository): Promise<void> {
      for (let round = 0; round < 9; round += 1) {
        await folder().write("data/stays", `stays ${String(clock.nowMs())} ${String(round)}`);
        await upsert(repository, "docs", [folder().bytes("data/stays")]);
        await repository.seal(UNLIMITED);
      }
      clock.jumpWall(1000);
      await gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED);
    }

    async function expectGoneAnew(rig: EngineRig): Promise<void> {
      await rm(folder().at("state", "index"), { recursive: true });
      await using repository = await rig.open({ clock });
      expect(repository.current(gone())).to.equal(undefined);
    }

    it("forgets no removal, so that it does not come back", async () => {
      const { rig } = await removed();
      {
        await using repository = await rig.open({ clock });
        for (let turn = 0; turn < 2; turn += 1) {
          await thin(repository);
          expect(await repository.isRemoved("docs", gone())).to.equal(true);
          expect((await repository.entryAt(gone(), clock.nowMs()))?.node).to.equal(undefined);
        }
      }
      await expectGoneAnew(rig);
    });

    it("brings nothing back where an index forgot the removal before", async () => {
      const { rig, seq } = await removed();
      {
        await using repository = await rig.open({ clock });
        const { catalog } = repository.core.parts;
        const operations: LevelOperation[] = [];
        catalog.entries.dropVersion(operations, "docs", gone(), seq);
        await catalog.write(operations);
        await thin(repository);
      }
      await expectGoneAnew(rig);
    });
  });

  it("lets go in the end of what backups no longer find", async () => {
    const rig = await EngineRig.create(folder());
    const [root, path] = [folder().bytes("data"), folder().bytes("data/gone")];
    await folder().write("data/gone", randomBytes(100_000));
    await folder().write("data/stays", "stays");
    await using repository = await rig.open();
    const first = await backUp(repository, root);
    await unlink(folder().at("data/gone"));
    for (let round = 0; round < 12; round += 1) {
      await folder().write("data/stays", `stays ${String(round)}`);
      await backUp(repository, root);
    }
    await repository.deleteBackups([first.backup_id], UNLIMITED);
    expect(repository.current(path)).to.not.equal(undefined);
    for (let turn = 0; turn < 2; turn += 1) {
      await systemClock.sleep(5, UNLIMITED);
      await gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED);
      for (let round = 0; round < 10; round += 1) {
        await folder().write("data/stays", `stays again ${String(turn)} ${String(round)}`);
        await upsert(repository, "docs", [folder().bytes("data/stays")]);
        await repository.seal(UNLIMITED);
      }
    }
    expect(repository.current(path)).to.equal(undefined);
    expect(await repository.versions(path)).to.have.length(0);
    expect(await totalSize(rig)).to.be.lessThan(100_000);
  });

  it("does not take a chunk from a commit that comes back to it meanwhile", async () => {
    const rig = await EngineRig.create(folder());
    await withOldVersions(rig, 10);
    await using repository = await rig.open();
    const contents = Array.from({ length: 20 }, () => randomBytes(50_000));
    const commit = async (index: number): Promise<void> => {
      await folder().write("data/back", contents[index % 4] ?? "");
      await upsert(repository, "docs", [folder().bytes("data/back")]);
    };
    for (let index = 0; index < 10; index += 1) {
      await commit(index);
      await repository.seal(UNLIMITED);
    }
    await systemClock.sleep(5, UNLIMITED);
    const collecting = gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED);
    for (let index = 0; index < 20; index += 1) {
      await commit(index);
      const node = repository.current(folder().bytes("data/back"))?.node;
      expect((await contentOf(repository, node)).equals(contents[index % 4] ?? Buffer.alloc(0))).to.equal(true);
    }
    await collecting;
    await expectWhole(repository);
  });

  it("ends before it removes anything when a tree cannot be read", async () => {
    const rig = await EngineRig.create(folder());
    {
      await using repository = await rig.open();
      await folder().write("data/a", "content");
      await backUp(repository, folder().bytes("data"));
    }
    for (const pack of await storeFiles(rig.storeUrl, "packs/m")) await flip(pack, 200);
    await using repository = await rig.open();
    const before = await storeFiles(rig.storeUrl, "packs");
    const failed = await gc(repository, { dryRun: false, versionsKeptMs: 0 }, UNLIMITED).catch(
      (error: unknown) => error,
    );
    expect(hasCode(failed, "RECORD_DAMAGED")).to.equal(true);
    expect(await storeFiles(rig.storeUrl, "packs")).to.deep.equal(before);
  });

  it("is held by its brake when too much would go", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/big", randomBytes(80 * 2 ** 20));
    const backup = await backUp(repository, folder().bytes("data"));
    await repository.commitChanges("docs", [{ path: folder().bytes("data/big"), kind: "remove" }], UNLIMITED);
    await unlink(folder().at("data/big"));
    for (let round = 0; round < 10; round += 1) {
      await folder().write("data/a", `content ${String(round)}`);
      await upsert(repository, "docs", [folder().bytes("data/a")]);
      await repository.seal(UNLIMITED);
    }
    await repository.deleteBackups([backup.backup_id], UNLIMITED);
    await systemClock.sleep(5, UNLIMITED);
    const options = { dryRun: false, versionsKeptMs: 0 };
    const failed = await gc(repository, options, UNLIMITED).catch((error: unknown) => error);
    expect(hasCode(failed, "LIMIT_REACHED")).to.equal(true);
    const report = await gc(repository, { ...options, allowShare: 1 }, UNLIMITED);
    expect(report.bytesFreed).to.be.greaterThan(70 * 2 ** 20);
  });
});
