/** From "changed" to "durable": nothing lost, nothing unbounded, quick when idle, patient when the store is bad. */
import { expect } from "chai";
import fc from "fast-check";
import { deferred } from "../../src/base/concurrency.js";
import { type ErrorCode, HoldfastError } from "../../src/base/errors.js";
import { EventBus } from "../../src/base/events.js";
import type { BytePath } from "../../src/base/paths.js";
import type { PathChange } from "../../src/engine/repository-types.js";
import type { UnreadablePath } from "../../src/engine/types.js";
import { ChangeQueue, type Priority, type QueueReceipt } from "../../src/policy/change-queue.js";
import { BATCH_PATHS_MAX } from "../../src/policy/dirty-set.js";
import { FakeClock } from "../support/fake-clock.js";
import { RecordingObserver } from "../support/state-store.js";

const never = new AbortController().signal;
const path = (name: string | number): BytePath => `/srv/${String(name)}` as BytePath;

/** A store in memory that can be full, broken or slow; it remembers the newest state of every path. */
class Store {
  readonly commits: { readonly source: string; readonly changes: readonly PathChange[] }[] = [];
  readonly state = new Map<string, PathChange["kind"]>();
  failWith: ErrorCode | undefined;
  unreadable: UnreadablePath[] = [];
  gate: Promise<unknown> | undefined;

  commit = async (source: string, changes: readonly PathChange[], signal: AbortSignal): Promise<QueueReceipt> => {
    await this.gate;
    signal.throwIfAborted();
    if (this.failWith !== undefined) throw new HoldfastError(this.failWith, "no");
    this.commits.push({ source, changes });
    const bad = new Set(this.unreadable.map((entry) => entry.path));
    for (const change of changes) if (!bad.has(change.path)) this.state.set(`${source}:${change.path}`, change.kind);
    return { unreadable: this.unreadable.filter((entry) => changes.some((change) => change.path === entry.path)) };
  };
}

class Stage implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly observer = new RecordingObserver();
  readonly bus = new EventBus(() => undefined);
  readonly store = new Store();
  readonly told: string[] = [];
  readonly overflows: string[] = [];
  readonly priorities = new Map<string, Priority>();
  readonly queue: ChangeQueue<QueueReceipt>;

  constructor(pathsMax?: number) {
    this.bus.on("store.full", ({ code }) => this.told.push(`full ${code ?? ""}`));
    this.bus.on("store.roomy", () => this.told.push("roomy"));
    this.bus.on("commit.durable", ({ source, paths }) => this.told.push(`durable ${source} ${String(paths.length)}`));
    this.queue = new ChangeQueue({
      clock: this.clock,
      bus: this.bus,
      observer: this.observer,
      commit: this.store.commit,
      onDurable: () => undefined,
      onOverflow: (source) => this.overflows.push(source),
      priorityOf: (source) => this.priorities.get(source) ?? "medium",
      ...(pathsMax === undefined ? {} : { pathsMax }),
    });
  }

  change(name: string | number, source = "a"): void {
    this.bus.emit("file.changed", { source, path: path(name), seenAtMs: this.clock.nowMs() });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.queue[Symbol.asyncDispose]();
  }
}

