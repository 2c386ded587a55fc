/** A lost or damaged file that a person brings back otherwise, by a restore or out of quarantine, while its incident waits. */
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { pathFromText } from "../../src/base/paths.js";
import { HealingBench } from "../support/healing-bench.js";
import { NEVER, RecoveryRig, sha256 } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const LIMIT_MS = 5000;

describe("a damaged file for which a person puts back what was in quarantine", () => {
  const folder = useTempFolder("restored-by-person");

  it("has no open incident any more, so that it is missed when it goes", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const path = await rig.protect("settings.json", "{}");
    const file = folder().at("data/settings.json");
    writeFileSync(file, "first damage");
    await rig.lose(path, "invalid_structure");
    const [healed] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
    rig.policy = { ...rig.policy, mode: "ask" };
    writeFileSync(file, "more damage");
    await rig.lose(path, "invalid_structure");
    await rig.healer.restoreQuarantined(healed?.id ?? "", NEVER);
    await rig.healer.idle();
    expect(readFileSync(file, "utf8")).to.equal("first damage");
    rig.policy = { ...rig.policy, mode: "protect" };
    rig.register(path);
    unlinkSync(file);
    await rig.lose(path);
    const states = (await rig.healer.incidents({ onlyOpen: false, limit: 9 })).map(({ state }) => state);
    expect(states).to.deep.equal(["healed", "returned", "healed"]);
    expect(readFileSync(file, "utf8")).to.equal("first damage");
  });
});

describe("a lost file that a person restores", () => {
  for (const content of ["wanted", "an older version"])
    it(`has no open incident any more, so that it is missed when it goes again (${content})`, async () => {
      await using bench = await HealingBench.create();
      const { watch, healer } = bench;
      const file = await watch.folder.write("file.txt", "wanted");
      await watch.protect({ graceMs: 100, mode: "ask" });
      await watch.quiet();
      unlinkSync(file);
      await watch.until("it waits for a person", () => bench.notHealed.length === 1, LIMIT_MS);
      const [incident] = await healer.incidents({ onlyOpen: true, limit: 1 });
      writeFileSync(file, content);
      watch.monitor.acceptRestored("data", pathFromText(file), { sha256: sha256(content) });
      await watch.until("its incident is closed", () => !healer.isOpen(incident?.id ?? ""), LIMIT_MS);
      await watch.quiet();
      unlinkSync(file);
      await watch.until("it waits for a person again", () => bench.notHealed.length === 2, LIMIT_MS);
      const states = (await healer.incidents({ onlyOpen: false, limit: 9 })).map(({ state }) => state);
      expect(states).to.deep.equal(["waiting", "returned"]);
    });
});
