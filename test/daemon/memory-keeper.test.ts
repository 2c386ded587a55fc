/** Memory goes back to the system when it is quiet, and only when there is something to give. */
import { ClassicLevel as Level } from "classic-level";
import { expect } from "chai";
import { memoryCalls } from "../../src/base/native-memory.js";
import { FREED_AFTER_MS, GROWTH_BYTES, LOOK_EVERY_MS, MemoryKeeper } from "../../src/daemon/memory-keeper.js";
import { FakeClock } from "../support/fake-clock.js";
import { useTempFolder } from "../support/temp-folder.js";

/** What the test throws away: 100 arrays of 50,000 numbers of 8 bytes. */
const GARBAGE_BYTES = 30 * 2 ** 20;

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
      collect: () => undefined,
      giveBack: () => {
        this.given += 1;
        this.freedBytes = 0;
      },
    });
  }
}

/** Heap in use while the garbage is still referred to. */
function makeGarbage(): number {
  const garbage = Array.from({ length: 100 }, () => new Array<number>(50_000).fill(1.5));
  return garbage.length === 0 ? 0 : process.memoryUsage().heapUsed;
}

describe("the keeper of memory", () => {
  const folder = useTempFolder("memory");

  it("gives back what a burst of work freed, once", async () => {
    const process = new Process();
    using _keeper = process.keeper();
    await process.clock.advance(LOOK_EVERY_MS + FREED_AFTER_MS);
    const given = process.given;
    process.freedBytes = GROWTH_BYTES;
    await process.clock.advance(LOOK_EVERY_MS * 10);
    expect(process.given).to.equal(given + 1);
    expect(process.freedBytes).to.equal(0);
  });

  it("leaves small growth alone, and does not lose sight of it when it adds up", async () => {
    const process = new Process();
    using _keeper = process.keeper();
    await process.clock.advance(LOOK_EVERY_MS + FREED_AFTER_MS);
    const given = process.given;
    for (let step = 0; step < 4; step += 1) {
      process.freedBytes += GROWTH_BYTES / 4 - 1;
      await process.clock.advance(LOOK_EVERY_MS);
    }
    expect(process.given).to.equal(given);
    process.freedBytes += 4;
    await process.clock.advance(LOOK_EVERY_MS + FREED_AFTER_MS);
    expect(process.given).to.equal(given + 1);
  });

  it("counts growth from the smallest size, also when the process shrank by itself", async () => {
    const process = new Process();
    process.neededBytes += 4 * GROWTH_BYTES;
    using _keeper = process.keeper();
    await process.clock.advance(LOOK_EVERY_MS);
    process.neededBytes -= 4 * GROWTH_BYTES;
    await process.clock.advance(LOOK_EVERY_MS + FREED_AFTER_MS);
    const given = process.given;
    process.freedBytes = GROWTH_BYTES;
    await process.clock.advance(LOOK_EVERY_MS + FREED_AFTER_MS);
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

  it("collects garbage", () => {
    const memory = memoryCalls();
    memory.keepSmall();
    memory.collect(); // of what other tests left
    const before = process.memoryUsage().heapUsed;
    expect(makeGarbage()).to.be.greaterThan(before + GARBAGE_BYTES);
    memory.collect();
    memory.giveBack();
    expect(process.memoryUsage().heapUsed).to.be.lessThan(before + GARBAGE_BYTES / 4);
  });

  it("lets go of mapped files, which are read anew when they are used again", async () => {
    const database = new Level<string, string>(folder().at("index"), { compression: false });
    const value = "x".repeat(10_000);
    for (let key = 0; key < 1000; key += 1) await database.put(String(key), value);
    await database.compactRange("0", "a");
    for await (const [, stored] of database.iterator()) expect(stored).to.equal(value);
    memoryCalls().letGoOfFiles(folder().at("index"));
    for await (const [, stored] of database.iterator()) expect(stored).to.equal(value);
    await database.close();
  });
});
