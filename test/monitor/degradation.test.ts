/** Reasons why changes may be noticed late: each is told, and the end of all. */
import { expect } from "chai";
import { EventBus } from "../../src/base/events.js";
import { silentObserver } from "../../src/base/observe.js";
import { monitorMetrics } from "../../src/monitor/context.js";
import { Degradation } from "../../src/monitor/degradation.js";

describe("reasons why changes may be noticed late", () => {
  let told: string[];
  let ending: AbortController;
  let degradations: Degradation;

  beforeEach(() => {
    told = [];
    ending = new AbortController();
    const bus = new EventBus(() => undefined);
    bus.on("watch.degraded", ({ reason }) => told.push(reason));
    bus.on("watch.restored", () => told.push("restored"));
    const metrics = monitorMetrics(silentObserver);
    degradations = new Degradation({ bus, metrics, name: "data", signal: ending.signal });
  });

  it("are told each, also one that comes while there is another, and the end when none is left", () => {
    degradations.set("ears", "the watcher is late");
    degradations.set("mount", "a disk is away");
    degradations.set("ears", undefined);
    expect(degradations.reason).to.equal("a disk is away");
    expect(told).to.deep.equal(["the watcher is late", "a disk is away"]);
    degradations.set("mount", undefined);
    expect(degradations.reason).to.equal(undefined);
    expect(told.at(-1)).to.equal("restored");
  });

  it("are told anew when a key's reason becomes another, not when only a number in it moves", () => {
    degradations.set("limit", "90 folders are watched");
    degradations.set("limit", "91 folders are watched");
    expect(degradations.reason).to.equal("91 folders are watched");
    degradations.set("limit", "no folder can be watched any more");
    degradations.set("limit", "no folder can be watched any more");
    expect(told).to.deep.equal(["90 folders are watched", "no folder can be watched any more"]);
  });

  it("end silently when they never began, and when the source is watched no longer", () => {
    degradations.set("ears", undefined);
    ending.abort();
    degradations.set("ears", "the watcher is late");
    expect(told).to.deep.equal([]);
  });
});
