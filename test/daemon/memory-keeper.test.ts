/** Memory goes back to the system when it is quiet, and only when there is something to give. */
import { expect } from "chai";
import { memoryCalls } from "../../src/base/native-memory.js";
import { GROWTH_BYTES, LOOK_EVERY_MS, MemoryKeeper } from "../../src/daemon/memory-keeper.js";
import { FakeClock } from "../support/fake-clock.js";

/** A process that holds `freedBytes` more than it needs until it gives them back. */
class Process {
  readonly clock = new FakeClock();
  neededBytes = 50 * 2 ** 20;
  freedBytes = 0;
  isQuiet = true;
  given = 0;

  keeper(): MemoryKeeper {
    return new MemoryKeeper({
      clock: this.clock,
      isQuiet: () => this.isQuiet,
      residentBytes: () => this.neededBytes + this.freedBytes,
      giveBack: () => {
        this.given += 1;
        this.freedBytes = 0;
      },
    });
  }
}

describe("the keeper of memory", () => {
  it("gives back what a burst of work freed, once", async () => {
    const process = new Process();
    using _keeper = process.keeper();
    await process.clock.advance(LOOK_EVERY_MS);
    const given = process.given;
    process.freedBytes = GROWTH_BYTES;
    await process.clock.advance(LOOK_EVERY_MS * 10);
    expect(process.given).to.equal(given + 1);
    expect(process.freedBytes).to.equal(0);
  });

  it("leaves small growth alone, and does not lose sight of it when it adds up", async () => {
    const process = new Process();
    using _keeper = process.keeper();
    await process.clock.advance(LOOK_EVERY_MS);
    const given = process.given;
    for (let step = 0; step < 4; step += 1) {
      process.freedBytes += GROWTH_BYTES / 4 - 1;
      await process.clock.advance(LOOK_EVERY_MS);
    }
    expect(process.given).to.equal(given);
    process.freedBytes += 4;
    await process.clock.advance(LOOK_EVERY_MS);
    expect(process.given).to.equal(given + 1);
  });

  it("counts growth from the smallest size, also when the process shrank by itself", async () => {
    const process = new Process();
    process.neededBytes += 4 * GROWTH_BYTES;
    using _keeper = process.keeper();
    await process.clock.advance(LOOK_EVERY_MS);
    process.neededBytes -= 4 * GROWTH_BYTES;
    await process.clock.advance(LOOK_EVERY_MS);
    const given = process.given;
    process.freedBytes = GROWTH_BYTES;
    await process.clock.advance(LOOK_EVERY_MS);
    expect(process.given).to.equal(given + 1);
  });

  it("waits while work is under way, and stops when it is told to", async () => {
    const process = new Process();
    const keeper = process.keeper();
    process.isQuiet = false;
    process.freedBytes = 10 * GROWTH_BYTES;
    await process.clock.advance(LOOK_EVERY_MS * 3);
    expect(process.given).to.equal(0);
    keeper[Symbol.dispose]();
    process.isQuiet = true;
    await process.clock.advance(LOOK_EVERY_MS * 3);
    expect(process.given).to.equal(0);
  });

  it("does it with glibc's own calls where they are", () => {
    const memory = memoryCalls();
    if (memory === undefined) return;
    memory.keepSmall();
    memory.giveBack();
    expect(memoryCalls()).to.equal(memory);
  });
});
