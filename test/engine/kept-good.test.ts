/** Collections, parity and repairs keep what is good until it is proven to be held elsewhere. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { chmod, open, readFile, rm, unlink, writeFile } from "node:fs/promises";
import { gc } from "../../src/engine/gc.js";
import { writeParity } from "../../src/engine/parity.js";
import { PARITY_BLOCK_BYTES } from "../../src/engine/parity/format.js";
import { repair } from "../../src/engine/repair.js";
import type { Repository } from "../../src/engine/repository.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED, upsert } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const LAYOUT = { dataPacks: 4, parityPacks: 2 };
const READ_ALL = { dryRun: false, readData: true };

/** Inverts one byte of every `step` from `from` on. */
async function ruin(file: string, from = 100, step = 1024): Promise<void> {
  await chmod(file, 0o600);
  await using handle = await open(file, "r+");
  const bytes = await handle.readFile();
  for (let at = from; at < bytes.length; at += step) bytes[at] = (bytes[at] ?? 0) ^ 0xff;
  await handle.write(bytes, 0, bytes.length, 0);
}

describe("what is good", () => {
  const folder = useTempFolder("kept-good");
  const contents = new Map<string, Buffer>();
  let rig: EngineRig;

  beforeEach(async () => {
    rig = await EngineRig.create(folder());
    contents.clear();
  });

  /** A file in a pack of its own; gives the pack. */
  async function stored(repository: Repository, name: string, sizeBytes: number): Promise<string> {
    const before = await packs();
    contents.set(name, randomBytes(sizeBytes));
    await folder().write(`data/${name}`, contents.get(name) ?? "");
    await upsert(repository, "s", [folder().bytes("data", name)]);
    await repository.seal(UNLIMITED);
    const [made = ""] = (await packs()).filter((pack) => !before.includes(pack));
    return made;
  }

  const packs = async (): Promise<string[]> => await storeFiles(rig.storeUrl, "packs");

  async function expectContents(repository: Repository): Promise<void> {
    for (const [name, content] of contents) {
      const node = repository.current(folder().bytes("data", name))?.node;
      expect((await contentOf(repository, node)).equals(content), name).to.equal(true);
    }
  }

  for (const harm of ["damaged", "gone"] as const) {
    it(`parity of a pack that is ${harm} stays when its group is made anew`, async () => {
      await using repository = await rig.open();
      const pack = await stored(repository, "a", 90_000);
      await stored(repository, "b", 80_000);
      await writeParity(repository, LAYOUT, UNLIMITED);
      await (harm === "gone" ? unlink(pack) : ruin(pack));
      await stored(repository, "c", 70_000);
      await gc(repository, { dryRun: false, parity: LAYOUT }, UNLIMITED);
      await gc(repository, { dryRun: false, parity: { dataPacks: 3, parityPacks: 1 } }, UNLIMITED);
      await rm(folder().at("data"), { recursive: true });
      await repair(repository, READ_ALL, UNLIMITED);
      await expectContents(repository);
      await gc(repository, { dryRun: false, allowShare: 1, parity: LAYOUT }, UNLIMITED);
      expect(await storeFiles(rig.storeUrl, "parity")).to.have.length(2);
    });
  }

  it("parity that is damaged in one place still serves a repair at all others", async () => {
    await using repository = await rig.open();
    const pack = await stored(repository, "a", 90_000);
    await writeParity(repository, { dataPacks: 4, parityPacks: 1 }, UNLIMITED);
    const [parity = ""] = await storeFiles(rig.storeUrl, "parity");
    await ruin(parity, PARITY_BLOCK_BYTES + 10_000, 10 * PARITY_BLOCK_BYTES);
    await ruin(pack, 100, 10 * PARITY_BLOCK_BYTES);
    await rm(folder().at("data"), { recursive: true });
    const report = await repair(repository, READ_ALL, UNLIMITED);
    expect(report.chunksRepaired.parity).to.equal(report.chunksLost).and.greaterThan(0);
    await expectContents(repository);
  });

  it("a repaired copy of a chunk stays when the index no longer knows that the other is damaged", async () => {
    let fragments: string[];
    {
      await using repository = await rig.open();
      const pack = await stored(repository, "a", 90_000);
      fragments = await storeFiles(rig.storeUrl, "index");
      await ruin(pack, 300, Number.POSITIVE_INFINITY);
      const report = await repair(repository, READ_ALL, UNLIMITED);
      expect(report.chunksRepaired.live).to.be.greaterThan(0);
    }
    // The damaged pack is listed anew, as if it were whole.
    for (const fragment of fragments) {
      await chmod(fragment, 0o600);
      await writeFile(fragment, (await readFile(fragment)).fill(7, 100));
    }
    await using repository = await rig.open();
    await repair(repository, { dryRun: false }, UNLIMITED);
    await gc(repository, { dryRun: false, allowShare: 1 }, UNLIMITED);
    await rm(folder().at("data"), { recursive: true });
    await expectContents(repository);
  });
});
