/** Wall time as evidence: what a jump forward or a sleep adds counts only when enough steady time has followed it. */
import { expect } from "chai";
import fc from "fast-check";
import { unjumpedNowMs } from "../../src/base/unjumped-time.js";
import { FakeClock } from "../support/fake-clock.js";

const WINDOW_MS = 70_000;

describe("the wall time without jumps", () => {
  it("is the wall time as long as nobody sets the clock", async () => {
    const clock = new FakeClock();
    for (let turn = 0; turn < 5; turn += 1) {
      expect(unjumpedNowMs(clock, WINDOW_MS)).to.equal(clock.nowMs());
      await clock.advance(1000 * turn, 0);
    }
  });

  it("leaves out a jump forward until the window has gone by, then takes it", async () => {
    const clock = new FakeClock();
    const startMs = unjumpedNowMs(clock, WINDOW_MS);
    clock.jumpWall(3_600_000);
    await clock.advance(5000, 0);
    expect(unjumpedNowMs(clock, WINDOW_MS)).to.equal(startMs + 5000);
    await clock.advance(WINDOW_MS - 1, 0);
    expect(unjumpedNowMs(clock, WINDOW_MS)).to.equal(startMs + 5000 + WINDOW_MS - 1);
    await clock.advance(1, 0);
    expect(unjumpedNowMs(clock, WINDOW_MS)).to.equal(clock.nowMs());
  });

  it("follows a jump back at once", async () => {
    const clock = new FakeClock();
    unjumpedNowMs(clock, WINDOW_MS);
    clock.jumpWall(-86_400_000);
    expect(unjumpedNowMs(clock, WINDOW_MS)).to.equal(clock.nowMs());
    await clock.advance(10, 0);
    clock.jumpWall(86_400_000);
    expect(unjumpedNowMs(clock, WINDOW_MS)).to.equal(clock.nowMs() - 86_400_000);
  });

  it("never makes something look older than it is, whatever happens to the clock", async () => {
    const step = fc.record({ jumpMs: fc.integer({ min: -90_000, max: 90_000 }), passMs: fc.nat(40_000) });
    const steps = fc.array(step, { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(steps, async (moves) => {
        const clock = new FakeClock();
        unjumpedNowMs(clock, WINDOW_MS);
        const stamps: { readonly wallMs: number; readonly steadyMs: number }[] = [];
        for (const { jumpMs, passMs } of moves) {
          clock.jumpWall(jumpMs);
          unjumpedNowMs(clock, WINDOW_MS); // something asks between a jump and the next
          stamps.push({ wallMs: clock.nowMs(), steadyMs: clock.monotonicMs() });
          await clock.advance(passMs, 0);
          const nowMs = unjumpedNowMs(clock, WINDOW_MS);
          for (const { wallMs, steadyMs } of stamps) {
            const isOld = nowMs - wallMs >= WINDOW_MS;
            if (isOld) expect(clock.monotonicMs() - steadyMs).to.be.at.least(WINDOW_MS - 10);
          }
        }
      }),
      { numRuns: 200 },
    );
  });
});
