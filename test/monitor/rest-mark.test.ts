/** The mark until when everything was judged, and clocks that are set back: a mark that may hide something is none. */
import { expect } from "chai";
import { Level } from "level";
import { silentObserver } from "../../src/base/observe.js";
import { Pauses } from "../../src/monitor/pauses.js";
import { Registry, monitorSublevel } from "../../src/monitor/registry.js";
import { RestMark } from "../../src/monitor/rest-mark.js";
import { FakeClock } from "../support/fake-clock.js";
import { TempFolder } from "../support/temp-folder.js";

const HOUR_MS = 3_600_000;
const SOURCE = "data";

/** Runs of the monitor one after another, over one registry. */
class Runs implements AsyncDisposable {
  readonly clock: FakeClock;
  readonly #folder: TempFolder;
  readonly #database: Level;
  readonly #registry: Registry;
  readonly #pauses: Pauses;

  private constructor(folder: TempFolder, database: Level, parts: readonly [Registry, Pauses], clock: FakeClock) {
    this.clock = clock;
    this.#folder = folder;
    this.#database = database;
    [this.#registry, this.#pauses] = parts;
  }

  static async create(): Promise<Runs> {
    const folder = await TempFolder.create("mark");
    const database = new Level(folder.at("index"));
    const store = monitorSublevel(database);
    const clock = new FakeClock();
    return new Runs(folder, database, [await Registry.open(store), await Pauses.open(store, clock)], clock);
  }

  async begin(): Promise<RestMark> {
    const parts = { clock: this.clock, registry: this.#registry, pauses: this.#pauses, log: silentObserver.log };
    const mark = new RestMark(parts, SOURCE, () => true);
    await mark.read();
    return mark;
  }

  /** A look through everything that begins now, in which `during` happens, and whose findings are judged at its end. */
  async look(mark: RestMark, during: () => void = () => undefined): Promise<void> {
    const beganMs = this.clock.nowMs();
    await this.clock.advance(1000);
    during();
    mark.looked(beganMs);
    mark.update();
    await mark.stop();
    await this.clock.advance(1000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#registry[Symbol.asyncDispose]();
    await this.#database.close();
    await this.#folder[Symbol.asyncDispose]();
  }
}

describe("the mark until when everything was judged", () => {
  it("is trusted by the next run while the clock goes forward", async () => {
    await using runs = await Runs.create();
    const first = await runs.begin();
    const beganMs = runs.clock.nowMs();
    await runs.look(first);
    first.registered(runs.clock.nowMs());
    await first.stop();
    expect((await runs.begin()).trustedMs).to.be.within(beganMs - 100, beganMs);
  });

  it("is none when something was registered after the clock was set back, also when the clock is right again", async () => {
    await using runs = await Runs.create();
    const first = await runs.begin();
    await runs.look(first);
    runs.clock.jumpWall(-HOUR_MS);
    first.registered(runs.clock.nowMs());
    await first.stop();
    runs.clock.jumpWall(2 * HOUR_MS);
    expect((await runs.begin()).trustedMs).to.equal(undefined);
  });

  it("is none when what the run before stored, and did not register, is older than it", async () => {
    await using runs = await Runs.create();
    await runs.look(await runs.begin());
    const second = await runs.begin();
    second.registered(runs.clock.nowMs() - HOUR_MS);
    expect(second.trustedMs).to.equal(undefined);
    await second.stop();
    expect((await runs.begin()).trustedMs).to.equal(undefined);
  });

  it("is none for good after a start at which it lies in the future", async () => {
    await using runs = await Runs.create();
    await runs.look(await runs.begin());
    runs.clock.jumpWall(-HOUR_MS);
    const second = await runs.begin();
    expect(second.trustedMs).to.equal(undefined);
    await second.stop();
    runs.clock.jumpWall(2 * HOUR_MS);
    expect((await runs.begin()).trustedMs).to.equal(undefined);
  });

  it("is not made of a look in which the clock was set back, but of the next one", async () => {
    await using runs = await Runs.create();
    const first = await runs.begin();
    await runs.look(first, () => {
      runs.clock.jumpWall(-HOUR_MS);
      first.registered(runs.clock.nowMs());
    });
    expect((await runs.begin()).trustedMs).to.equal(undefined);
    const nextMs = runs.clock.nowMs();
    await runs.look(first);
    expect((await runs.begin()).trustedMs).to.be.within(nextMs - 100, nextMs);
  });
});
