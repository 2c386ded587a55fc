/** How long the first looks through sources hold up verdicts: as long as they get on, however much else happens. */
import { expect } from "chai";
import { StartScans } from "../../src/monitor/start-scans.js";
import { FakeClock } from "../support/fake-clock.js";

const TICK_MS = 1000;
const TICKS_A_MINUTE = 60;

interface Scan {
  progress: number;
  isOver: boolean;
}

function begun(scans: StartScans, source: string): Scan {
  const scan: Scan = { progress: 0, isOver: false };
  scans.begin(source, { progress: () => scan.progress, isOver: () => scan.isOver });
  return scan;
}

describe("the first looks through sources", () => {
  it("hold up verdicts for a minute after they stood still, though files that are looked at go on coming", async () => {
    const clock = new FakeClock();
    const scans = new StartScans(clock);
    const hangs = begun(scans, "hangs");
    for (let tick = 0; tick <= TICKS_A_MINUTE; tick += 1) {
      hangs.progress = -(tick % 2); // a change comes, waits for its look, and is looked at
      expect(scans.areUnderWay).to.equal(tick < TICKS_A_MINUTE, String(tick));
      await clock.advance(TICK_MS);
    }
  });

  it("hold them up while one gets on, also when another falls back", async () => {
    const clock = new FakeClock();
    const scans = new StartScans(clock);
    const [busy, walks] = [begun(scans, "busy"), begun(scans, "walks")];
    for (let tick = 0; tick <= 3 * TICKS_A_MINUTE; tick += 1) {
      walks.progress += 1;
      busy.progress -= 1;
      expect(scans.areUnderWay).to.equal(true);
      await clock.advance(TICK_MS);
    }
    walks.isOver = busy.isOver = true;
    expect(scans.areUnderWay).to.equal(false);
  });
});
