/** What was found damaged once is not relied upon again, whatever happens to the index and to the lists of packs. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { chmod, cp, open, readFile, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import { writeParity } from "../../src/engine/parity.js";
import { repair } from "../../src/engine/repair.js";
import type { Repository } from "../../src/engine/repository.js";
import { codeOf } from "../support/engine-keys.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED, upsert } from "../support/engine-rig.js";
import { backUpFolder } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Changes a byte in the middle of the first large record. */
async function harm(file: string): Promise<void> {
  await chmod(file, 0o600);
  await using handle = await open(file, "r+");
  await handle.write(Buffer.from("damage"), 0, 6, 5000);
}

describe("what was found damaged", () => {
  const folder = useTempFolder("suspect-packs");
  let rig: EngineRig;
  const contents = new Map<string, Buffer>();

  beforeEach(async () => {
    rig = await EngineRig.create(folder());
    contents.clear();
    await using repository = await rig.open();
    for (const name of ["a", "b", "c"]) await stored(repository, name, randomBytes(50_000));
  });

  const packs = async (): Promise<string[]> => (await storeFiles(rig.storeUrl, "packs")).sort();
  const marks = async (): Promise<string[]> => await storeFiles(rig.storeUrl, "suspects");

  /** A file in a pack of its own. */
  async function stored(repository: Repository, name: string, content: Buffer): Promise<void> {
    contents.set(name, content);
    await folder().write(`data/${name}`, content);
    await upsert(repository, "s", [folder().bytes("data", name)]);
    await repository.seal(UNLIMITED);
  }

  function chunksOf(repository: Repository, name: string) {
    return repository.current(folder().bytes("data", name))?.node.chunks ?? [];
  }

  /** Names of the files of which a chunk would not be stored again though no whole copy of it is there. */
  function relied(repository: Repository): string[] {
    const { chunkSet } = repository.core.parts;
    return [...contents.keys()].filter((name) => chunksOf(repository, name).every(({ id }) => chunkSet.isDurable(id)));
  }

  async function expectContents(repository: Repository): Promise<void> {
    for (const [name, content] of contents) {
      const found = await contentOf(repository, repository.current(folder().bytes("data", name))?.node);
      expect(found.equals(content), name).to.equal(true);
    }
  }

  /** The same content in a new file: with what the store gives, all of them can be read. */
  async function expectStoredAgain(repository: Repository): Promise<void> {
    for (const [name, content] of contents) await writeFile(folder().at(`data/again-${name}`), content);
    await upsert(
      repository,
      "s",
      [...contents.keys()].map((name) => folder().bytes("data", `again-${name}`)),
    );
    await expectContents(repository);
  }

  async function found(): Promise<void> {
    await using repository = await rig.open();
    const { problemCount } = await check(repository, { level: "full" }, UNLIMITED);
    expect(problemCount).to.be.greaterThan(0);
    expect(relied(repository)).to.have.length(2);
  }

  for (const [what, lose] of Object.entries({
    lost: async () => await rm(rig.stateDir, { recursive: true }),
    "replaced by an old copy": async () => {
      await rm(rig.stateDir, { recursive: true });
      await cp(folder().at("old"), rig.stateDir, { recursive: true });
    },
  })) {
    it(`is not relied upon by an index that was ${what}`, async () => {
      await cp(rig.stateDir, folder().at("old"), { recursive: true });
      await harm((await packs())[0] ?? "");
      await found();
      await lose();
      await using repository = await rig.open();
      expect(relied(repository)).to.have.length(2);
      await expectStoredAgain(repository);
    });
  }

  it("is not relied upon after the pack was listed anew", async () => {
    await harm((await packs())[0] ?? "");
    await found();
    for (const fragment of await storeFiles(rig.storeUrl, "index")) await harm(fragment);
    await rm(folder().at("data"), { recursive: true });
    {
      await using repository = await rig.open();
      const report = await repair(repository, { dryRun: false }, UNLIMITED);
      expect(report.objectsRepaired).to.have.length(3);
      expect(report.chunksLost).to.equal(1);
      expect(relied(repository)).to.have.length(2);
    }
    await using repository = await rig.open();
    expect(relied(repository)).to.have.length(2);
    await folder().write("data/x", "so that the folder is there");
    await expectStoredAgain(repository);
  });

  it("is not relied upon by a new index when the pack is gone", async () => {
    await unlink((await packs())[0] ?? "");
    await rm(rig.stateDir, { recursive: true });
    await using repository = await rig.open();
    expect(relied(repository)).to.have.length(2);
    await expectStoredAgain(repository);
  });

  it("may be a pack that does not read: it is told, the check goes on, and nothing in it is relied upon", async () => {
    const [pack = ""] = await packs();
    await rename(pack, folder().at("elsewhere"));
    await symlink(folder().at("elsewhere"), pack); // links are not followed: opening it is an error of the store
    await found();
    await rm(rig.stateDir, { recursive: true });
    await using repository = await rig.open();
    const { packsChecked, problems } = await check(repository, { level: "full" }, UNLIMITED);
    expect(packsChecked).to.equal(3);
    expect(problems.map(({ kind }) => kind)).to.include("pack_damaged");
    expect(relied(repository)).to.have.length(2);
    await expectStoredAgain(repository);
  });

  it("is trusted again when a check finds it whole", async () => {
    const [pack = ""] = await packs();
    const bytes = await readFile(pack);
    await harm(pack);
    await found();
    expect(await marks()).to.have.length(1);
    await writeFile(pack, bytes);
    await using repository = await rig.open();
    expect(relied(repository)).to.have.length(2);
    const { problems } = await check(repository, { level: "full" }, UNLIMITED);
    expect(problems).to.deep.equal([]);
    expect(relied(repository)).to.have.length(3);
    expect(await repository.stats()).to.include({ suspectChunks: 0 });
    expect(await marks()).to.deep.equal([]);
  });

  it("leaves no mark when a repair and a collection have done away with it", async () => {
    await harm((await packs())[0] ?? "");
    await using repository = await rig.open();
    await repair(repository, { dryRun: false, readData: true }, UNLIMITED);
    expect(await marks()).to.have.length(1);
    await gc(repository, { dryRun: false, allowShare: 1 }, UNLIMITED);
    expect(await marks()).to.deep.equal([]);
    const { problems } = await check(repository, { level: "full" }, UNLIMITED);
    expect(problems).to.deep.equal([]);
    await expectContents(repository);
  });
});

