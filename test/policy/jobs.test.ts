/** Long work as jobs, what backups mean for events and metrics, and the watch on the store's space. */
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import { HoldfastError, hasCode } from "../../src/base/errors.js";
import { EventBus } from "../../src/base/events.js";
import type { Manifest, SourceManifest } from "../../src/engine/types.js";
import { BackupJobs, type BackupOutcome } from "../../src/policy/backup-jobs.js";
import { JOBS_KEPT_MAX, JOBS_QUEUED_MAX, type Job, JobRunner } from "../../src/policy/job-runner.js";
import { SpaceWatch } from "../../src/policy/space.js";
import { FakeClock, loopTurns } from "../support/fake-clock.js";
import { MemoryBucket, RecordingObserver } from "../support/state-store.js";

const MINUTE = 60_000;

describe("the job runner", () => {
  const runner = (clock = new FakeClock()): JobRunner => new JobRunner(clock, new RecordingObserver().log);

  it("runs one job of a lane at a time in order, and lanes beside each other", async () => {
    await using jobs = runner();
    const gates = [deferred<undefined>(), deferred<undefined>()];
    const order: string[] = [];
    const slow = (name: string, gate: number) => async (): Promise<string> => {
      order.push(`start ${name}`);
      await gates[gate]?.promise;
      order.push(`end ${name}`);
      return name;
    };
    const first = jobs.start("backup", "write", slow("first", 0));
    const second = jobs.start("gc", "write", slow("second", 1));
    jobs.start("restore", "read", slow("other", 1));
    await loopTurns(2);
    expect(order).to.deep.equal(["start first", "start other"]);
    expect([jobs.get(first.id).state, jobs.get(second.id).state]).to.deep.equal(["running", "queued"]);
    gates[0]?.resolve(undefined);
    await jobs.ended(first.id);
    await loopTurns(2);
    expect(order.at(-1)).to.equal("start second");
    gates[1]?.resolve(undefined);
    expect((await jobs.ended(second.id)).result).to.equal("second");
  });

  it("keeps the failure of a job with its code, and goes on with the next", async () => {
    await using jobs = runner();
    const failing = jobs.start("check", "write", () => Promise.reject(new HoldfastError("STORE_IO", "bad disk")));
    const next = jobs.start("backup", "write", () => Promise.resolve(1));
    expect((await jobs.ended(failing.id)).error?.code).to.equal("STORE_IO");
    expect((await jobs.ended(next.id)).state).to.equal("done");
    const thrower = jobs.start("check", "write", () => {
      throw new Error("not even a promise");
    });
    expect((await jobs.ended(thrower.id)).state).to.equal("failed");
  });

  it("logs a mistake of whoever asked for the record, without a stack, and everything else as an error", async () => {
    const { log, lines } = new RecordingObserver();
    await using jobs = new JobRunner(new FakeClock(), log);
    const cause = new Error("ENOTDIR");
    const mistake = new HoldfastError("TARGET_EXISTS", "a file stands there", { cause });
    for (const error of [mistake, new HoldfastError("STORE_IO", "bad disk", { cause }), cause])
      await jobs.ended(jobs.start("restore", "read", () => Promise.reject(error)).id);
    const told = lines.map(({ level, event, fields }) => [level, event, Object.keys(fields).at(-1)]);
    expect(told).to.deep.equal([
      ["info", "job.failed", "message"],
      ["error", "job.failed", "error"],
      ["error", "job.failed", "error"],
    ]);
    expect(lines[0]?.fields).to.include({ kind: "restore", code: "TARGET_EXISTS", message: "a file stands there" });
  });

  it("tells who waits as soon as a job has ended, or how it stands when the time is over", async () => {
    const clock = new FakeClock();
    const never = new AbortController().signal;
    await using jobs = runner(clock);
    const gate = deferred<undefined>();
    const { id } = jobs.start("backup", "write", async () => await gate.promise);
    const stopped = AbortSignal.abort();
    expect((await jobs.endedWithin(id, 30_000, stopped)).state).to.equal("running");
    const late = jobs.endedWithin(id, 400, never);
    await clock.advance(400);
    expect((await late).state).to.equal("running");
    const early = jobs.endedWithin(id, 30_000, never);
    gate.resolve(undefined);
    expect((await early).state).to.equal("done");
    expect((await jobs.endedWithin(id, 30_000, never)).state).to.equal("done");
  });

  it("cancels a waiting job at once and a running one by its signal", async () => {
    await using jobs = runner();
    const running = jobs.start("restore", "read", async ({ signal }) => {
      await new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    });
    const waiting = jobs.start("restore", "read", () => expect.fail("must not start"));
    expect(jobs.cancel(waiting.id).state).to.equal("cancelled");
    jobs.cancel(running.id);
    expect((await jobs.ended(running.id)).state).to.equal("cancelled");
    expect((await jobs.ended(waiting.id)).startedAtMs).to.equal(undefined);
    expect(jobs.cancel(running.id).state).to.equal("cancelled");
  });

  it("tells of every change, with progress", async () => {
    await using jobs = runner();
    const seen: string[] = [];
    jobs.onChange((job: Job) => seen.push(`${job.state} ${String(job.progress?.filesDone ?? 0)}`));
    const { id } = jobs.start("backup", "write", ({ progress }) => {
      progress({ filesDone: 3, filesTotal: 9, bytesDone: 1, bytesTotal: undefined });
      return Promise.resolve(undefined);
    });
    await jobs.ended(id);
    expect(seen).to.deep.equal(["running 0", "running 3", "done 3"]);
  });

  it("bounds what waits and what is remembered", async () => {
    await using jobs = runner();
    const gate = deferred<undefined>();
    jobs.start("backup", "write", () => gate.promise);
    for (let index = 0; index < JOBS_QUEUED_MAX; index += 1) jobs.start("backup", "write", () => Promise.resolve());
    expect(() => jobs.start("backup", "write", () => Promise.resolve()))
      .to.throw()
      .and.satisfy((error: unknown) => hasCode(error, "LIMIT_REACHED"));
    gate.resolve(undefined);
    for (let index = 0; index < JOBS_KEPT_MAX + 50; index += 1)
      await jobs.ended(jobs.start("scan", "read", () => Promise.resolve({ index })).id);
    expect(jobs.list().length).to.be.at.most(JOBS_KEPT_MAX + 1);
    expect(jobs.list()[0]?.kind).to.equal("scan");
    expect(() => jobs.get("job_x"))
      .to.throw()
      .and.satisfy((error: unknown) => hasCode(error, "JOB_NOT_FOUND"));
  });

  it("cancels everything and waits for it when it is closed, and takes nothing new", async () => {
    const jobs = runner();
    let isEnded = false;
    jobs.start("backup", "write", async ({ signal }) => {
      await new Promise<void>((resolve) => {
        signal.addEventListener("abort", () => resolve());
      });
      await loopTurns(3);
      isEnded = true;
    });
    await jobs[Symbol.asyncDispose]();
    expect(isEnded).to.equal(true);
    expect(() => jobs.start("backup", "write", () => Promise.resolve())).to.throw("stopping");
  });
});

