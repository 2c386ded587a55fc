/** What a person asks of the healer about one path: to see, to have it elsewhere, to have it as it was. */
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { pathFromText } from "../../src/base/paths.js";
import { NEVER, RecoveryRig, type RigOptions } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("recovering at a person's word", () => {
  const folder = useTempFolder("recover");

  it("explains, puts it elsewhere, and gives it back as of a time", async () => {
    await using rig = await startedRig(folder());
    const file = folder().at("data/a.txt");
    const path = pathFromText(await folder().write("data/a.txt", "old"));
    rig.versions.keep(path, 1000);
    await writeFile(file, "new");
    rig.register(path);
    await rm(file);
    const explained = await rig.healer.recover("data", path, { explain: true }, NEVER);
    expect(explained.outcome).to.equal("explained");
    expect(explained.candidates.map((candidate) => candidate.verdict)).to.include("taken");
    expect(existsSync(file)).to.equal(false);
    const elsewhere = await rig.healer.recover("data", path, { to: folder().bytes("copy") }, NEVER);
    expect(elsewhere.outcome).to.equal("healed");
    expect(await readFile(folder().at("copy"), "utf8")).to.equal("new");
    const again = await rig.healer.recover("data", path, { to: folder().bytes("copy") }, NEVER);
    expect(again.outcome).to.equal("failed");
    const older = await rig.healer.recover("data", path, { atMs: 2000 }, NEVER);
    expect(older.outcome).to.equal("healed");
    expect(await readFile(file, "utf8")).to.equal("old");
    const newest = await rig.healer.recover("data", path, {}, NEVER);
    expect(newest.outcome).to.equal("healed");
    expect(await readFile(file, "utf8")).to.equal("new");
    expect((await rig.healer.recover("data", path, {}, NEVER)).outcome).to.equal("returned");
    expect(await rejection(rig.healer.recover("data", path, { strategy: "magic" }, NEVER))).to.have.property(
      "code",
      "USAGE",
    );
    expect(await rejection(rig.healer.recover("data", path, { atMs: 1 }, NEVER))).to.have.property(
      "code",
      "VERSION_NOT_FOUND",
    );
  });

  it("makes no incident of a path that nobody knows, which would wait for ever", async () => {
    await using rig = await startedRig(folder());
    const result = await rig.healer.recover("data", folder().bytes("data/never"), {}, NEVER);
    expect(result.outcome).to.equal("failed");
    expect(await rig.healer.incidents({ onlyOpen: false, limit: 10 })).to.deep.equal([]);
  });

  it("says of a healthy file that there is nothing to recover, not that it is damaged", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.txt", "older");
    await writeFile(folder().at("data/a.txt"), "text");
    rig.register(path);
    const explained = await rig.healer.recover("data", path, { explain: true }, NEVER);
    expect(explained).to.include({
      outcome: "explained",
      message: "the file is as it was last known good: there is nothing to recover",
    });
    expect(explained.candidates[0]?.why).to.equal("it is the last good content, and stands there already");
    expect(explained.candidates.map(({ verdict }) => verdict)).to.deep.equal(["refused", "offered"]);
  });
});

async function startedRig(folder: TempFolder, options: RigOptions = {}): Promise<RecoveryRig> {
  const rig = await RecoveryRig.create(folder, options);
  await rig.start();
  return rig;
}
