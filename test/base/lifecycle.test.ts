/** Ownership, events and identifiers: what is opened is closed in reverse, what is told is heard, ids sort by time. */
import { expect } from "chai";
import { EventBus, type EventName } from "../../src/base/events.js";
import { backupId, incidentId, jobId, randomHex } from "../../src/base/ids.js";
import { ResourceStack } from "../../src/base/lifecycle.js";
import { Secret, silentObserver } from "../../src/base/observe.js";
import { isoTime, systemClock } from "../../src/base/clock.js";
import { inspect } from "node:util";
import { rejection } from "../support/rejection.js";

describe("a stack of resources", () => {
  it("closes in reverse order, one after the other", async () => {
    const closed: string[] = [];
    {
      await using stack = new ResourceStack();
      stack.defer(async () => {
        await Promise.resolve();
        closed.push("first opened");
      });
      const resource = { [Symbol.asyncDispose]: () => Promise.resolve(void closed.push("second opened")) };
      expect(stack.use(resource)).to.equal(resource);
      stack.defer(() => void closed.push("last opened"));
    }
    expect(closed).to.deep.equal(["last opened", "second opened", "first opened"]);
  });

  it("closes everything although some fail, and then throws all failures", async () => {
    const closed: number[] = [];
    const stack = new ResourceStack();
    stack.defer(() => void closed.push(1));
    stack.defer(() => Promise.reject(new Error("two")));
    stack.defer(() => {
      throw new Error("three");
    });
    const failure = await rejection(stack[Symbol.asyncDispose]());
    expect(failure).to.be.instanceOf(AggregateError);
    expect((failure as AggregateError).errors.map(String)).to.deep.equal(["Error: three", "Error: two"]);
    expect(closed).to.deep.equal([1]);
    await stack[Symbol.asyncDispose](); // a second time there is nothing left
    expect(closed).to.deep.equal([1]);
  });

  it("throws a single failure as it is", async () => {
    const stack = new ResourceStack();
    const failure = new Error("one");
    stack.defer(() => Promise.reject(failure));
    expect(await rejection(stack[Symbol.asyncDispose]())).to.equal(failure);
  });

  it("hands over what it owns and closes none of it itself", async () => {
    const closed: string[] = [];
    const building = new ResourceStack();
    building.defer(() => void closed.push("a"));
    const owner = building.move();
    await building[Symbol.asyncDispose]();
    expect(closed).to.deep.equal([]);
    await owner[Symbol.asyncDispose]();
    expect(closed).to.deep.equal(["a"]);
  });
});

describe("the event bus", () => {
  it("tells every handler in the order they came, until they leave", () => {
    const heard: string[] = [];
    const bus = new EventBus(() => undefined);
    const leave = bus.on("backup.timely", ({ source }) => heard.push(`first ${source}`));
    bus.on("backup.timely", ({ source }) => heard.push(`second ${source}`));
    bus.emit("backup.timely", { source: "a" });
    leave();
    leave();
    bus.emit("backup.timely", { source: "b" });
    bus.emit("watch.restored", { source: "c" });
    expect(heard).to.deep.equal(["first a", "second a", "second b"]);
  });

  it("reports a handler that throws and goes on to the others", () => {
    const faults: [EventName, unknown][] = [];
    const heard: string[] = [];
    const bus = new EventBus((name, error) => faults.push([name, error]));
    const fault = new Error("handler");
    bus.on("backup.timely", () => {
      throw fault;
    });
    bus.on("backup.timely", ({ source }) => heard.push(source));
    bus.emit("backup.timely", { source: "a" });
    expect(faults).to.deep.equal([["backup.timely", fault]]);
    expect(heard).to.deep.equal(["a"]);
  });
});

describe("names", () => {
  const timeMs = Date.UTC(2025, 11, 1, 14, 30, 22);

  it("of backups carry the second in UTC and the type, with a count when taken", () => {
    const taken = new Set<string>();
    const next = (): string => {
      const id = backupId(timeMs, "full", (each) => taken.has(each));
      taken.add(id);
      return id;
    };
    expect([next(), next(), next()]).to.deep.equal([
      "backup_20251201_143022_full",
      "backup_20251201_143022_full_2",
      "backup_20251201_143022_full_3",
    ]);
  });

  it("of incidents and jobs sort by time and differ within a millisecond", () => {
    expect(incidentId(timeMs)).to.match(/^inc_[0-9a-z]{26}$/);
    expect(jobId(timeMs) < jobId(timeMs + 1)).to.equal(true);
    expect(new Set(Array.from({ length: 1000 }, () => jobId(timeMs))).size).to.equal(1000);
    expect(randomHex(8)).to.match(/^[0-9a-f]{16}$/);
  });
});

describe("a secret", () => {
  it("never shows in text, JSON, inspection or an error message", () => {
    const secret = new Secret("correct horse");
    const seen = [
      String(secret),
      JSON.stringify({ secret }),
      inspect(secret, { showHidden: true, depth: 9 }),
      inspect([secret]),
    ];
    for (const text of seen) {
      expect(text).to.contain("[secret]");
      expect(text).not.to.contain("horse");
    }
    expect(secret.reveal()).to.equal("correct horse");
  });
});

describe("the system's clock", () => {
  it("sleeps until it is interrupted", async () => {
    const stop = new AbortController();
    const sleeping = rejection(systemClock.sleep(60_000, stop.signal));
    stop.abort();
    expect(await sleeping).to.have.property("name", "AbortError");
    await systemClock.sleep(1, new AbortController().signal);
  });

  it("shows times in UTC with milliseconds", () => {
    expect(isoTime(Date.UTC(2026, 0, 2, 3, 4, 5, 6))).to.equal("2026-01-02T03:04:05.006Z");
  });

  it("never runs backwards in its steady part, and cancels timers for good", async () => {
    const before = systemClock.monotonicMs();
    let fired = 0;
    const once = systemClock.after(0, () => (fired += 1));
    const often = systemClock.every(1, () => (fired += 1));
    once.cancel();
    once.cancel();
    often.cancel();
    await systemClock.sleep(10, new AbortController().signal);
    expect(fired).to.equal(0);
    expect(systemClock.monotonicMs()).to.be.at.least(before);
  });
});

describe("the silent observer", () => {
  it("takes everything and does nothing", () => {
    silentObserver.log.error("event", { a: 1 });
    silentObserver.counter({ name: "a", help: "a" }).add(1);
    silentObserver.gauge<"l">({ name: "a", help: "a", labels: ["l"] }).set(1, { l: "x" });
    silentObserver.gauge<"l">({ name: "a", help: "a", labels: ["l"] }).remove({ l: "x" });
    silentObserver.histogram({ name: "a", help: "a" }).observe(1);
  });
});