function manifest(sources: readonly (readonly [name: string, unreadable: number])[]): Manifest {
  const list = sources.map(([source, files_unreadable]) => ({ source, files_unreadable }) as SourceManifest);
  return { backup_id: "backup_1", sources: list } as unknown as Manifest;
}

describe("backup jobs", () => {
  class Stage implements Disposable {
    readonly clock = new FakeClock();
    readonly observer = new RecordingObserver();
    readonly bus = new EventBus(() => undefined);
    readonly told: string[] = [];
    readonly bucket: MemoryBucket;
    readonly jobs: BackupJobs;
    pending = 0;

    constructor(bucket = new MemoryBucket()) {
      this.bucket = bucket;
      this.bus.on("backup.finished", ({ source, unreadable }) =>
        this.told.push(`finished ${source.join()} ${String(unreadable)}`),
      );
      this.bus.on("backup.failed", ({ source, code }) => this.told.push(`failed ${source.join()} ${code}`));
      this.bus.on("backup.overdue", ({ source }) => this.told.push(`overdue ${source}`));
      this.bus.on("backup.timely", ({ source }) => this.told.push(`timely ${source}`));
      this.jobs = new BackupJobs({ clock: this.clock, bus: this.bus, observer: this.observer, bucket });
    }

    async watch(maxAgeMs: number): Promise<void> {
      await this.jobs.watch({ name: "a", maxAgeMs, pending: () => this.pending });
    }

    async run(work: () => Promise<Manifest>): Promise<unknown> {
      const made = async (): Promise<BackupOutcome> => ({ manifest: await work(), leftOut: [] });
      return await this.jobs
        .run({ type: "full", sources: ["a"] }, made, new AbortController().signal)
        .catch((error: unknown) => error);
    }

    [Symbol.dispose](): void {
      this.jobs[Symbol.dispose]();
    }
  }

  it("tell of success and failure, and count by source, type and outcome", async () => {
    using stage = new Stage();
    await stage.watch(0);
    await stage.run(() => Promise.resolve(manifest([["a", 0]])));
    await stage.run(() => Promise.resolve(manifest([["a", 2]])));
    const failure = await stage.run(() => Promise.reject(new HoldfastError("STORE_FULL", "full")));
    expect(hasCode(failure, "STORE_FULL")).to.equal(true);
    expect(stage.told).to.deep.equal(["finished a 0", "finished a 2", "failed a STORE_FULL"]);
    for (const outcome of ["success", "partial", "failed"])
      expect(stage.observer.value("holdfast_backups_total", { source: "a", type: "full", outcome })).to.equal(1);
  });

  it("tell of each source that was left out by its own reason, and of the others as done", async () => {
    using stage = new Stage();
    await stage.watch(0);
    const outcome = {
      manifest: manifest([["a", 0]]),
      leftOut: [{ source: "b", error: new HoldfastError("SOURCE_ROOT_GONE", "not mounted") }],
    };
    const order = { type: "full", sources: ["a", "b"] } as const;
    await stage.jobs.run(order, () => Promise.resolve(outcome), new AbortController().signal);
    expect(stage.told).to.deep.equal(["failed b SOURCE_ROOT_GONE", "finished a 0"]);
    const counted = (source: string, outcome: string): number =>
      stage.observer.value("holdfast_backups_total", { source, type: "full", outcome }) ?? 0;
    expect([counted("a", "success"), counted("b", "failed")]).to.deep.equal([1, 1]);
    const nothing = { ...outcome, manifest: undefined };
    await stage.jobs.run(order, () => Promise.resolve(nothing), new AbortController().signal);
    expect(stage.told.slice(2)).to.deep.equal(["failed b SOURCE_ROOT_GONE"]);
  });

  it("do not call an interrupted backup a failure", async () => {
    using stage = new Stage();
    await stage.jobs
      .run({ type: "full", sources: ["a"] }, () => Promise.reject(new Error("aborted")), AbortSignal.abort())
      .catch(() => undefined);
    expect(stage.told).to.deep.equal([]);
  });

  it("remember over a restart when each source was last backed up", async () => {
    using stage = new Stage();
    await stage.watch(0);
    await stage.run(() => Promise.resolve(manifest([["a", 0]])));
    const success = stage.clock.nowMs() / 1000;
    await stage.clock.advance(MINUTE);
    await stage.run(() => Promise.reject(new Error("no")));
    using again = new Stage(stage.bucket);
    await again.watch(0);
    expect(again.observer.value("holdfast_backup_last_success_timestamp_seconds", { source: "a" })).to.equal(success);
    expect(again.observer.value("holdfast_backup_last_attempt_timestamp_seconds", { source: "a" })).to.equal(success);
    again.clock.jumpWall(2 * MINUTE);
    using later = new Stage(stage.bucket);
    later.clock.jumpWall(2 * MINUTE);
    await later.watch(0);
    expect(later.observer.value("holdfast_backup_last_attempt_timestamp_seconds", { source: "a" })).to.equal(
      success + 60,
    );
  });

  it("tell when the newest copy is too old because changes wait, and when it is new again", async () => {
    using stage = new Stage();
    await stage.watch(15 * MINUTE);
    await stage.run(() => Promise.resolve(manifest([["a", 0]])));
    await stage.clock.advance(5 * 60 * MINUTE);
    expect(stage.told).to.deep.equal(["finished a 0"]);
    stage.pending = 3;
    await stage.clock.advance(14 * MINUTE);
    expect(stage.told).to.have.length(1);
    await stage.clock.advance(2 * MINUTE);
    expect(stage.told.slice(1)).to.deep.equal(["overdue a"]);
    stage.pending = 0;
    await stage.clock.advance(MINUTE);
    expect(stage.told.slice(1)).to.deep.equal(["overdue a", "timely a"]);
  });

  it("tell it in time also when the clock was a year ahead and is set back", async () => {
    using stage = new Stage();
    await stage.watch(15 * MINUTE);
    stage.clock.jumpWall(365 * 24 * 60 * MINUTE);
    await stage.run(() => Promise.resolve(manifest([["a", 0]])));
    await stage.clock.advance(MINUTE);
    stage.clock.jumpWall(-365 * 24 * 60 * MINUTE);
    stage.pending = 3;
    await stage.clock.advance(16 * MINUTE);
    expect(stage.told).to.deep.equal(["finished a 0", "overdue a"]);
  });

  it("tell when a source has never been backed up, after a time to begin", async () => {
    using stage = new Stage();
    await stage.watch(MINUTE);
    await stage.clock.advance(14 * MINUTE);
    expect(stage.told).to.deep.equal([]);
    await stage.clock.advance(2 * MINUTE);
    expect(stage.told).to.deep.equal(["overdue a"]);
  });
});

