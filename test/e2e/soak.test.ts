/** A short soak of the built program: random activity, harm and kills. The long one is `npm run bench:soak`. */
import { expect } from "chai";
import { requirePrograms, skip } from "../support/requirements.js";
import { soak } from "../support/soak/soak.js";

const ACTIVE_MS = 15_000;

describe("a daemon that is killed and started at random", () => {
  it("heals every harm, undoes no meant deletion, and its registry equals the disk", async function () {
    this.timeout(180_000);
    if (process.env["HOLDFAST_TESTS_THOROUGH"] !== "1")
      skip(this, "takes half a minute; set HOLDFAST_TESTS_THOROUGH=1");
    requirePrograms(this, "git", "npm", "tar", "gzip");
    const seed = Math.floor(Math.random() * 1_000_000);
    const outcome = await soak({ seed, activeMs: ACTIVE_MS, killEveryMs: [3_000, 7_000] });
    expect(outcome.report, `seed ${String(seed)}`).to.equal("");
    expect(outcome.harms).to.be.greaterThan(0);
    expect(outcome.kills + outcome.stops + outcome.watcherKills).to.be.greaterThan(0);
  });
});
