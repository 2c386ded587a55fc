/** The scheduler: no run missed, none doubled, none overlapping, whatever the clock and the machine do. */
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import { systemClock } from "../../src/base/clock.js";
import { recurrence } from "../../src/policy/calendar.js";
import { type Alarm, type ScheduledWork, Scheduler, nodeScheduleAlarm } from "../../src/policy/schedule.js";
import { FakeClock } from "../support/fake-clock.js";
import { MemoryBucket, RecordingObserver, StateStore } from "../support/state-store.js";

const HOUR = 3_600_000;
const START = Date.UTC(2026, 0, 15, 12, 0, 10);

class Stage {
  readonly clock = new FakeClock(START);
  readonly observer = new RecordingObserver();
  readonly bucket = new MemoryBucket();
  /** Wall times of the runs. */
  readonly runs: string[] = [];
  readonly late: boolean[] = [];
  scheduler = this.#newScheduler();
  work: () => Promise<void> = () => Promise.resolve();

  hourly(more: Partial<ScheduledWork> = {}): ScheduledWork {
    return {
      name: "hourly",
      recurrence: recurrence({ kind: "hourly", minute: 0 }, "UTC"),
      jitterMs: 0,
      catchUp: true,
      run: async ({ isLate }) => {
        this.runs.push(new Date(this.clock.nowMs()).toISOString().slice(11, 16));
        this.late.push(isLate);
        await this.work();
      },
      ...more,
    };
  }

  async restart(): Promise<void> {
    await this.scheduler[Symbol.asyncDispose]();
    this.scheduler = this.#newScheduler();
  }

  #newScheduler(): Scheduler {
    const { clock, observer, bucket } = this;
    // Alarms follow the fake clock's steady time, so that a jump of the wall finds them asleep, as it does in life.
    const alarm: Alarm = { at: (timeMs, callback) => clock.after(timeMs - clock.nowMs(), callback) };
    return new Scheduler({ clock, alarm, bucket, observer, random: () => 0.5 });
  }
}

