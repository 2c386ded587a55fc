/** A reader in another process, open while the writer collects: what it lists it can read all along. */
import { expect } from "chai";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import { systemClock } from "../../src/base/clock.js";
import { type FileIo, systemIo } from "../../src/storage/file-io.js";
import { codeOf, noise } from "../support/engine-keys.js";
import { EngineRig, UNLIMITED, contentOf, storeFiles, upsert } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { FaultIo } from "../support/fault-io.js";
import { StoreScenario } from "../support/store-scenario.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Thinning begins when some old delta commits are there. */
const OLD_SEALS = 12;

/** The system's files, for somebody who stands still before the first call that reads such a path. */
function pausedBefore(where: RegExp, pause: () => Promise<void>): FileIo {
  let isDone = false;
  const pass = async (path: string): Promise<void> => {
    if (isDone || !where.test(path)) return;
    isDone = true;
    await pause();
  };
  return {
    ...systemIo,
    list: async (path) => {
      await pass(path);
      return await systemIo.list(path);
    },
    open: async (path) => {
      await pass(path);
      return await systemIo.open(path);
    },
    stat: async (path) => {
      await pass(path);
      return await systemIo.stat(path);
    },
  };
}

describe("a reader beside a writer", () => {
  const folder = useTempFolder("reader-beside");

  it("lets go of its index when it cannot see whether what it did not read was moved", async () => {
    const rig = await EngineRig.create(folder());
    {
      await using writer = await rig.open();
      await folder().write("data/a", "content");
      await upsert(writer, "docs", [folder().bytes("data/a")]);
      await writer.seal(UNLIMITED);
    }
    const [commit = ""] = await storeFiles(rig.storeUrl, "commits");
    await writeFile(commit, "damaged");
    await mkdir(`${rig.storeUrl}/gc`, { recursive: true });
    const io = new FaultIo();
    let looks = 0;
    io.readPlan = (call, path) => {
      const isLook = call === "list" && path === `${rig.storeUrl}/gc/`;
      looks += Number(isLook);
      return isLook && looks === 2 ? "EIO" : undefined;
    };
    const open = { readOnly: true, stateDir: folder().at("reader"), io };
    expect(await codeOf(rig.open(open))).to.equal("STORE_IO");
    await using reader = await rig.open(open);
    expect(reader.generation).to.not.equal("");
  });

  it("reads on when a pack was written anew and the one that it knows is gone", async () => {
    const rig = await EngineRig.create(folder());
    await using writer = await rig.open();
    const [gone, kept] = [folder().bytes("data/gone"), folder().bytes("data/kept")];
    const content = Buffer.from(noise(20_000, 2));
    await folder().write("data/gone", noise(60_000, 1));
    await folder().write("data/kept", content);
    await upsert(writer, "docs", [gone, kept]);
    await writer.seal(UNLIMITED);
    for (let round = 0; round < OLD_SEALS; round += 1) {
      await folder().write("data/gone", `content ${String(round)}`);
      await upsert(writer, "docs", [gone]);
      await writer.seal(UNLIMITED);
    }
    await systemClock.sleep(5, UNLIMITED);
    await using reader = await rig.open({ readOnly: true, stateDir: folder().at("reader") });
    const report = await gc(writer, { dryRun: false, allowShare: 1, versionsKeptMs: 0 }, UNLIMITED);
    expect(report.packsRewritten).to.be.greaterThan(0);
    expect(await contentOf(reader, reader.current(kept)?.node)).to.deep.equal(content);
    expect((await contentOf(reader, reader.current(gone)?.node)).toString()).to.equal(
      `content ${String(OLD_SEALS - 1)}`,
    );
  });

  it("finds no damage in what a collection moved or removed, and the damage that is there all the same", async () => {
    const rig = await EngineRig.create(folder());
    await using writer = await rig.open();
    const data = folder().below("data");
    const scenario = new StoreScenario(writer, data, new FakeClock(), () => undefined);
    await scenario.commit("kept", noise(20_000, 2));
    await scenario.commit("gone", noise(60_000, 1));
    await scenario.backup();
    for (let round = 0; round < OLD_SEALS; round += 1) {
      await scenario.commit("gone", `content ${String(round)}`);
      await scenario.seal();
    }
    await systemClock.sleep(5, UNLIMITED);
    await using reader = await rig.open({ readOnly: true, stateDir: folder().at("reader") });
    await scenario.removeBackup(scenario.backups[0] ?? "");
    const report = await gc(writer, { dryRun: false, allowShare: 1, versionsKeptMs: 0 }, UNLIMITED);
    expect(report.packsRewritten + report.packsDeleted).to.be.greaterThan(1);
    await scenario.commit("new", "behind it");
    for (const level of ["structure", "full"] as const) {
      expect((await check(reader, { level }, UNLIMITED)).problems, level).to.deep.equal([]);
    }
    await using fresh = await rig.open({ readOnly: true, stateDir: folder().at("fresh") });
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) await rm(pack);
    const { problems } = await check(fresh, { level: "structure" }, UNLIMITED);
    expect(problems.map(({ kind }) => kind)).to.include.members(["pack_missing", "content_damaged"]);
  });

  it("begins with all that was committed by then, whenever the writer seals and collects while it opens", async () => {
    const rig = await EngineRig.create(folder());
    await using writer = await rig.open();
    const path = folder().bytes("data/a");
    const steps = [
      /wal\/$/,
      /wal\/\w+$/,
      /\.seg$/,
      /gc\/$/,
      /commits\/$/,
      /commits\/.*\d$/,
      /index\/$/,
      /index\/\w+$/,
      /packs\//,
    ];
    for (const [number, step] of steps.entries()) {
      let isPaused = false;
      const content = `content ${String(number)}`;
      await folder().write("data/a", content);
      await upsert(writer, "docs", [path]);
      const io = pausedBefore(step, async () => {
        isPaused = true;
        await writer.seal(UNLIMITED);
        await gc(writer, { dryRun: false, allowShare: 1, versionsKeptMs: 0 }, UNLIMITED);
      });
      const stateDir = folder().at(`reader ${String(number)}`);
      await using reader = await rig.open({ readOnly: true, stateDir, io });
      expect(isPaused, String(step)).to.equal(true);
      const found = (await contentOf(reader, reader.current(path)?.node)).toString();
      expect(found, `paused before ${String(step)}`).to.equal(content);
      expect((await check(reader, { level: "structure" }, UNLIMITED)).problems).to.deep.equal([]);
    }
  });
});
