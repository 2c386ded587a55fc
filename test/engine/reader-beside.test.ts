/** A reader in another process, open while the writer seals its log and collects: what it lists it can read all along. */
import { expect } from "chai";
import { readFile } from "node:fs/promises";
import { gc } from "../../src/engine/gc.js";
import { EngineRig, storeFiles, UNLIMITED } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { noise } from "../support/engine-keys.js";
import { restoreLatest } from "../support/restore-rig.js";
import { Ledger, StoreScenario } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

describe("a reader beside a writer", function () {
  this.timeout(60_000);

  it("reads and restores on when the log was sealed and packs were written anew", async () => {
    await using folder = await TempFolder.create("reader", fastTempParent());
    const rig = await EngineRig.create(folder);
    const data = folder.below("data");
    const ledger = new Ledger();
    await using writer = await rig.open();
    const scenario = new StoreScenario(writer, data, new FakeClock(), (note) => ledger.add(note));
    await scenario.commit("gone", noise(60_000, 1));
    await scenario.commit("kept", noise(20_000, 2));
    await scenario.seal();
    await scenario.backup();
    await scenario.commit("gone", "small now");
    await scenario.commit("logged", "only in the log");
    await scenario.removeBackup(scenario.backups[0] ?? "");
    await scenario.backup();
    await using reader = await rig.open({ readOnly: true, stateDir: folder.at("reader") });
    await ledger.expectKept(reader, data);
    ledger.add({ kind: "old_versions_go" });
    await scenario.seal();
    const report = await gc(writer, { dryRun: false, allowShare: 1, versionsKeptMs: 0 }, UNLIMITED);
    expect(report.packsRewritten + report.packsDeleted, "packs moved").to.be.greaterThan(0);
    await ledger.expectKept(reader, data);
    await restoreLatest(reader, folder.bytes("restored"));
    for (const name of ["gone", "kept", "logged"]) {
      const [restored = ""] = (await storeFiles(folder.at("restored"), "")).filter((path) => path.endsWith(`/${name}`));
      expect(await readFile(restored), name).to.deep.equal(await readFile(data.at(name)));
    }
  });
});
