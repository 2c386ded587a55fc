/** A lost file that a person brings back by a restore while its incident waits for them. */
import { unlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { pathFromText } from "../../src/base/paths.js";
import { HealingBench } from "../support/healing-bench.js";
import { sha256 } from "../support/recovery-rig.js";

const LIMIT_MS = 5000;

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
