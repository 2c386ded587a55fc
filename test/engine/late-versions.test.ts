/**
 * Versions that a start cannot read and a later one can, as on a disk in trouble: whatever the index says is current is
 * in the next backup, though no newer commit made it and the last tree was built without it.
 */
import { expect } from "chai";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { BytePath } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, upsert, walkFolder } from "../support/engine-rig.js";
import { FaultIo } from "../support/fault-io.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a version that did not read at a start", () => {
  const folder = useTempFolder("late-versions");
  const late = (): BytePath => folder().bytes("data", "late");

  /** A backup, and behind it a commit of a file, in the log or (sealed) in a commit object. */
  async function backedUpAndCommitted(where: "log" | "commits"): Promise<EngineRig> {
    const rig = await EngineRig.create(folder());
    await folder().write("data/early", "early");
    const io = new FaultIo();
    await using repository = await rig.open({ io });
    await backUp(repository, false);
    await folder().write("data/late", "late");
    await upsert(repository, "docs", [late(), folder().bytes("data")]);
    if (where === "log") io.plan = () => "EIO"; // what is not sealed stays in the log
    return rig;
  }

  async function openUnread(rig: EngineRig, part: string, isIndexLost: boolean): Promise<Repository> {
    if (isIndexLost) await rm(join(rig.stateDir, "index"), { recursive: true });
    const io = new FaultIo();
    io.readPlan = (call, path) => (call === "read" && path.includes(part) ? "EIO" : undefined);
    return await rig.open({ io });
  }

  /** Backs up; `isLateHeld`: the file is held back, as one is that an attack may have changed. Gives what the backup holds. */
  async function backUp(repository: Repository, isLateHeld: boolean): Promise<BytePath[]> {
    const root = folder().bytes("data");
    const heldBack = (path: BytePath): boolean => isLateHeld && path === late();
    const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false, heldBack };
    const { backup_id: id } = await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
    const paths: BytePath[] = [];
    for await (const { path } of repository.backupEntries(id, {}, UNLIMITED)) paths.push(path);
    return paths;
  }

  it("is in a backup when the index knows it, though the log does not read", async () => {
    const rig = await backedUpAndCommitted("log");
    await using repository = await openUnread(rig, "/wal/", false);
    expect(repository.current(late())?.path).to.equal(late());
    expect(await backUp(repository, true)).to.include(late());
  });

  for (const [where, part] of [
    ["log", "/wal/"],
    ["commits", "/commits/"],
  ] as const) {
    it(`is in the backup after it read again, where it was in the ${where}`, async () => {
      const rig = await backedUpAndCommitted(where);
      {
        await using repository = await openUnread(rig, part, true);
        expect(await backUp(repository, true)).not.to.include(late());
      }
      await using repository = await rig.open();
      expect(repository.current(late())?.path).to.equal(late());
      expect(await backUp(repository, false)).to.include(late());
    });
  }
});
