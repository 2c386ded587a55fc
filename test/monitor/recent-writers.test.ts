/** Who writes to a file, asked for many files at once: one look at all processes serves for half a second. */
import { lstatSync } from "node:fs";
import { expect } from "chai";
import { pathFromText } from "../../src/base/paths.js";
import { RecentWriters, hasWriter } from "../../src/monitor/writers.js";
import { FakeClock } from "../support/fake-clock.js";
import { spawnHolder } from "../support/file-holder.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("recent writers", () => {
  const folder = useTempFolder("writers");

  it("are found like those of one file, readers are not, and an answer is half a second old at most", async () => {
    const clock = new FakeClock();
    const writers = new RecentWriters(clock);
    const file = await folder().write("a", "x");
    const path = pathFromText(file);
    const stat = lstatSync(file, { bigint: true });
    const reader = await spawnHolder(file, "r");
    expect([writers.has(path, stat), hasWriter(path, stat)]).to.deep.equal([false, false]);
    const writer = await spawnHolder(file, "a");
    expect([writers.has(path, stat), hasWriter(path, stat)]).to.deep.equal([false, true]);
    await clock.advance(500);
    expect(writers.has(path, stat)).to.equal(true);
    await writer.end();
    await clock.advance(500);
    expect(writers.has(path, stat)).to.equal(false);
    await reader.end();
  });
});
