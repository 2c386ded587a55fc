/** From events to messages: what is told, what is counted together, what is held back, what survives a restart. */
import { expect } from "chai";
import { AlertDispatcher, CONFIRM_WITHIN_MS } from "../../src/alerts/dispatcher.js";
import type { Bucket } from "../../src/alerts/bucket.js";
import type { AutoPorts } from "../../src/alerts/auto-actions.js";
import { type AlertRuleOptions, resolveRules } from "../../src/alerts/rules.js";
import { hasCode } from "../../src/base/errors.js";
import { EventBus } from "../../src/base/events.js";
import type { BytePath } from "../../src/base/paths.js";
import { FakeClock } from "../support/fake-clock.js";
import { RecordingChannel } from "../support/recording-channel.js";
import { MemoryBucket, RecordingObserver, StateStore } from "../support/state-store.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

class Stage implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly observer = new RecordingObserver();
  readonly faults: unknown[] = [];
  bus = this.#newBus();
  mail = new RecordingChannel("mail");
  chat = new RecordingChannel("chat");
  readonly actions: string[] = [];
  rules: readonly AlertRuleOptions[] = [];
  readonly memory = new MemoryBucket();
  readonly bucket: Bucket;
  dispatcher!: AlertDispatcher;
  readonly auto: AutoPorts = {
    retry: (condition, source, cause) => {
      this.actions.push(`retry ${condition} ${source} ${cause}`.trim());
      return Promise.resolve();
    },
    cleanup: () => {
      this.actions.push("cleanup");
      return Promise.resolve();
    },
  };

  private constructor(bucket?: Bucket) {
    this.bucket = bucket ?? this.memory;
  }

  static async open(rules: readonly AlertRuleOptions[] = [], bucket?: Bucket): Promise<Stage> {
    const stage = new Stage(bucket);
    stage.rules = rules;
    await stage.start();
    return stage;
  }

  async start(startedAtMs?: number): Promise<void> {
    const channels = [this.mail, this.chat];
    this.dispatcher = await AlertDispatcher.open({
      bus: this.bus,
      bucket: this.bucket,
      channels,
      rules: resolveRules(
        this.rules,
        channels.map(({ name }) => name),
      ),
      auto: this.auto,
      clock: this.clock,
      observer: this.observer,
      host: "web1",
      ...(startedAtMs === undefined ? {} : { startedAtMs }),
      random: () => 0.5,
    });
  }

  /** As a restart does: everything but the database is new. */
  async restart(startedAtMs?: number): Promise<void> {
    await this.dispatcher[Symbol.asyncDispose]();
    this.bus = this.#newBus();
    this.mail = new RecordingChannel("mail");
    this.chat = new RecordingChannel("chat");
    await this.start(startedAtMs);
  }

  /** Lets fake time pass, and waits until what became due is on disk and sent. */
  async pass(ms: number): Promise<void> {
    await this.dispatcher.settled();
    await this.clock.advance(ms);
    await this.dispatcher.settled();
    await this.clock.advance(0, 30);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispatcher[Symbol.asyncDispose]();
  }

  #newBus(): EventBus {
    return new EventBus((_name, error) => this.faults.push(error));
  }
}

function failBackup(stage: Stage, source = "photos"): void {
  stage.bus.emit("backup.failed", { source: [source], code: "STORE_IO", message: "the disk said no" });
}
function finishBackup(stage: Stage, source = "photos"): void {
  stage.bus.emit("backup.finished", { source: [source], backupId: "backup_1", unreadable: 0 });
}
function openIncident(stage: Stage, id: string, paths = 1): void {
  stage.bus.emit("incident.opened", { id, source: "photos", paths, kind: "deleted" });
}
function healIncident(stage: Stage, id: string, paths = 1): void {
  stage.bus.emit("incident.healed", { id, source: "photos", paths, durationMs: 84 });
}

