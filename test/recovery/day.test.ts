/** Two hours of a working day: `npm run bench:day` plays all of it. */
import { expect } from "chai";
import { dayOf, replayDay } from "../support/day/replay.js";

const HOUR_S = 3600;

describe("a working day", () => {
  it("goes by without a false restore or alarm, and what nobody meant to lose is back", async () => {
    const deeds = dayOf(1, 40).filter(({ atS, isSlow }) => !isSlow && atS > 15.5 * HOUR_S && atS < 16.5 * HOUR_S);
    const { lost, healed, ...rest } = await replayDay(deeds, { actors: false, gapMs: 10 });
    expect(rest).to.deep.equal({ deeds: deeds.length, falseRestores: [], falseAlarms: [], faults: [] });
    expect(healed).to.equal(lost);
    expect(lost).to.be.at.least(1);
  });

  it("is the same for the same seed", () => {
    expect(dayOf(7, 10)).to.deep.equal(dayOf(7, 10));
    expect(dayOf(7, 10)).not.to.deep.equal(dayOf(8, 10));
  });
});
