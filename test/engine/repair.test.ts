/** Repair on real repositories: what is damaged comes back from another copy or the live files, and nothing is discarded. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { chmod, cp, open, readdir, rm, unlink, writeFile } from "node:fs/promises";
import type { BytePath } from "../../src/base/paths.js";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import { repair, type RepairReport } from "../../src/engine/repair.js";
import type { Repository } from "../../src/engine/repository.js";
import { codeOf } from "../support/engine-keys.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED, upsert, walkFolder } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Flips every 50th byte: no record of the file is whole afterwards. */
async function ruin(file: string): Promise<void> {
  await chmod(file, 0o600);
  await using handle = await open(file, "r+");
  const bytes = await handle.readFile();
  for (let at = 30; at < bytes.length; at += 50) bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  await handle.write(bytes, 0, bytes.length, 0);
}

describe("repair", () => {
  const folder = useTempFolder("repair");
  const contents = new Map<string, Buffer>();
  let rig: EngineRig;

  beforeEach(async () => {
    rig = await EngineRig.create(folder());
    contents.clear();
    for (const [name, sizeBytes] of Object.entries({ large: 900_000, middle: 100_000, small: 500 })) {
      contents.set(name, randomBytes(sizeBytes));
      await folder().write(`data/${name}`, contents.get(name) ?? "");
    }
    await using repository = await rig.open();
    await backUp(repository);
  });

  async function backUp(repository: Repository): Promise<void> {
    const root = folder().bytes("data");
    const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
    await repository.createBackup({ type: "full", sources: [source] }, UNLIMITED);
  }

  function pathOf(name: string): BytePath {
    return folder().bytes("data", name);
  }

  async function expectContents(repository: Repository): Promise<void> {
    for (const [name, content] of contents) {
      const found = await contentOf(repository, repository.current(pathOf(name))?.node);
      expect(found.equals(content), name).to.equal(true);
    }
    for await (const { node } of repository.backupEntries("latest", {}, UNLIMITED)) {
      if (node.kind === "file") await contentOf(repository, node);
    }
  }

  async function repaired(options: Partial<Parameters<typeof repair>[1]> = {}): Promise<RepairReport> {
    await using repository = await rig.open();
    const report = await repair(repository, { dryRun: false, readData: true, ...options }, UNLIMITED);
    if (report.problemCount === 0 && !report.reopenNeeded) await expectContents(repository);
    return report;
  }

  /** After a collection even a full check of a new index finds nothing, and the bad packs are gone. */
  async function expectSoundAfterGc(): Promise<void> {
    {
      await using repository = await rig.open();
      await gc(repository, { dryRun: false, allowShare: 1 }, UNLIMITED);
    }
    await rm(rig.stateDir, { recursive: true });
    await using repository = await rig.open();
    const report = await check(repository, { level: "full" }, UNLIMITED);
    expect(report.problems).to.deep.equal([]);
    await expectContents(repository);
  }

  it("of a whole repository does nothing", async () => {
    const before = await storeFiles(rig.storeUrl, "");
    const report = await repaired();
    expect(report).to.deep.include({ chunksLost: 0, objectsRepaired: [], problemCount: 0, bytesWritten: 0 });
    expect(await storeFiles(rig.storeUrl, "packs")).to.have.members(before.filter((file) => file.includes("/packs/")));
  });

  it("takes damaged chunks from the live files, also when one of them is longer now", async () => {
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) await ruin(pack);
    await using file = await open(folder().at("data/large"), "a");
    await file.write("more");
    const report = await repaired();
    expect(report.chunksLost).to.be.greaterThan(2);
    expect(report.chunksRepaired).to.deep.equal({ parity: 0, copy: 0, live: report.chunksLost });
    expect(report.problems).to.deep.equal([]);
    await expectSoundAfterGc();
  });

  it("says what no place has any more, and keeps the damaged packs", async () => {
    const packs = await storeFiles(rig.storeUrl, "packs/d");
    for (const pack of packs) await ruin(pack);
    await writeFile(folder().at("data/large"), "another content");
    const report = await repaired();
    expect(report.chunksRepaired.live).to.be.greaterThan(0).and.lessThan(report.chunksLost);
    expect(report.problems.flatMap(({ paths }) => paths.map(({ path }) => path))).to.include(pathOf("large"));
    await using repository = await rig.open();
    await gc(repository, { dryRun: false, allowShare: 1 }, UNLIMITED);
    for (const pack of packs) expect(await storeFiles(rig.storeUrl, "packs/d")).to.include(pack);
  });

  it("takes lost packs, trees, commits and fragments from another copy", async () => {
    await cp(rig.storeUrl, folder().at("copy"), { recursive: true });
    for (const pack of await storeFiles(rig.storeUrl, "packs")) await unlink(pack);
    for (const fragment of await storeFiles(rig.storeUrl, "index")) await ruin(fragment);
    for (const commit of await storeFiles(rig.storeUrl, "commits")) await unlink(commit);
    await ruin(folder().at("store/config/2"));
    await rm(folder().at("data"), { recursive: true });
    const first = await repaired({ copyUrl: folder().at("copy") });
    expect(first.reopenNeeded).to.equal(true);
    expect(first.objectsRepaired).to.include("config/2");
    const report = await repaired({ copyUrl: folder().at("copy") });
    expect(report.chunksRepaired.live).to.equal(0);
    expect(report.chunksRepaired.copy).to.equal(report.chunksLost).and.greaterThan(3);
    expect(report.reopenNeeded).to.equal(false);
    expect(
      report.problems.map(({ detail }) => detail).filter((detail) => !detail.startsWith("the pack")),
    ).to.deep.equal([]);
    expect((await readdir(folder().at("store/damaged"))).length).to.equal(3);
    await expectSoundAfterGc();
  });

  it("takes what is whole from a copy that is damaged itself, without its lists, and a key slot", async () => {
    await folder().write("data/late", randomBytes(50_000));
    {
      await using repository = await rig.open();
      await backUp(repository);
    }
    await cp(rig.storeUrl, folder().at("copy"), { recursive: true });
    const [slot = ""] = await storeFiles(rig.storeUrl, "keys");
    const packs = await storeFiles(rig.storeUrl, "packs/d");
    expect(packs.length).to.be.greaterThan(1);
    for (const pack of packs) await ruin(pack);
    for (const list of await storeFiles(folder().at("copy"), "index")) await ruin(list);
    for (const name of ["packs/d/00", "index"])
      await folder().write(`copy/${name}/${"0".repeat(64)}`, randomBytes(900));
    await ruin(packs[0]?.replace(rig.storeUrl, folder().at("copy")) ?? "");
    await rm(folder().at("data"), { recursive: true });
    await using repository = await rig.open();
    await ruin(slot);
    const options = { dryRun: false, readData: true, copyUrl: folder().at("copy") };
    const report = await repair(repository, options, UNLIMITED);
    expect(report.chunksRepaired.copy).to.be.greaterThan(0).and.lessThan(report.chunksLost);
    expect(report.objectsRepaired).to.deep.equal([slot.replace(`${rig.storeUrl}/`, "")]);
    expect((await repository.listKeys(UNLIMITED)).map(({ kind }) => kind)).to.not.include("damaged");
    expect(report.problems.map(({ kind }) => kind)).to.include("content_damaged");
  });

  it("with --dry-run says the same and repairs nothing", async () => {
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) await ruin(pack);
    const files = async (): Promise<string[]> =>
      (await storeFiles(rig.storeUrl, "")).filter((file) => !file.includes("/suspects/")).sort();
    const before = await files();
    const report = await repaired({ dryRun: true });
    expect(report.chunksRepaired.live).to.equal(report.chunksLost).and.greaterThan(2);
    expect(await files(), "but for marks of what was found damaged").to.deep.equal(before);
  });

  it("refuses the copy of another repository and the store itself", async () => {
    const other = await EngineRig.create(folder().below("other"));
    await using repository = await rig.open();
    const options = { dryRun: false };
    for (const copyUrl of [other.storeUrl, rig.storeUrl])
      expect(await codeOf(repair(repository, { ...options, copyUrl }, UNLIMITED))).to.equal("USAGE");
    const missing = repair(repository, { ...options, copyUrl: folder().at("nothing") }, UNLIMITED);
    expect(await codeOf(missing)).to.equal("REPO_NOT_FOUND");
  });

  it("a damaged chunk is never relied upon: the next commit of its content stores it again", async () => {
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) await ruin(pack);
    await using repository = await rig.open();
    await check(repository, { level: "full" }, UNLIMITED);
    await writeFile(folder().at("data/again"), contents.get("large") ?? "");
    await upsert(repository, "docs", [folder().bytes("data/again")]);
    await contentOf(repository, repository.current(pathOf("large"))?.node);
  });
});
