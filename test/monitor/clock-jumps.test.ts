/** The wall clock is set under what the monitor measures in it: windows last as long as was asked for, nothing stands still. */
import { expect } from "chai";
import { Level } from "level";
import type { BytePath } from "../../src/base/paths.js";
import { Pauses } from "../../src/monitor/pauses.js";
import { monitorSublevel } from "../../src/monitor/registry.js";
import { FakeClock } from "../support/fake-clock.js";
import { useTempFolder } from "../support/temp-folder.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const PATH = "/data" as BytePath;

describe("a pause of an hour, when the clock is set", () => {
  const folder = useTempFolder("clock-jumps");
  let database: Level;
  let clock: FakeClock;
  let pauses: Pauses;

  beforeEach(async () => {
    database = new Level(folder().at("index"));
    clock = new FakeClock();
    pauses = await opened();
    await pauses.begin({ path: PATH, untilMs: clock.nowMs() + HOUR_MS, reason: "move" });
  });

  afterEach(async () => await database.close());

  for (const [where, jumpMs] of [
    ["back a day", -DAY_MS],
    ["ahead a day", DAY_MS],
  ] as const)
    it(`${where}: is open for an hour`, async () => {
      clock.jumpWall(jumpMs);
      await clock.advance(HOUR_MS - 1000);
      expect(isOpen(), "before its end").to.equal(true);
      await clock.advance(2000);
      expect(isOpen(), "after its end").to.equal(false);
    });

  it("ahead a day: is still open after a restart", async () => {
    clock.jumpWall(DAY_MS);
    await pauses.looked("data", clock.nowMs());
    pauses = await opened();
    expect(isOpen()).to.equal(true);
  });

  it("back a day while nothing ran: is open for an hour at most", async () => {
    clock.jumpWall(-DAY_MS);
    pauses = await opened();
    expect(isOpen()).to.equal(true);
    await clock.advance(HOUR_MS);
    expect(isOpen()).to.equal(false);
  });

  it("back a day: does not come back when it was ended", async () => {
    await pauses.end(PATH, clock.nowMs());
    clock.jumpWall(-DAY_MS);
    expect(isOpen()).to.equal(false);
  });

  it("back a day: covers what was missed a moment before", () => {
    const seenAtMs = clock.nowMs();
    clock.jumpWall(-DAY_MS);
    expect(pauses.covering(PATH, seenAtMs)?.reason).to.equal("move");
  });

  async function opened(): Promise<Pauses> {
    return await Pauses.open(monitorSublevel(database), clock);
  }

  function isOpen(): boolean {
    return pauses.covering(PATH, clock.nowMs()) !== undefined;
  }
});
