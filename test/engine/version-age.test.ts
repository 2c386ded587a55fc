/** The age of versions when clocks are wrong: nothing becomes old because a clock is ahead. */
import { expect } from "chai";
import fc from "fast-check";
import { gc } from "../../src/engine/gc.js";
import { oldBeforeMs } from "../../src/engine/version-age.js";
import { EngineRig, UNLIMITED } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { DAY_MS, StoreScenario } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

const KEPT_MS = 30 * DAY_MS;
const YEARS_MS = 3650 * DAY_MS;

function commitsAt(times: readonly number[]): { number: number; timeMs: number }[] {
  return times.map((timeMs, index) => ({ number: index + 1, timeMs }));
}

describe("versions are old", () => {
  it("when they were made longer ago than they are kept, where commits are not far apart", () => {
    const days = fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(days, (gaps) => {
        let timeMs = YEARS_MS;
        const times = gaps.map((gap) => (timeMs += gap * DAY_MS));
        expect(oldBeforeMs(commitsAt(times), timeMs, KEPT_MS)).to.equal(timeMs - KEPT_MS);
      }),
    );
  });

  it("never for a clock that is ahead by years, also when it made commits by then or was set right again", () => {
    const made = YEARS_MS;
    const before = [made - 2 * DAY_MS, made - DAY_MS, made];
    const ahead = [made + YEARS_MS, made + YEARS_MS + DAY_MS];
    const right = [made + 1000, made + DAY_MS];
    for (const times of [before, [...before, ...ahead], [...before, ...ahead, ...right]]) {
      for (const nowMs of [Math.max(...times), made + YEARS_MS + 2 * DAY_MS, made + 2 * DAY_MS]) {
        expect(oldBeforeMs(commitsAt(times), nowMs, KEPT_MS)).to.be.lessThan(before[0] ?? 0);
      }
    }
  });

  it("never for one gap, however long; in time they are thinned all the same", () => {
    const times = [YEARS_MS];
    expect(oldBeforeMs(commitsAt(times), YEARS_MS + 90 * DAY_MS, KEPT_MS)).to.be.lessThan(YEARS_MS);
    for (let day = 90; day < 110; day += 1) times.push(YEARS_MS + day * DAY_MS);
    expect(oldBeforeMs(commitsAt(times), YEARS_MS + 110 * DAY_MS, KEPT_MS)).to.be.greaterThan(YEARS_MS);
  });

  it("is what a collection goes by: a clock that is years ahead removes no version", async () => {
    await using folder = await TempFolder.create("ahead", fastTempParent());
    const rig = await EngineRig.create(folder);
    const clock = new FakeClock();
    const data = folder.below("data");
    await using repository = await rig.open({ clock });
    const scenario = new StoreScenario(repository, data, clock, () => undefined);
    for (let turn = 0; turn < 10; turn += 1) {
      await scenario.commit("a", `a ${String(turn)}`);
      await scenario.seal();
    }
    clock.jumpWall(YEARS_MS);
    await scenario.commit("b", "made while the clock is ahead");
    await scenario.remove("b");
    const report = await gc(repository, { dryRun: false, versionsKeptMs: KEPT_MS }, UNLIMITED);
    expect(report.versionsRemoved).to.equal(0);
    expect(await repository.versions(data.bytes("a"))).to.have.length(10);
  });
});
