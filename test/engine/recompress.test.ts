/** Recompression: packs get smaller, nothing else changes, and whatever breaks it off loses nothing. */
import { expect } from "chai";
import { readFile, stat, writeFile } from "node:fs/promises";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import { type RecompressOptions, type RecompressReport, recompress } from "../../src/engine/recompress.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, contentOf, storeFiles, walkFolder } from "../support/engine-rig.js";
import { FaultIo } from "../support/fault-io.js";
import { rejection } from "../support/rejection.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

const FILES = 60;

/** Text with far repeats, of which a higher level makes more. */
function text(seed: number): string {
  const words: string[] = [];
  for (let word = 0; word < 4000; word += 1) words.push(`word-${String((word * word * (seed + 7)) % 613)}`);
  return words.join(" ");
}

async function filled(folder: TempFolder, repository: Repository): Promise<void> {
  for (let index = 0; index < FILES; index += 1) await folder.write(`data/${String(index)}`, text(index));
  const source = { name: "docs", roots: [folder.bytes("data")], encryptionRequired: false };
  for (const type of ["full", "incremental"] as const) {
    const sources = [{ ...source, walk: walkFolder(folder.bytes("data")) }];
    await repository.createBackup({ type, sources, compression: "zstd:1" }, UNLIMITED);
    await folder.write("data/late", text(1000));
  }
}

async function packBytes(rig: EngineRig): Promise<number> {
  const sizes = await Promise.all(
    (await storeFiles(rig.storeUrl, "packs")).map(async (path) => (await stat(path)).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function expectWhole(repository: Repository): Promise<void> {
  expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  let files = 0;
  for await (const { path, node } of repository.currentEntries("docs")) {
    if (node.kind !== "file") continue;
    files += 1;
    expect((await contentOf(repository, node)).equals(await readFile(Buffer.from(path, "latin1")))).to.equal(true);
  }
  expect(files).to.equal(FILES + 1);
}

class Memory {
  readonly packs = new Map<string, string>();
  readonly get = (pack: string): Promise<string | undefined> => Promise.resolve(this.packs.get(pack));
  readonly put = (pack: string, compression: string): Promise<void> => {
    this.packs.set(pack, compression);
    return Promise.resolve();
  };
}

async function run(
  repository: Repository,
  tried: Memory,
  options: Partial<RecompressOptions> = {},
  signal = UNLIMITED,
): Promise<RecompressReport> {
  const wanted = { compression: "zstd:19", budgetBytes: 2 ** 40, tried, goOn: () => true, ...options } as const;
  return await recompress(repository, wanted, signal);
}

describe("recompression", () => {
  const folder = useTempFolder("recompress");

  it("makes packs smaller, keeps everything, and does it once", async () => {
    const rig = await EngineRig.create(folder());
    const tried = new Memory();
    {
      await using repository = await rig.open();
      await filled(folder(), repository);
      const before = await packBytes(rig);
      const report = await run(repository, tried);
      const after = await packBytes(rig);
      expect(report.isDone).to.equal(true);
      expect(report.packsRewritten).to.be.greaterThan(0);
      expect(after).to.be.lessThan(before * 0.97);
      expect(before - after).to.equal(report.bytesSaved);
      await expectWhole(repository);
      expect(await run(repository, tried)).to.include({ packsTried: 0, packsRewritten: 0, isDone: true });
      const collected = await gc(repository, { dryRun: false }, UNLIMITED);
      expect(collected).to.include({ packsDeleted: 0, packsRewritten: 0, chunksRemoved: 0 });
    }
    await using again = await rig.open({ stateDir: folder().at("other-state") });
    await expectWhole(again);
  });

  it("stops when the budget is used up or it is not to go on", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await filled(folder(), repository);
    expect(await run(repository, new Memory(), { goOn: () => false })).to.include({ packsTried: 0, isDone: false });
    expect(await run(repository, new Memory(), { budgetBytes: 1 })).to.include({ packsTried: 1, isDone: false });
    await expectWhole(repository);
  });

  it("can be broken off at once", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await filled(folder(), repository);
    const abort = new AbortController();
    const goOn = (): boolean => {
      setImmediate(() => abort.abort());
      return true;
    };
    const error = await rejection(run(repository, new Memory(), { goOn }, abort.signal));
    expect(error).not.to.equal(undefined);
    await expectWhole(repository);
  });

  it("loses nothing when the store fails between the new packs and the old", async () => {
    const rig = await EngineRig.create(folder());
    const io = new FaultIo();
    {
      await using repository = await rig.open({ io });
      await filled(folder(), repository);
      io.plan = (_call, path) => (path.includes("/gc/") ? "ENOSPC" : undefined);
      expect(await rejection(run(repository, new Memory()))).to.have.property("code", "STORE_FULL");
      io.plan = () => undefined;
      await expectWhole(repository);
    }
    await using again = await rig.open();
    await expectWhole(again);
    await gc(again, { dryRun: false, allowShare: 1 }, UNLIMITED);
    await expectWhole(again);
  });

  it("leaves a damaged pack as it is, for a repair", async () => {
    const rig = await EngineRig.create(folder());
    const tried = new Memory();
    await using repository = await rig.open();
    await filled(folder(), repository);
    const [pack = ""] = await storeFiles(rig.storeUrl, "packs/d");
    const bytes = await readFile(pack);
    bytes.writeUInt8(bytes.readUInt8(300) ^ 1, 300);
    await writeFile(pack, bytes);
    await run(repository, tried);
    expect(await storeFiles(rig.storeUrl, "packs/d")).to.include(pack);
  });
});