describe("the alert dispatcher", () => {
  it("tells every channel of a failed backup: what, where, since when, what to do", async () => {
    await using stage = await Stage.open();
    failBackup(stage);
    await stage.pass(10_000);
    const [message] = stage.mail.delivered;
    expect(stage.chat.delivered).to.have.length(1);
    expect(message?.subject).to.equal("[holdfast CRITICAL] web1: backup of photos failed");
    expect(message?.severity).to.equal("critical");
    expect(Object.fromEntries(message?.facts ?? [])).to.include({
      source: "photos",
      error: "STORE_IO",
      reason: "the disk said no",
    });
    expect(message?.facts.find(([label]) => label === "since")?.[1]).to.match(/^2026-01-15T12:00:00/);
    expect(message?.commands).to.include("holdfast create --type incremental --sources photos");
    expect(stage.faults).to.deep.equal([]);
  });

  it("tells once that the condition has ended, in the same thread", async () => {
    await using stage = await Stage.open();
    failBackup(stage);
    await stage.pass(10_000);
    finishBackup(stage);
    await stage.pass(10_000);
    finishBackup(stage);
    await stage.pass(HOUR);
    expect(stage.mail.delivered.map(({ state }) => state)).to.deep.equal(["firing", "resolved"]);
    expect(stage.mail.delivered[1]?.thread).to.equal(stage.mail.delivered[0]?.thread);
    expect(stage.mail.subjects[1]).to.contain("RESOLVED").and.contain("backups succeed again");
    expect(stage.dispatcher.list(false)).to.deep.equal([]);
    expect(stage.dispatcher.list(true).map(({ state }) => state)).to.deep.equal(["resolved"]);
  });

  it("says nothing of what ends by itself before it was worth a message", async () => {
    await using stage = await Stage.open();
    stage.bus.emit("watch.degraded", { source: "photos", reason: "overflow" });
    await stage.pass(MINUTE);
    stage.bus.emit("watch.restored", { source: "photos" });
    await stage.pass(HOUR);
    expect(stage.mail.delivered).to.deep.equal([]);
  });

  it("ends what was raised for incidents that a command closed while no daemon ran", async () => {
    await using stage = await Stage.open();
    stage.bus.emit("incident.held", { id: "inc_1", source: "photos", paths: 60, reason: "60 files at once" });
    stage.bus.emit("incident.held", { id: "inc_2", source: "videos", paths: 70, reason: "70 files at once" });
    await stage.pass(MINUTE);
    stage.dispatcher.confirmIncidents((id) => id === "inc_2");
    await stage.pass(MINUTE);
    expect(stage.dispatcher.list(false).map(({ record }) => record.source)).to.deep.equal(["videos"]);
    expect(stage.mail.subjects.some((subject) => subject.includes("RESOLVED"))).to.equal(true);
  });

  it("tells of a lost file only when it is not back soon; of a file that is back in any case", async () => {
    await using stage = await Stage.open();
    openIncident(stage, "inc_1");
    await stage.pass(1000);
    healIncident(stage, "inc_1");
    await stage.pass(MINUTE);
    expect(stage.mail.subjects).to.deep.equal(["[holdfast INFO] web1: 1 file of photos put back"]);
    expect(stage.dispatcher.list(false), "what was told once is over").to.deep.equal([]);
    expect(stage.dispatcher.list(true).map(({ record }) => record.condition)).to.include("file_recovered");
    openIncident(stage, "inc_2");
    await stage.pass(MINUTE);
    expect(stage.mail.subjects[1]).to.contain("1 file of photos lost or damaged");
  });

  it("makes one message of a thousand recovered files", async () => {
    await using stage = await Stage.open();
    for (let index = 0; index < 1000; index += 1) {
      openIncident(stage, `inc_${String(index)}`);
      healIncident(stage, `inc_${String(index)}`);
    }
    await stage.pass(MINUTE);
    expect(stage.mail.subjects).to.deep.equal(["[holdfast INFO] web1: 1,000 files of photos put back"]);
    expect(stage.mail.delivered[0]?.commands).to.deep.equal(["holdfast incidents list"]);
  });

  it("counts repetitions into one message in the window instead of sending each", async () => {
    await using stage = await Stage.open();
    for (let round = 0; round < 20; round += 1) {
      failBackup(stage);
      await stage.pass(10 * MINUTE);
    }
    expect(stage.mail.delivered).to.have.length(1);
    await stage.pass(HOUR);
    expect(stage.mail.delivered).to.have.length(2);
    expect(stage.mail.delivered[1]?.facts).to.deep.include(["times", "20"]);
  });

  it("does not announce an end that does not last", async () => {
    await using stage = await Stage.open();
    failBackup(stage);
    await stage.pass(MINUTE);
    for (let round = 0; round < 10; round += 1) {
      finishBackup(stage);
      await stage.pass(1000);
      failBackup(stage);
      await stage.pass(1000);
    }
    expect(stage.mail.delivered.map(({ state }) => state)).to.deep.equal(["firing"]);
  });

  it("keeps an alert open while one of several incidents is open", async () => {
    await using stage = await Stage.open();
    for (const id of ["inc_1", "inc_2"])
      stage.bus.emit("incident.held", { id, source: "photos", paths: 100, reason: "100 files at once" });
    await stage.pass(MINUTE);
    expect(stage.mail.delivered).to.have.length(1);
    expect(stage.mail.delivered[0]?.commands).to.include.members([
      "holdfast incidents approve inc_1",
      "holdfast incidents deny inc_2",
    ]);
    stage.bus.emit("incident.closed", { id: "inc_1", source: "photos", outcome: "denied" });
    await stage.pass(MINUTE);
    expect(stage.mail.delivered).to.have.length(1);
    stage.bus.emit("incident.closed", { id: "inc_2", source: "photos", outcome: "denied" });
    await stage.pass(MINUTE);
    expect(stage.mail.delivered.map(({ state }) => state)).to.deep.equal(["firing", "resolved"]);
  });

  it("shows which files were lost, escaped, and at most five", async () => {
    await using stage = await Stage.open();
    for (let index = 0; index < 9; index += 1) {
      const path = `/srv/a\n\u001b[31m${String(index)}` as BytePath;
      const loss = { source: "photos", path, kind: "deleted", noticedBy: "event", seenAtMs: 0, detail: "" } as const;
      stage.bus.emit("file.lost", loss);
    }
    stage.bus.emit("incident.failed", { id: "inc_1", source: "photos", paths: 9, message: "nothing fits" });
    await stage.pass(MINUTE);
    const files = stage.mail.delivered[0]?.facts.filter(([label]) => label === "file") ?? [];
    expect(files).to.have.length(5);
    expect(files[0]?.[1]).to.equal("/srv/a\\n\\x1b[31m4 (deleted)");
  });

  it("follows the rules: severity, channels, threshold", async () => {
    await using stage = await Stage.open([
      { when: "backup_failed", severity: "warning", threshold: 3, actions: ["chat"] },
      { when: "file_recovered", actions: [] },
    ]);
    openIncident(stage, "inc_1");
    healIncident(stage, "inc_1");
    for (let round = 0; round < 2; round += 1) failBackup(stage);
    await stage.pass(MINUTE);
    expect(stage.chat.delivered).to.deep.equal([]);
    failBackup(stage);
    await stage.pass(MINUTE);
    expect(stage.chat.subjects).to.deep.equal(["[holdfast WARNING] web1: backup of photos failed"]);
    expect(stage.mail.delivered).to.deep.equal([]);
  });

  it("tells of a store that is nearly full from its threshold on, and at once when writing has stopped", async () => {
    await using stage = await Stage.open([{ when: "storage_full", threshold: 0.95 }]);
    stage.bus.emit("store.full", { usedShare: 0.92, freeBytes: 1e9, writeFailed: false });
    await stage.pass(MINUTE);
    expect(stage.mail.delivered).to.deep.equal([]);
    stage.bus.emit("store.full", { usedShare: 0.5, freeBytes: 1e9, writeFailed: true, code: "STORE_READ_ONLY" });
    await stage.pass(MINUTE);
    expect(stage.mail.subjects[0]).to.contain("the store cannot be written: new changes are NOT safe");
    stage.bus.emit("store.roomy", { usedShare: 0.5, freeBytes: 1e9 });
    await stage.pass(MINUTE);
    expect(stage.mail.delivered).to.have.length(2);
  });

  it("is silent after acknowledgement until the end, which it tells", async () => {
    await using stage = await Stage.open();
    failBackup(stage);
    await stage.pass(MINUTE);
    const [alert] = stage.dispatcher.list(false);
    expect((await stage.dispatcher.acknowledge(alert?.record.id ?? "")).state).to.equal("acknowledged");
    await stage.restart();
    failBackup(stage);
    await stage.pass(24 * HOUR);
    expect(stage.mail.delivered).to.deep.equal([]);
    finishBackup(stage);
    await stage.pass(MINUTE);
    expect(stage.mail.delivered.map(({ state }) => state)).to.deep.equal(["resolved"]);
  });

  it("holds back what is silenced, over a restart too, and tells at the end what still lasts", async () => {
    await using stage = await Stage.open();
    const untilMs = stage.clock.nowMs() + HOUR;
    await stage.dispatcher.silence({ condition: "backup_failed", source: "*", untilMs, by: "ann", reason: "move" });
    failBackup(stage);
    stage.bus.emit("backup.overdue", { source: "photos", ageMs: 1, limitMs: 1 });
    await stage.pass(MINUTE);
    expect(stage.mail.delivered.map(({ condition }) => condition)).to.deep.equal(["backup_overdue"]);
    expect(stage.dispatcher.list(false).map(({ state }) => state)).to.include("silenced");
    await stage.restart();
    await stage.pass(30 * MINUTE);
    expect(stage.mail.delivered.map(({ condition }) => condition)).to.not.include("backup_failed");
    await stage.pass(31 * MINUTE);
    expect(stage.mail.delivered.map(({ condition }) => condition)).to.include("backup_failed");
  });

  for (const restarts of [false, true])
    it(`is silent for no longer than was asked when the clock is set back a day${restarts ? " while nothing runs" : ""}`, async () => {
      await using stage = await Stage.open();
      const untilMs = stage.clock.nowMs() + HOUR;
      await stage.dispatcher.silence({ condition: "*", source: "*", untilMs, by: "ann", reason: "move" });
      stage.clock.jumpWall(-24 * HOUR);
      if (restarts) await stage.restart();
      failBackup(stage);
      await stage.pass(59 * MINUTE);
      expect(stage.mail.delivered, "within the silence").to.deep.equal([]);
      await stage.pass(2 * MINUTE);
      expect(stage.mail.delivered.map(({ condition }) => condition)).to.include("backup_failed");
    });

  it("tells at once when a silence is taken away", async () => {
    await using stage = await Stage.open();
    const untilMs = stage.clock.nowMs() + HOUR;
    const { id } = await stage.dispatcher.silence({ condition: "*", source: "photos", untilMs, by: "", reason: "" });
    failBackup(stage);
    await stage.pass(MINUTE);
    expect(stage.mail.delivered).to.deep.equal([]);
    await stage.dispatcher.unsilence(id);
    await stage.pass(1000);
    expect(stage.mail.delivered).to.have.length(1);
  });

  it("tells after a restart what was noted before, and what was not delivered before", async () => {
    await using stage = await Stage.open();
    stage.mail.answer = () => ({ kind: "retry", reason: "no network" });
    failBackup(stage);
    await stage.pass(MINUTE);
    failBackup(stage, "music");
    await stage.dispatcher.settled();
    await stage.restart();
    await stage.pass(MINUTE);
    expect(stage.mail.subjects).to.have.members([
      "[holdfast CRITICAL] web1: backup of photos failed",
      "[holdfast CRITICAL] web1: backup of music failed",
    ]);
    expect(stage.chat.subjects).to.deep.equal(["[holdfast CRITICAL] web1: backup of music failed"]);
  });

  it("ends after a restart what is not raised again, and keeps what is", async () => {
    await using stage = await Stage.open();
    stage.bus.emit("watch.degraded", { source: "photos", reason: "overflow" });
    stage.bus.emit("watch.degraded", { source: "music", reason: "overflow" });
    failBackup(stage);
    await stage.pass(5 * MINUTE);
    expect(stage.mail.delivered).to.have.length(3);
    await stage.restart();
    await stage.clock.advance(1);
    stage.bus.emit("watch.degraded", { source: "music", reason: "overflow" });
    await stage.pass(CONFIRM_WITHIN_MS + 5 * MINUTE);
    expect(stage.mail.delivered.map(({ state, source }) => `${state} ${source}`)).to.deep.equal(["resolved photos"]);
  });

  it("goes on after a reload with what was raised before it in the same process", async () => {
    await using stage = await Stage.open();
    const startedAtMs = stage.clock.nowMs();
    stage.bus.emit("watch.degraded", { source: "photos", reason: "overflow" });
    await stage.pass(5 * MINUTE);
    await stage.restart(startedAtMs);
    await stage.pass(CONFIRM_WITHIN_MS + 5 * MINUTE);
    expect(stage.mail.delivered).to.deep.equal([]);
    expect(stage.dispatcher.list(false)).to.have.length(1);
    stage.bus.emit("watch.restored", { source: "photos" });
    await stage.pass(5 * MINUTE);
    expect(stage.mail.delivered.map(({ state }) => state)).to.deep.equal(["resolved"]);
  });

  it("retries by rule with growing waits, says so, and stops when it works", async () => {
    await using stage = await Stage.open([
      { when: "backup_failed", autoRetry: { times: 2, backoffMs: 30_000 } },
      { when: "storage_full", autoCleanup: true },
    ]);
    failBackup(stage);
    await stage.pass(10_000);
    expect(stage.mail.delivered[0]?.done).to.contain("tries again in 30 s (1 of 2)");
    await stage.pass(25_000);
    expect(stage.actions).to.deep.equal(["retry backup_failed photos"]);
    failBackup(stage);
    await stage.pass(59_000);
    expect(stage.actions).to.have.length(1);
    await stage.pass(2000);
    expect(stage.actions).to.have.length(2);
    failBackup(stage);
    await stage.pass(10 * HOUR);
    expect(stage.actions).to.have.length(2);
    finishBackup(stage);
    failBackup(stage);
    finishBackup(stage);
    await stage.pass(HOUR);
    expect(stage.actions).to.have.length(2);
    for (let round = 0; round < 3; round += 1)
      stage.bus.emit("store.full", { usedShare: 0.95, freeBytes: 1, writeFailed: false });
    expect(stage.actions.slice(2)).to.deep.equal(["cleanup"]);
  });

  it("tests a channel at once and says why it does not work", async () => {
    await using stage = await Stage.open();
    await stage.dispatcher.test("mail");
    expect(stage.mail.subjects).to.deep.equal(["[holdfast TEST] web1: channel mail works"]);
    stage.mail.answer = () => ({ kind: "rejected", reason: "no such user" });
    const failure = await stage.dispatcher.test("mail").catch((error: unknown) => error);
    expect(hasCode(failure, "CHANNEL_FAILED")).to.equal(true);
    expect(String(failure)).to.contain("no such user");
    const missing = await stage.dispatcher.test("pager").catch((error: unknown) => error);
    expect(hasCode(missing, "CHANNEL_NOT_FOUND")).to.equal(true);
  });

  it("still tells when its database cannot be written", async () => {
    await using stage = await Stage.open();
    stage.memory.isBroken = true;
    failBackup(stage);
    await stage.pass(MINUTE);
    expect(stage.mail.subjects).to.deep.equal(["[holdfast CRITICAL] web1: backup of photos failed"]);
    expect(stage.observer.events("error")).to.include("alert.outbox_not_written");
  });

  it("keeps its state in a real database over a restart", async () => {
    await using store = await StateStore.create();
    const first = await Stage.open([], store.database.sublevel("alerts"));
    failBackup(first);
    await first.dispatcher[Symbol.asyncDispose]();
    await store.reopen();
    await using second = await Stage.open([], store.database.sublevel("alerts"));
    expect(second.dispatcher.list(false).map(({ record }) => record.condition)).to.deep.equal(["backup_failed"]);
    await second.clock.advance(10_000);
    await second.clock.advanceUntil(() => second.mail.delivered.length > 0, 1000);
    expect(second.mail.subjects).to.deep.equal(["[holdfast CRITICAL] web1: backup of photos failed"]);
  });

  it("does not wait for ever when the wall clock was set back", async () => {
    await using stage = await Stage.open();
    failBackup(stage);
    await stage.dispatcher.settled();
    stage.clock.jumpWall(-48 * HOUR);
    await stage.pass(MINUTE);
    expect(stage.mail.delivered).to.have.length(1);
  });

  it("counts deliveries and shows the age of what is not delivered", async () => {
    await using stage = await Stage.open();
    stage.chat.answer = () => ({ kind: "retry", reason: "no network" });
    failBackup(stage);
    await stage.pass(MINUTE);
    expect(stage.observer.value("holdfast_alerts_total", { channel: "mail", outcome: "delivered" })).to.equal(1);
    expect(stage.observer.value("holdfast_alerts_total", { channel: "chat", outcome: "delivered" })).to.equal(0);
    expect(stage.observer.value("holdfast_alerts_total", { channel: "chat", outcome: "retried" })).to.be.greaterThan(0);
    expect(stage.observer.value("holdfast_alert_outbox_oldest_age_seconds")).to.be.within(30, 60);
    expect(stage.dispatcher.undelivered).to.equal(1);
    expect(stage.dispatcher.list(false)[0]?.record.deliveries).to.deep.equal({ mail: "delivered", chat: "retried" });
  });
});