describe("the watch on space", () => {
  class Disk {
    readonly clock = new FakeClock();
    readonly observer = new RecordingObserver();
    readonly bus = new EventBus(() => undefined);
    readonly told: string[] = [];
    used = 50;
    readonly watch: SpaceWatch;

    constructor() {
      this.bus.on("store.full", ({ writeFailed }) => this.told.push(writeFailed ? "stopped" : "full"));
      this.bus.on("store.roomy", () => this.told.push("roomy"));
      this.watch = new SpaceWatch({
        clock: this.clock,
        bus: this.bus,
        observer: this.observer,
        tier: "hot",
        space: () => Promise.resolve({ totalBytes: 100, freeBytes: 100 - this.used }),
        fullShare: 0.9,
      });
    }

    async at(used: number): Promise<void> {
      this.used = used;
      await this.watch.look();
    }
  }

  it("tells of full and roomy once each, not each time the value swings", async () => {
    const disk = new Disk();
    for (const used of [50, 89, 90, 91, 89, 91, 88, 92]) await disk.at(used);
    expect(disk.told).to.deep.equal(["roomy", "full"]);
    await disk.at(80);
    expect(disk.told).to.deep.equal(["roomy", "full", "roomy"]);
    expect(disk.observer.value("holdfast_tier_used_bytes", { tier: "hot" })).to.equal(80);
    expect(disk.observer.value("holdfast_tier_free_bytes", { tier: "hot" })).to.equal(20);
  });

  it("believes a failed write more than the numbers", async () => {
    const disk = new Disk();
    await disk.at(50);
    disk.watch.noteWriteFailed("STORE_READ_ONLY");
    disk.watch.noteWriteFailed("STORE_READ_ONLY");
    await disk.at(50);
    expect(disk.told).to.deep.equal(["roomy", "stopped"]);
    disk.watch.noteWriteWorks();
    expect(disk.told).to.deep.equal(["roomy", "stopped", "roomy"]);
  });

  it("says that it is still nearly full when writing works again", async () => {
    const disk = new Disk();
    await disk.at(95);
    disk.watch.noteWriteFailed("STORE_FULL");
    disk.watch.noteWriteWorks();
    expect(disk.told).to.deep.equal(["full", "stopped", "full"]);
    await disk.at(50);
    expect(disk.told.at(-1)).to.equal("roomy");
  });

  it("takes another threshold while it runs", async () => {
    const disk = new Disk();
    await disk.at(85);
    disk.watch.setFullShare(0.8);
    await disk.at(85);
    await disk.at(78);
    expect(disk.told).to.deep.equal(["roomy", "full"]);
    await disk.at(76);
    expect(disk.told).to.deep.equal(["roomy", "full", "roomy"]);
  });

  it("looks again and again, and survives a place that cannot be asked", async () => {
    const disk = new Disk();
    await disk.watch.start();
    disk.used = 95;
    await disk.clock.advance(61_000);
    expect(disk.told).to.deep.equal(["roomy", "full"]);
    disk.used = 10;
    await disk.clock.advance(6_000);
    expect(disk.told.at(-1)).to.equal("roomy");
    disk.watch[Symbol.dispose]();
    expect(disk.clock.pendingTimers).to.equal(0);
  });
});
