/** Scrubs beside writers call nothing rotten that is not: `npm run bench:scrubs` does ten thousand. */
import { expect } from "chai";
import { requirePrograms, requireTrueCtime } from "../support/requirements.js";
import { countScrubs } from "../support/scrubs.js";

describe("scrubs of files that are written to", () => {
  it("call none of them rotten, and find and mend the one that is", async function () {
    requirePrograms(this, "python3");
    requireTrueCtime(this);
    const { scrubs, writes, ...rest } = await countScrubs({ files: 20, scrubs: 200, rotten: 1, seed: 1, pauseMs: 2 });
    expect(rest).to.deep.equal({ falsely: [], found: 1, repaired: 1, faults: [] });
    expect(scrubs).to.be.at.least(200);
    expect(writes).to.be.above(20);
  });
});