describe("the change queue", () => {
  it("commits at once when idle, tells, and measures the time it took", async () => {
    await using stage = new Stage();
    stage.change("one");
    expect(stage.queue.pending("a")).to.equal(1);
    await stage.clock.advance(0);
    expect(stage.told).to.deep.equal(["durable a 1"]);
    expect(stage.queue.pending("a")).to.equal(0);
    expect(stage.observer.observations.get("holdfast_protect_lag_seconds")).to.deep.equal([0]);
  });

  it("gathers what comes while a commit is under way into few large commits", async () => {
    await using stage = new Stage();
    const gate = deferred<undefined>();
    stage.store.gate = gate.promise;
    for (let index = 0; index < 300; index += 1) stage.change(index);
    expect(stage.queue.pending("a")).to.equal(300);
    gate.resolve(undefined);
    await stage.queue.drained(never);
    expect(stage.store.commits.map(({ changes }) => changes.length)).to.deep.equal([1, 299]);
  });

  it("records a removal, and the newest of several meanings of a path once", async () => {
    await using stage = new Stage();
    const gate = deferred<undefined>();
    stage.store.gate = gate.promise;
    stage.change("first");
    stage.change("x");
    stage.bus.emit("file.removed", { source: "a", path: path("x"), reason: "moved", seenAtMs: 1 });
    stage.change("x");
    stage.bus.emit("file.removed", { source: "a", path: path("x"), reason: "moved", seenAtMs: 1 });
    gate.resolve(undefined);
    await stage.queue.drained(never);
    expect(stage.store.commits[1]?.changes).to.deep.equal([{ path: path("x"), kind: "remove" }]);
  });

  it("serves critical sources first", async () => {
    await using stage = new Stage();
    stage.priorities.set("c", "critical").set("l", "low");
    const gate = deferred<undefined>();
    stage.store.gate = gate.promise;
    for (const source of ["x", "y"]) stage.change(0, source);
    for (const source of ["l", "m", "c"]) stage.change(1, source);
    gate.resolve(undefined);
    await stage.queue.drained(never);
    expect(stage.store.commits.map(({ source }) => source).slice(2)).to.deep.equal(["c", "m", "l"]);
  });

  it("keeps what was noted while a commit was under way, when that commit fails", async () => {
    await using stage = new Stage();
    const gate = deferred<undefined>();
    stage.store.gate = gate.promise;
    stage.store.failWith = "STORE_FULL";
    stage.change("x");
    await stage.clock.advance(0);
    stage.bus.emit("file.removed", { source: "a", path: path("x"), reason: "moved", seenAtMs: 1 });
    gate.resolve(undefined);
    await stage.clock.advance(0);
    stage.store.failWith = undefined;
    await stage.clock.advance(60_000);
    expect(stage.store.commits.map(({ changes }) => changes)).to.deep.equal([[{ path: path("x"), kind: "remove" }]]);
  });

  for (const code of ["STORE_FULL", "STORE_IO", "STORE_READ_ONLY"] as const) {
    it(`keeps everything while the store fails with ${code}, tells once, and goes on by itself`, async () => {
      await using stage = new Stage();
      stage.store.failWith = code;
      for (let index = 0; index < 50; index += 1) stage.change(index);
      stage.change("other", "b");
      await stage.clock.advance(600_000);
      expect(stage.told).to.deep.equal([`full ${code}`]);
      expect(stage.queue.isStoreBad).to.equal(true);
      expect(stage.queue.pendingTotal).to.equal(51);
      stage.store.failWith = undefined;
      await stage.clock.advance(31_000, 10);
      expect(stage.store.state.size).to.equal(51);
      expect(stage.told.filter((text) => text === "roomy")).to.have.length(1);
      expect(stage.queue.isStoreBad).to.equal(false);
      expect(stage.observer.value("holdfast_commit_failures_total", { code })).to.be.within(20, 40);
    });
  }

  it("does not let a fault of one source hold up another", async () => {
    await using stage = new Stage();
    const commit = stage.store.commit;
    stage.store.commit = commit;
    stage.store.failWith = "INTERNAL";
    stage.change(1, "a");
    await stage.clock.advance(0);
    stage.store.failWith = undefined;
    stage.change(1, "b");
    await stage.clock.advance(0);
    expect(stage.store.commits.map(({ source }) => source)).to.deep.equal(["b"]);
    await stage.clock.advance(2000);
    expect(stage.store.commits.map(({ source }) => source)).to.deep.equal(["b", "a"]);
    expect(stage.told).to.not.include("roomy");
  });

  it("asks for a reconcile instead of growing without bound, once, when storing works again", async () => {
    await using stage = new Stage(2000);
    stage.store.failWith = "STORE_FULL";
    for (let index = 0; index < 100_000; index += 1) stage.change(index);
    expect(stage.queue.pending("a")).to.be.at.most(2001 + BATCH_PATHS_MAX);
    await stage.clock.advance(60_000);
    expect(stage.overflows).to.deep.equal([]);
    stage.store.failWith = undefined;
    await stage.clock.advance(31_000, 20);
    expect(stage.overflows).to.deep.equal(["a"]);
    expect(stage.queue.pending("a")).to.equal(0);
    stage.change("later");
    await stage.clock.advance(0);
    expect(stage.store.state.has(`a:${path("later")}`)).to.equal(true);
  });

  it("takes a burst of 100,000 changes in whole batches and loses none", async () => {
    await using stage = new Stage();
    for (let index = 0; index < 100_000; index += 1) stage.change(index);
    await stage.queue.drained(never);
    expect(stage.store.state.size).to.equal(100_000);
    expect(stage.store.commits.length).to.be.at.most(Math.ceil(100_000 / BATCH_PATHS_MAX) + 1);
  });

  it("tries an unreadable path again later, reports it once, and is content when it can be read", async () => {
    await using stage = new Stage();
    stage.store.unreadable = [{ path: path("secret"), errno: "EACCES" }];
    stage.change("secret");
    stage.change("open");
    await stage.clock.advance(600_000);
    expect(stage.store.state.has(`a:${path("open")}`)).to.equal(true);
    expect(stage.queue.unreadable("a")).to.deep.equal([{ path: path("secret"), errno: "EACCES" }]);
    expect(stage.observer.events("warn").filter((event) => event === "file.unreadable")).to.have.length(1);
    expect(stage.store.commits.length).to.be.within(3, 8);
    stage.store.unreadable = [];
    await stage.clock.advance(3_700_000, 2);
    expect(stage.store.state.has(`a:${path("secret")}`)).to.equal(true);
    expect(stage.queue.unreadable("a")).to.deep.equal([]);
  });

  it("counts a change as durable even when somebody fails to take note of it", async () => {
    const observer = new RecordingObserver();
    const store = new Store();
    const bus = new EventBus(() => undefined);
    await using queue = new ChangeQueue<QueueReceipt>({
      clock: new FakeClock(),
      bus,
      observer,
      commit: store.commit,
      onDurable: () => Promise.reject(new Error("registry is broken")),
      onOverflow: () => undefined,
      priorityOf: () => "medium",
    });
    queue.note("a", { path: path(1), kind: "upsert" }, 0);
    await queue.drained(never);
    expect(store.commits).to.have.length(1);
    expect(observer.events("error")).to.deep.equal(["commit.not_noted"]);
  });

  it("ends its commit and keeps quiet when it is closed", async () => {
    const stage = new Stage();
    const gate = deferred<undefined>();
    stage.store.gate = gate.promise;
    stage.change(1);
    const closing = stage.queue[Symbol.asyncDispose]();
    gate.resolve(undefined);
    await closing;
    stage.change(2);
    await stage.clock.advance(60_000);
    expect(stage.told).to.deep.equal([]);
    expect(stage.clock.pendingTimers).to.equal(0);
    expect(stage.observer.events("error")).to.deep.equal([]);
  });

  it("forgets a source that is no longer protected", async () => {
    await using stage = new Stage();
    stage.store.failWith = "STORE_FULL";
    stage.change(1, "gone");
    await stage.clock.advance(0);
    stage.queue.forget("gone");
    stage.store.failWith = undefined;
    await stage.clock.advance(60_000);
    expect(stage.store.commits).to.deep.equal([]);
    expect(stage.queue.pendingTotal).to.equal(0);
  });

  it("ends with the newest state of every path, whatever order, failures and pauses there were", async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("change" as const), name: fc.integer({ min: 0, max: 9 }), remove: fc.boolean() }),
      fc.record({
        do: fc.constant("fail" as const),
        code: fc.constantFrom<ErrorCode | undefined>("STORE_FULL", "INTERNAL", undefined),
      }),
      fc.record({ do: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 5000 }) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await using stage = new Stage();
        const wanted = new Map<string, PathChange["kind"]>();
        for (const one of steps) {
          if (one.do === "fail") stage.store.failWith = one.code;
          else if (one.do === "wait") await stage.clock.advance(one.ms, 2);
          else {
            const kind = one.remove ? "remove" : "upsert";
            wanted.set(`a:${path(one.name)}`, kind);
            stage.queue.note("a", { path: path(one.name), kind }, stage.clock.nowMs());
          }
        }
        stage.store.failWith = undefined;
        await stage.clock.advance(120_000, 4);
        expect([...stage.store.state].sort()).to.deep.equal([...wanted].sort());
      }),
      { numRuns: 60 },
    );
  });
});