describe("the scheduler", () => {
  it("runs on time, hour after hour, and knows what comes next", async () => {
    const stage = new Stage();
    await stage.scheduler.add(stage.hourly());
    expect(stage.scheduler.status()[0]).to.include({
      name: "hourly",
      nextMs: Date.UTC(2026, 0, 15, 13),
      lastOutcome: undefined,
    });
    await stage.clock.advance(3 * HOUR);
    expect(stage.runs).to.deep.equal(["13:00", "14:00", "15:00"]);
    expect(stage.late).to.deep.equal([false, false, false]);
    expect(stage.scheduler.status()[0]).to.include({ lastMs: Date.UTC(2026, 0, 15, 15), lastOutcome: "done" });
  });

  it("makes up once for what was missed while it was down, and for nothing when nothing was", async () => {
    const stage = new Stage();
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(HOUR);
    await stage.scheduler[Symbol.asyncDispose]();
    await stage.clock.advance(5.5 * HOUR);
    await stage.restart();
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(1000);
    expect(stage.runs).to.deep.equal(["13:00", "18:30"]);
    expect(stage.late).to.deep.equal([false, true]);
    await stage.restart();
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(1000);
    expect(stage.runs).to.have.length(2);
    await stage.clock.advance(HOUR);
    expect(stage.runs.at(-1)).to.equal("19:00");
  });

  it("does not make up for what was missed when it is told not to", async () => {
    const stage = new Stage();
    await stage.scheduler.add(stage.hourly({ catchUp: false }));
    await stage.scheduler[Symbol.asyncDispose]();
    await stage.clock.advance(5.5 * HOUR);
    await stage.restart();
    await stage.scheduler.add(stage.hourly({ catchUp: false }));
    await stage.clock.advance(1000);
    expect(stage.runs).to.deep.equal([]);
  });

  it("runs nothing at once when a schedule is new", async () => {
    const stage = new Stage();
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(10 * 60_000);
    expect(stage.runs).to.deep.equal([]);
  });

  it("never runs the same work twice at a time; what came due meanwhile runs once after it", async () => {
    const stage = new Stage();
    const gate = deferred<undefined>();
    stage.work = async () => {
      await gate.promise;
    };
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(4 * HOUR);
    expect(stage.runs).to.deep.equal(["13:00"]);
    expect(stage.scheduler.status()[0]?.lastOutcome).to.equal("running");
    gate.resolve(undefined);
    await stage.clock.advance(1000);
    expect(stage.runs).to.deep.equal(["13:00", "16:00"]);
    await stage.clock.advance(HOUR);
    expect(stage.runs).to.deep.equal(["13:00", "16:00", "17:00"]);
  });

  it("goes on after a failure, and shows it", async () => {
    const stage = new Stage();
    stage.work = () => Promise.reject(new Error("no"));
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(2 * HOUR);
    expect(stage.runs).to.deep.equal(["13:00", "14:00"]);
    expect(stage.scheduler.status()[0]?.lastOutcome).to.equal("failed");
    expect(stage.observer.value("holdfast_schedule_runs_total", { schedule: "hourly", outcome: "failed" })).to.equal(2);
  });

  it("runs once when the clock jumps ahead over several times", async () => {
    const stage = new Stage();
    await stage.scheduler.add(stage.hourly());
    stage.clock.jumpWall(4.5 * HOUR);
    await stage.clock.advance(60_000);
    expect(stage.runs).to.deep.equal(["16:30"]);
    await stage.clock.advance(HOUR);
    expect(stage.runs).to.deep.equal(["16:30", "17:00"]);
  });

  it("runs nothing twice when the clock is set back a little, and goes on within two hours when set back far", async () => {
    const stage = new Stage();
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(HOUR);
    expect(stage.runs).to.deep.equal(["13:00"]);
    stage.clock.jumpWall(-10 * 60_000);
    await stage.clock.advance(30 * 60_000);
    expect(stage.runs).to.deep.equal(["13:00"]);
    await stage.clock.advance(HOUR);
    expect(stage.runs).to.deep.equal(["13:00", "14:00"]);
    stage.clock.jumpWall(-72 * HOUR);
    await stage.clock.advance(2 * HOUR);
    expect(stage.runs).to.have.length(3);
  });

  it("spreads starts by its jitter", async () => {
    const stage = new Stage();
    await stage.scheduler.add(stage.hourly({ jitterMs: 10 * 60_000 }));
    await stage.clock.advance(2.5 * HOUR);
    expect(stage.runs).to.deep.equal(["13:05", "14:05"]);
  });

  it("stops waiting, and tells running work to end, when it is closed", async () => {
    const stage = new Stage();
    let isAborted = false;
    const run: ScheduledWork["run"] = async (_due, signal) => {
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => {
          isAborted = true;
          resolve();
        });
      });
    };
    await stage.scheduler.add(stage.hourly({ run }));
    await stage.clock.advance(HOUR);
    await stage.scheduler[Symbol.asyncDispose]();
    expect(isAborted).to.equal(true);
    expect(stage.clock.pendingTimers).to.equal(0);
  });

  it("counts a run that a crash cut off as failed, and does not start it in a circle", async () => {
    const stage = new Stage();
    stage.work = () => new Promise(() => undefined);
    await stage.scheduler.add(stage.hourly());
    await stage.clock.advance(HOUR);
    stage.scheduler = new Stage().scheduler; // the old one is dead, as after SIGKILL
    const after = new Stage();
    for (const [key, value] of stage.bucket.values) after.bucket.values.set(key, value);
    after.clock.jumpWall(HOUR + 60_000);
    await after.scheduler.add(after.hourly());
    await after.clock.advance(1000);
    expect(after.runs).to.deep.equal([]);
    expect(after.scheduler.status()[0]?.lastOutcome).to.equal("failed");
  });

  it("starts anew when what was stored cannot be read, with a real database", async () => {
    await using store = await StateStore.create();
    const bucket = store.database.sublevel("schedule");
    await bucket.put("hourly", "{broken");
    const clock = new FakeClock(START);
    const stage = new Stage();
    await using scheduler = new Scheduler({
      clock,
      alarm: { at: () => ({ cancel: () => undefined }) },
      bucket,
      observer: stage.observer,
    });
    await scheduler.add(stage.hourly());
    expect(JSON.parse((await bucket.get("hourly")) ?? "{}")).to.include({ handledMs: START });
  });

  it("is woken by node-schedule on the real clock", async () => {
    const done = deferred<number>();
    const startMs = systemClock.nowMs();
    const timer = nodeScheduleAlarm.at(startMs + 120, () => done.resolve(systemClock.nowMs()));
    expect(await done.promise).to.be.within(startMs + 115, startMs + 5000);
    timer.cancel();
    const past = deferred<string>();
    nodeScheduleAlarm.at(startMs - 1000, () => past.resolve("called"));
    expect(await past.promise).to.equal("called");
    nodeScheduleAlarm.at(startMs + 1e6, () => expect.fail("cancelled alarms must not ring")).cancel();
  });
});