describe("a commit that cannot be read", () => {
  const folder = useTempFolder("bad-commit");

  it("keeps a collection from removing what it refers to, until it is back or moved away", async () => {
    const rig = await EngineRig.create(folder());
    {
      await using repository = await rig.open();
      await folder().write("data/a", randomBytes(90_000));
      await backUpFolder(repository, folder().bytes("data"));
    }
    const [commit = ""] = (await storeFiles(rig.storeUrl, "commits")).reverse();
    const bytes = await readFile(commit);
    const worse = Buffer.from(bytes);
    worse[200] = (worse[200] ?? 0) ^ 1;
    await writeFile(commit, worse);
    await rm(rig.stateDir, { recursive: true });
    const before = await storeFiles(rig.storeUrl, "packs");
    const collect = async (repository: Repository): Promise<unknown> =>
      await gc(repository, { dryRun: false, allowShare: 1, versionsKeptMs: 0 }, UNLIMITED);
    {
      await using repository = await rig.open();
      expect(await codeOf(collect(repository))).to.equal("RECORD_DAMAGED");
    }
    expect(await storeFiles(rig.storeUrl, "packs")).to.deep.equal(before);
    await writeFile(commit, bytes);
    await using repository = await rig.open();
    await collect(repository);
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });
});

describe("a pack that is gone, with its fragment and the index", () => {
  const folder = useTempFolder("parity-knows");
  let rig: EngineRig;
  let content: Buffer;

  beforeEach(async () => {
    rig = await EngineRig.create(folder());
    content = randomBytes(120_000);
    await using repository = await rig.open();
    for (const name of ["a", "b", "c"]) {
      await folder().write(`data/${name}`, name === "a" ? content : randomBytes(100_000));
      await upsert(repository, "s", [folder().bytes("data", name)]);
      await repository.seal(UNLIMITED);
    }
    await writeParity(repository, { dataPacks: 3, parityPacks: 1 }, UNLIMITED);
  });

  const packs = async (): Promise<string[]> => (await storeFiles(rig.storeUrl, "packs")).sort();

  it("is found in parity: reads go on, and a repair brings it back byte by byte", async () => {
    const before = await packs();
    const kept = await Promise.all(before.map(async (pack) => await readFile(pack)));
    const lost = kept.findIndex(({ length }) => length > 120_000);
    await unlink(before[lost] ?? "");
    for (const fragment of await storeFiles(rig.storeUrl, "index")) await harm(fragment);
    await rm(rig.stateDir, { recursive: true });
    await rm(folder().at("data"), { recursive: true });
    const read = async (repository: Repository): Promise<void> => {
      const node = repository.current(folder().bytes("data", "a"))?.node;
      expect((await contentOf(repository, node)).equals(content)).to.equal(true);
    };
    await using repository = await rig.open();
    await read(repository);
    const told = await check(repository, { level: "structure" }, UNLIMITED);
    expect(told.problems.map(({ kind }) => kind)).to.include("pack_missing");
    const report = await repair(repository, { dryRun: false }, UNLIMITED);
    expect(report.problems).to.deep.equal([]);
    expect(await packs()).to.deep.equal(before);
    expect((await readFile(before[lost] ?? "")).equals(kept[lost] ?? content)).to.equal(true);
    await repository[Symbol.asyncDispose]();
    await rm(rig.stateDir, { recursive: true });
    await using again = await rig.open();
    await read(again);
    expect((await check(again, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  it("is not missed when a collection removed it", async () => {
    {
      await using repository = await rig.open();
      await repository.commitChanges("s", [{ path: folder().bytes("data", "b"), kind: "remove" }], UNLIMITED);
      for (let commit = 0; commit < 9; commit += 1) {
        await folder().write("data/d", `turn ${String(commit)}`);
        await upsert(repository, "s", [folder().bytes("data", "d")]);
        await repository.seal(UNLIMITED);
      }
      const report = await gc(repository, { dryRun: false, allowShare: 1, versionsKeptMs: 0 }, UNLIMITED);
      expect(report.packsDeleted).to.be.greaterThan(0);
      expect(await storeFiles(rig.storeUrl, "parity")).to.have.length(1);
    }
    await rm(rig.stateDir, { recursive: true });
    await using repository = await rig.open();
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems.map(({ kind }) => kind)).to.deep.equal([]);
  });
});
