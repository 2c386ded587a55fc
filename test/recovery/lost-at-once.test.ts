/** A file that is lost again within moments of its being put back, before anybody has looked at what was put there. */
import { existsSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import type { NoticedBy } from "../../src/base/events.js";
import type { BytePath } from "../../src/base/paths.js";
import type { SourceSettings } from "../../src/monitor/ports.js";
import { HealingBench } from "../support/healing-bench.js";
import { NEVER, RecoveryRig, sha256 } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const LIMIT_MS = 5000;

/** A protected file that is deleted, and deleted again the moment that it is back. */
async function lostTwice(settings: SourceSettings): Promise<HealingBench> {
  const bench = await HealingBench.create();
  const { watch } = bench;
  const file = await watch.folder.write("wanted.txt", "wanted");
  await watch.protect({ graceMs: 100, ...settings });
  await watch.quiet();
  const stands = watch.monitor.ownWriteStands.bind(watch.monitor);
  watch.monitor.ownWriteStands = (path) => {
    watch.monitor.ownWriteStands = stands;
    unlinkSync(file);
    stands(path);
  };
  unlinkSync(file);
  await watch.until("it was put back", () => bench.healed.length === 1, LIMIT_MS);
  return bench;
}

describe("a file that is lost again the moment it was put back", () => {
  it("is gone as its owner means it", async () => {
    await using bench = await lostTwice({});
    const { watch } = bench;
    await watch.until("the removal", () => watch.paths("file.removed").length === 1, LIMIT_MS);
    expect(watch.events("file.removed")[0]?.reason).to.contain("deleted again");
  });

  it("comes back where nothing may be removed", async () => {
    await using bench = await lostTwice({ mode: "append-only" });
    await bench.watch.until("it is back", () => bench.healed.length === 2, LIMIT_MS);
    expect(existsSync(bench.watch.folder.at("wanted.txt"))).to.equal(true);
  });
});

describe("a loss of a file that has an open incident", () => {
  const folder = useTempFolder("lost-at-once");

  it("is judged by itself when it is told before the heal of the first is written down", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const path = await rig.protect("a.txt", "text");
    const stands = rig.watch.ownWriteStands.bind(rig.watch);
    rig.watch.ownWriteStands = (placed) => {
      stands(placed);
      unlinkSync(folder().at("data/a.txt"));
      rig.bus.emit("file.lost", lossOf(path));
    };
    unlinkSync(folder().at("data/a.txt"));
    await rig.lose(path);
    expect(await statesOf(rig)).to.deep.equal(["respected", "healed"]);
    expect(rig.watch.removalsAccepted).to.deep.equal([path]);
  });

  it("is no other loss when the heal that was under way has mended it", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const path = await rig.protect("a.txt", "text");
    const stands = rig.watch.ownWriteStands.bind(rig.watch);
    rig.watch.ownWriteStands = (placed) => {
      stands(placed);
      const good = rig.watch.known.get(path);
      if (good !== undefined) rig.watch.known.set(path, { ...good, state: "live" });
    };
    unlinkSync(folder().at("data/a.txt"));
    rig.watch.beforeAway = () => {
      rig.watch.beforeAway = () => Promise.resolve();
      rig.bus.emit("file.lost", lossOf(path));
      return Promise.resolve();
    };
    await rig.lose(path);
    expect(await statesOf(rig)).to.deep.equal(["healed"]);
  });

  for (const noticedBy of ["event", "start"] as const)
    it(`is healed although a recovery of it had failed before (noticed by ${noticedBy})`, async () => {
      await using rig = await RecoveryRig.create(folder());
      await rig.start();
      const path = await rig.protect("a.txt", "text");
      rig.versions.damage(sha256("text"));
      writeFileSync(folder().at("data/a.txt"), "worked on");
      await rig.healer.recover("data", path, {}, NEVER);
      expect(await statesOf(rig)).to.deep.equal(["failed"]);
      rig.register(path);
      unlinkSync(folder().at("data/a.txt"));
      rig.bus.emit("file.lost", lossOf(path, noticedBy));
      await rig.healer.idle();
      expect(await statesOf(rig)).to.deep.equal(["healed", "returned"]);
      expect(readFileSync(folder().at("data/a.txt"), "utf8")).to.equal("worked on");
    });

  it("is no other loss when another source tells of it too", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const path = await rig.protect("a.txt", "text");
    rig.versions.damage(sha256("text"));
    unlinkSync(folder().at("data/a.txt"));
    await rig.lose(path);
    rig.bus.emit("file.lost", { ...lossOf(path), source: "also" });
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["failed"]);
  });

  it("is told again at a start, and is no other then", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const path = await rig.protect("a.txt", "text");
    rig.versions.damage(sha256("text"));
    unlinkSync(folder().at("data/a.txt"));
    await rig.lose(path);
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    rig.bus.emit("file.lost", lossOf(path, "start"));
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["failed"]);
  });
});

function lossOf(path: BytePath, noticedBy: NoticedBy = "event") {
  return { source: "data", path, kind: "deleted", noticedBy, seenAtMs: Date.now(), detail: "gone" } as const;
}

/** Newest first. */
async function statesOf(rig: RecoveryRig): Promise<string[]> {
  return (await rig.healer.incidents({ onlyOpen: false, limit: 9 })).map(({ state }) => state);
}
