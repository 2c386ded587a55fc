/** When recompression works: only as configured, only while nothing else is to be done, and it ends at once. */
import { expect } from "chai";
import { silentObserver } from "../../src/base/observe.js";
import type { RecompressConfiguration } from "../../src/config/configuration.js";
import { IdleRecompression, systemPressure } from "../../src/daemon/idle-recompression.js";
import type { RecompressReport } from "../../src/engine/recompress.js";
import { FakeClock } from "../support/fake-clock.js";

const MINUTE_MS = 60_000;
const REPORT = { packsTried: 2, packsRewritten: 1, bytesRead: 600, bytesSaved: 100, isDone: false };

/** A machine whose state the test sets. */
class Machine implements AsyncDisposable {
  readonly clock = new FakeClock();
  settings: RecompressConfiguration | undefined = { to: "zstd:12", between: undefined, bytesPerDay: 1000 };
  isQuiet = true;
  pressure = 0;
  readonly budgets: number[] = [];
  signal: AbortSignal | undefined;
  goOn: (() => boolean) | undefined;
  report: Promise<RecompressReport> = Promise.resolve(REPORT);
  readonly recompression = new IdleRecompression({
    clock: this.clock,
    observer: silentObserver,
    settings: () => this.settings,
    isQuiet: () => this.isQuiet,
    pressure: () => this.pressure,
    run: async ({ budgetBytes, goOn }, signal) => {
      this.budgets.push(budgetBytes);
      this.signal = signal;
      this.goOn = goOn;
      return await this.report;
    },
  });

  async minute(): Promise<void> {
    await this.clock.advance(MINUTE_MS);
    for (let turn = 0; turn < 5; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.recompression[Symbol.asyncDispose]();
  }
}

describe("recompression while the machine is idle", () => {
  it("does nothing unless it is configured", async () => {
    await using machine = new Machine();
    machine.settings = undefined;
    await machine.minute();
    expect(machine.budgets).to.deep.equal([]);
  });

  it("waits while holdfast or others have something to do", async () => {
    await using machine = new Machine();
    machine.isQuiet = false;
    await machine.minute();
    machine.isQuiet = true;
    machine.pressure = 0.2;
    await machine.minute();
    expect(machine.budgets).to.deep.equal([]);
    machine.pressure = 0.05;
    await machine.minute();
    expect(machine.budgets).to.deep.equal([1000]);
  });

  it("keeps to its budget of a day", async () => {
    await using machine = new Machine();
    for (let minute = 0; minute < 4; minute += 1) await machine.minute();
    expect(machine.budgets).to.deep.equal([1000, 400]);
    await machine.clock.advance(86_400_000);
    await machine.minute();
    expect(machine.budgets.at(-1)).to.be.greaterThan(0);
    expect(machine.budgets.length).to.be.greaterThan(2);
  });

  it("keeps to its hours, also over midnight", async () => {
    await using machine = new Machine();
    const now = new Date(machine.clock.nowMs() + MINUTE_MS);
    const minute = now.getHours() * 60 + now.getMinutes();
    const at = (offset: number): number => (minute + offset + 1440) % 1440;
    machine.settings = { to: "zstd:12", between: { fromMinute: at(10), toMinute: at(-10) }, bytesPerDay: 1000 };
    await machine.minute();
    expect(machine.budgets).to.deep.equal([]);
    machine.settings = { to: "zstd:12", between: { fromMinute: at(-10), toMinute: at(10) }, bytesPerDay: 1000 };
    await machine.minute();
    expect(machine.budgets).to.deep.equal([1000]);
  });

  it("breaks off when anything else begins, and does not begin twice", async () => {
    await using machine = new Machine();
    let end = (_report: RecompressReport): void => undefined;
    machine.report = new Promise((resolve) => (end = resolve));
    await machine.minute();
    await machine.minute();
    expect(machine.budgets).to.deep.equal([1000]);
    expect(machine.signal?.aborted).to.equal(false);
    expect(machine.goOn?.()).to.equal(true);
    machine.pressure = 0.5;
    expect(machine.goOn?.()).to.equal(false);
    machine.isQuiet = false;
    await machine.clock.advance(300);
    expect(machine.signal?.aborted).to.equal(true);
    end(REPORT);
  });

  it("rests when every pack was tried", async () => {
    await using machine = new Machine();
    machine.report = Promise.resolve({ ...REPORT, bytesRead: 0, isDone: true });
    await machine.minute();
    await machine.minute();
    expect(machine.budgets).to.have.length(1);
  });

  it("knows how busy this machine is", () => {
    expect(systemPressure()).to.be.within(0, 100);
  });
});
