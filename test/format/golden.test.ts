/**
 * Every repository that an earlier program wrote opens, says what it said then, gives every byte back, is sound, and
 * takes new backups: a store is for ever. `test/support/golden-maker.ts` makes one when the format gains something.
 */
import { expect } from "chai";
import { readdirSync } from "node:fs";
import { cp, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import { Secret } from "../../src/base/observe.js";
import { codecNamed } from "../../src/engine/codec/codec.js";
import { repair } from "../../src/engine/repair.js";
import type { Repository } from "../../src/engine/repository.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { type GoldenFacts, goldenFolder } from "../support/golden.js";
import { skip } from "../support/requirements.js";
import { digestOf, expectSound, Ledger, pictureOf, StoreScenario } from "../support/store-scenario.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

/** Every version and every entry of a backup gives the bytes of its digest; returns how many were read. */
async function readEverything(repository: Repository): Promise<number> {
  let read = 0;
  const nodes = [];
  for (const source of await repository.sourceNames()) {
    for await (const { path } of repository.currentEntries(source)) {
      nodes.push(...(await repository.versions(path, { source })).map(({ node }) => node));
    }
  }
  for (const { backup_id: id } of await repository.listBackups()) {
    for await (const { node } of repository.backupEntries(id, {}, UNLIMITED)) nodes.push(node);
  }
  for (const node of nodes) {
    if (node?.kind !== "file") continue;
    expect(digestOf(await contentOf(repository, node))).to.equal(node.sha256);
    read += 1;
  }
  return read;
}

async function copied(name: string, folder: TempFolder): Promise<{ rig: EngineRig; facts: GoldenFacts }> {
  await cp(goldenFolder(name, "store"), folder.at("store"), { recursive: true });
  const facts = JSON.parse(await readFile(join(goldenFolder(name), "facts.json"), "utf8")) as GoldenFacts;
  const unlock = facts.keyHex === undefined ? undefined : { keyBytes: Buffer.from(facts.keyHex, "hex") };
  return { rig: EngineRig.at(folder.path, unlock), facts };
}

/** Where there was parity, a pack that is lost comes back byte by byte. */
async function expectParity(rig: EngineRig): Promise<void> {
  await using repository = await rig.open();
  const covered = await repository.core.parts.parity.membersByKey(UNLIMITED);
  for (const key of [...covered.keys()].slice(0, 2)) {
    const pack = join(rig.storeUrl, key);
    const bytes = await readFile(pack);
    await unlink(pack);
    expect((await repair(repository, { dryRun: false }, UNLIMITED)).problems).to.deep.equal([]);
    expect((await readFile(pack)).equals(bytes)).to.equal(true);
  }
  expect(covered.size > 0).to.equal((await storeFiles(rig.storeUrl, "parity")).length > 0);
}

describe("a golden repository", () => {
  const folder = useTempFolder("golden");

  for (const name of readdirSync(goldenFolder())) {
    it(`of the format ${name} says what it said, gives every byte back and takes new backups`, async function () {
      if (name.includes("encrypted") && !codecNamed("zstd").available) skip(this, "no zstd on this Node");
      const { rig, facts } = await copied(name, folder());
      {
        await using repository = await rig.open();
        expect(JSON.parse(await pictureOf(repository))).to.deep.equal(JSON.parse(facts.picture));
        expect(await readEverything(repository)).to.be.greaterThan(60);
        await expectSound(repository);
        const ledger = new Ledger();
        const data = folder().below("data");
        const scenario = new StoreScenario(repository, data, new FakeClock(), (note) => ledger.add(note));
        await scenario.run();
        await ledger.expectKept(repository, data);
        await expectSound(repository);
      }
      await expectParity(rig);
      if (facts.recoveryKey === undefined) return;
      await using again = await rig.open({ unlock: { recoveryKey: new Secret(facts.recoveryKey) }, readOnly: true });
      expect(await readEverything(again)).to.be.greaterThan(60);
    });
  }
});
