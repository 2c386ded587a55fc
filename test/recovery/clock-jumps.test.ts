/** The wall clock is set while files are healed: it neither stops healing, nor lets it go round in circles. */
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { RestoreMemory } from "../../src/recovery/gate.js";
import { DEFAULT_HEALER_SETTINGS } from "../../src/recovery/healer.js";
import { FakeClock } from "../support/fake-clock.js";
import { RecoveryRig } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const PATH = "/data/a" as BytePath;
const DAY_MS = 86_400_000;
const { breakerPathWindowMs } = DEFAULT_HEALER_SETTINGS;

describe("the memory of restores, when the clock is set", () => {
  for (const jumpMs of [-DAY_MS, DAY_MS]) {
    const where = jumpMs < 0 ? "back" : "ahead";
    it(`a day ${where}: holds a path for as long as without`, async () => {
      const clock = new FakeClock();
      const memory = new RestoreMemory(clock, DEFAULT_HEALER_SETTINGS);
      for (let count = 0; count < 3; count += 1) memory.note(PATH, "itself");
      clock.jumpWall(jumpMs);
      expect(memory.breakerReason(PATH)).to.contain("3 times");
      await clock.advance(breakerPathWindowMs + 1);
      expect(memory.breakerReason(PATH)).to.equal(undefined);
    });

    it(`a day ${where}: counts the files of a minute as without`, async () => {
      const clock = new FakeClock();
      const memory = new RestoreMemory(clock, { ...DEFAULT_HEALER_SETTINGS, breakerRestoresPerMinute: 1 });
      memory.note(PATH, "itself");
      clock.jumpWall(jumpMs);
      expect(memory.breakerReason("/data/b" as BytePath)).to.contain("1 files");
      await clock.advance(60_001);
      expect(memory.breakerReason("/data/b" as BytePath)).to.equal(undefined);
    });
  }
});

describe("the healer, when the clock is set back a day", () => {
  const folder = useTempFolder("clock-jumps");

  it("does not take the next deletion of what it had put back for its owner's will", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await startedRig(clock);
    const path = await rig.protect("a.txt", "text");
    for (let round = 0; round < 2; round += 1) {
      await rm(folder().at("data/a.txt"));
      await rig.lose(path);
      clock.jumpWall(-DAY_MS);
    }
    expect(existsSync(folder().at("data/a.txt"))).to.equal(true);
    expect(rig.watch.removalsAccepted).to.deep.equal([]);
  });

  it("does not take a mass deletion of what it had put back for its owner's will", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await startedRig(clock);
    const path = await rig.protect("a.txt", "text");
    const loss = {
      source: "data",
      path,
      kind: "deleted",
      noticedBy: "event",
      seenAtMs: Date.now(),
      detail: "",
    } as const;
    clock.jumpWall(-DAY_MS);
    rig.bus.emit("mass.loss", { source: "data", losses: [{ ...loss, healedAtMs: Date.now() }], isAttack: false });
    await rig.healer.idle();
    expect(rig.watch.removalsAccepted).to.deep.equal([]);
  });

  it("heals after a restart what it had healed three times before", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await startedRig(clock);
    const path = await rig.protect("a.json", "{}");
    const file = folder().at("data/a.json");
    const damage = async (): Promise<void> => {
      await writeFile(file, "{");
      await rig.lose(path, "invalid_structure");
    };
    for (let round = 0; round < 3; round += 1) await damage();
    await rig.healer[Symbol.asyncDispose]();
    clock.jumpWall(-DAY_MS);
    await rig.start();
    await damage();
    expect(await readFile(file, "utf8")).to.equal("{}");
  });

  async function startedRig(clock: FakeClock): Promise<RecoveryRig> {
    const rig = await RecoveryRig.create(folder(), { clock });
    await rig.start();
    return rig;
  }
});
