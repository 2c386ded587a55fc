/** What healing does in the modes that let files only grow. */
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { RecoveryRig } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("healing of files that may only grow", () => {
  const folder = useTempFolder("growing");

  it("puts what was overwritten back, and keeps what stood there", async () => {
    await using rig = await RecoveryRig.create(folder(), { policy: { mode: "growing" } });
    await rig.start();
    const path = await rig.protect("app.log", "line 1\nline 2\n");
    await writeFile(folder().at("data/app.log"), "LINE 1\nline 2\nline 3\n");
    await rig.lose(path, "overwritten");
    expect(await readFile(folder().at("data/app.log"), "utf8")).to.equal("line 1\nline 2\n");
    const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
    expect(incident).to.include({ state: "healed", kind: "overwritten" });
    expect(incident?.quarantined).to.have.length(1);
  });

  it("takes no second deletion for the owner's will in an append-only folder, and asks after the third restore", async () => {
    await using rig = await RecoveryRig.create(folder(), { policy: { mode: "append-only" } });
    await rig.start();
    const path = await rig.protect("upload.bin", "bytes");
    for (let round = 0; round < 3; round += 1) {
      await rm(folder().at("data/upload.bin"));
      await rig.lose(path);
      expect(existsSync(folder().at("data/upload.bin")), `round ${String(round)}`).to.equal(true);
    }
    await rm(folder().at("data/upload.bin"));
    await rig.lose(path);
    expect(existsSync(folder().at("data/upload.bin"))).to.equal(false);
    expect((await rig.healer.incidents({ onlyOpen: true, limit: 1 }))[0]?.state).to.equal("waiting");
    expect(rig.watch.removalsAccepted).to.deep.equal([]);
  });
});
