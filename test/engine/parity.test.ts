/** Parity on real repositories: lost and damaged packs come back, reads go on meanwhile, collections keep it right. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { chmod, open, readFile, rm, truncate, unlink, writeFile } from "node:fs/promises";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import { type ParityReport, writeParity } from "../../src/engine/parity.js";
import { repair } from "../../src/engine/repair.js";
import type { Repository } from "../../src/engine/repository.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED, upsert } from "../support/engine-rig.js";
import { FaultIo } from "../support/fault-io.js";
import { codeOf } from "../support/engine-keys.js";
import { backUpFolder, restoreLatest } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const LAYOUT = { dataPacks: 4, parityPacks: 2 };

/** Flips one byte in every block of 1 KiB. */
async function ruin(file: string): Promise<void> {
  await chmod(file, 0o600);
  await using handle = await open(file, "r+");
  const bytes = await handle.readFile();
  for (let at = 100; at < bytes.length; at += 1024) bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  await handle.write(bytes, 0, bytes.length, 0);
}

describe("parity", () => {
  const folder = useTempFolder("parity");
  const contents = new Map<string, Buffer>();
  let rig: EngineRig;

  beforeEach(async () => {
    rig = await EngineRig.create(folder());
    contents.clear();
    await using repository = await rig.open();
    for (let number = 0; number < 5; number += 1) await stored(repository, `f${String(number)}`, 150_000 - number);
  });

  /** A file in a pack of its own. */
  async function stored(repository: Repository, name: string, sizeBytes: number): Promise<void> {
    contents.set(name, randomBytes(sizeBytes));
    await folder().write(`data/${name}`, contents.get(name) ?? "");
    await upsert(repository, "s", [folder().bytes("data", name)]);
    await repository.seal(UNLIMITED);
  }

  async function expectContents(repository: Repository): Promise<void> {
    for (const [name, content] of contents) {
      const node = repository.current(folder().bytes("data", name))?.node;
      expect((await contentOf(repository, node)).equals(content), name).to.equal(true);
    }
  }

  async function protect(): Promise<ParityReport> {
    await using repository = await rig.open();
    return await writeParity(repository, LAYOUT, UNLIMITED);
  }

  const packs = async (): Promise<string[]> => (await storeFiles(rig.storeUrl, "packs")).sort();
  const parity = async (): Promise<string[]> => (await storeFiles(rig.storeUrl, "parity")).sort();

  it("covers every pack, a second time finds nothing to do, and its objects are named by their bytes", async () => {
    expect(await protect()).to.deep.include({ groupsWritten: 2, groupsRemoved: 0, packsDamaged: 0 });
    expect(await parity()).to.have.length(4);
    expect(await protect()).to.deep.include({ groupsWritten: 0, groupsRemoved: 0 });
  });

  it("gives packs back that are gone, under their names and byte by byte", async () => {
    await protect();
    const before = await packs();
    const bytes = await Promise.all(before.map(async (pack) => await readFile(pack)));
    await rm(folder().at("data"), { recursive: true });
    for (const pack of before.slice(0, 2)) await unlink(pack);
    {
      await using repository = await rig.open();
      const report = await repair(repository, { dryRun: false }, UNLIMITED);
      expect(report.packBytesRestored).to.be.greaterThan(290_000);
      expect(report.problems).to.deep.equal([]);
      await expectContents(repository);
    }
    expect(await packs()).to.deep.equal(before);
    for (const [index, pack] of before.entries())
      expect((await readFile(pack)).equals(bytes[index] ?? Buffer.of())).to.equal(true);
  });

  it("gives the chunks of damaged packs back, and reads go on without a repair", async () => {
    await protect();
    const [first, second, , ...others] = await packs();
    await rm(folder().at("data"), { recursive: true });
    await ruin(first ?? "");
    await truncate(second ?? "", 70_000);
    await using repository = await rig.open();
    await expectContents(repository);
    const report = await repair(repository, { dryRun: false, readData: true }, UNLIMITED);
    expect(report.chunksRepaired).to.deep.equal({ parity: report.chunksLost, copy: 0, live: 0 });
    expect(report.chunksLost).to.be.greaterThan(1);
    await gc(repository, { dryRun: false, allowShare: 1, parity: LAYOUT }, UNLIMITED);
    const sound = await check(repository, { level: "full" }, UNLIMITED);
    expect(sound.problems).to.deep.equal([]);
    expect(await packs())
      .to.include.members(others)
      .and.not.include(first);
  });

  it("gives nothing wrong when more is damaged than it can bear", async () => {
    await protect();
    await rm(folder().at("data"), { recursive: true });
    for (const pack of (await packs()).slice(0, 4)) await ruin(pack);
    await using repository = await rig.open();
    const read = await Promise.all(
      [...contents].map(async ([name, content]) => {
        const node = repository.current(folder().bytes("data", name))?.node;
        const bytes = await contentOf(repository, node).catch(() => undefined);
        return bytes === undefined || bytes.equals(content);
      }),
    );
    expect(read).to.not.include(false);
    const report = await repair(repository, { dryRun: false, readData: true }, UNLIMITED);
    expect(report.problemCount).to.be.greaterThan(0);
  });

  it("bears damage in every pack of a group as long as each block is whole often enough", async () => {
    await protect();
    for (const [index, pack] of (await packs()).entries()) {
      await chmod(pack, 0o600);
      await using handle = await open(pack, "r+");
      await handle.write(Buffer.alloc(500, index), 0, 500, [10_000, 100_000, 140_000][index >> 1]);
    }
    await rm(folder().at("data"), { recursive: true });
    await using repository = await rig.open();
    const report = await repair(repository, { dryRun: false, readData: true }, UNLIMITED);
    expect(report.chunksRepaired.parity).to.equal(report.chunksLost).and.greaterThan(3);
    await expectContents(repository);
  });

  it("is kept right by collections: no pack is without, and what nothing needs goes", async () => {
    await protect();
    await using repository = await rig.open();
    for (const name of ["f0", "f1"]) {
      await unlink(folder().at("data", name));
      contents.delete(name);
      await repository.commitChanges("s", [{ path: folder().bytes("data", name), kind: "remove" }], UNLIMITED);
    }
    const before = (await packs()).length;
    const options = { dryRun: false, allowShare: 1, versionsKeptMs: 0, parity: LAYOUT };
    for (let commit = 0; commit < 9; commit += 1) await stored(repository, `g${String(commit)}`, 1000 + commit);
    const report = await gc(repository, options, UNLIMITED);
    expect(report.packsDeleted + report.packsRewritten).to.be.greaterThan(0);
    const covered = await repository.core.parts.parity.membersByKey(UNLIMITED);
    const names = (await packs()).map((pack) => pack.slice(pack.indexOf("packs/")));
    expect([...covered.keys()].sort()).to.deep.equal(names);
    expect(before).to.be.greaterThan(4);
    await expectContents(repository);
  });

  it("is never made over a damaged pack", async () => {
    const [first] = await packs();
    await ruin(first ?? "");
    expect(await protect()).to.deep.include({ packsDamaged: 1, groupsWritten: 1 });
    await using repository = await rig.open();
    const covered = await repository.core.parts.parity.membersByKey(UNLIMITED);
    expect(covered.size).to.equal(4);
  });

  it("loses nothing when its writing fails at any call, and is made by the next try", async () => {
    for (let fails = 0; fails < 60; fails += 3) {
      for (const file of await parity()) await unlink(file);
      const io = new FaultIo();
      await using repository = await rig.open({ io });
      const from = io.calls.length;
      io.plan = (call, _path, at) => (at === from + fails && call !== "close" ? "ENOSPC" : undefined);
      const error = await writeParity(repository, LAYOUT, UNLIMITED).catch((thrown: unknown) => thrown);
      io.plan = () => undefined;
      if (error instanceof Error) await writeParity(repository, LAYOUT, UNLIMITED);
      expect(await parity()).to.have.length(4);
      expect(await storeFiles(rig.storeUrl, "staging")).to.deep.equal([]);
      await expectContents(repository);
    }
  });

  it("that is damaged itself is told by a full check and made again by a collection", async () => {
    await protect();
    const [first, second] = await parity();
    await ruin(first ?? "");
    await unlink(second ?? "");
    await using repository = await rig.open();
    await writeFile(folder().at("store/parity", "ab".repeat(32)), "no parity at all");
    const [third] = (await parity()).filter((key) => key !== first && !key.endsWith("abab"));
    await using handle = await open(third ?? "", "r+");
    await handle.write(Buffer.alloc(9), 0, 9, 5000);
    const before = await check(repository, { level: "full" }, UNLIMITED);
    expect(new Set(before.problems.map(({ kind }) => kind))).to.deep.equal(new Set(["parity_damaged"]));
    const report = await repair(repository, { dryRun: false, readData: true }, UNLIMITED);
    expect(report.parityDropped).to.equal(3);
    await gc(repository, { dryRun: false, parity: LAYOUT }, UNLIMITED);
    const after = await check(repository, { level: "full" }, UNLIMITED);
    expect(after.problems).to.deep.equal([]);
  });

  it("lets a restore go on from damaged and lost packs, and stores what it gave again", async () => {
    {
      await using repository = await rig.open();
      await backUpFolder(repository, folder().bytes("data"));
    }
    await protect();
    const [first, second] = (await packs()).filter((pack) => pack.includes("/d/"));
    await ruin(first ?? "");
    await unlink(second ?? "");
    await using repository = await rig.open();
    const report = await restoreLatest(repository, folder().bytes("out"));
    expect(report.failed).to.deep.equal([]);
    expect((await repository.stats()).suspectChunks).to.equal(0);
  });

  it("refuses a layout that cannot be", async () => {
    await using repository = await rig.open();
    for (const [dataPacks, parityPacks] of [
      [0, 1],
      [1, 0],
      [250, 10],
      [1.5, 1],
    ] as const)
      expect(await codeOf(writeParity(repository, { dataPacks, parityPacks }, UNLIMITED))).to.equal("USAGE");
  });
});
