/** The outbox and its delivery: nothing lost by a crash, nothing without bound, order kept, floods held back. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { expect } from "chai";
import fc from "fast-check";
import { Level } from "level";
import type { Bucket } from "../../src/alerts/bucket.js";
import type { AlertMessage, Severity } from "../../src/alerts/channel.js";
import { BACKOFF_MS, BURST_MESSAGES, Delivery, MESSAGE_AGE_MAX_MS, TOKEN_EVERY_MS } from "../../src/alerts/delivery.js";
import { DIGEST_LINES_MAX, Outbox } from "../../src/alerts/outbox.js";
import { digestMessage } from "../../src/alerts/wording.js";
import { sampleMessage } from "../contract/channel.js";
import { FakeClock } from "../support/fake-clock.js";
import { RecordingChannel } from "../support/recording-channel.js";
import { MemoryBucket, RecordingObserver, StateStore } from "../support/state-store.js";

function message(number: number, severity: Severity = "info", thread = `alert_${String(number)}`): AlertMessage {
  return sampleMessage({ id: `hf-${String(number)}`, thread, severity, subject: `subject ${String(number)}` });
}

async function openOutbox(store: StateStore, messagesMax = 500): Promise<Outbox> {
  return await openOn(store.database.sublevel("alerts"), messagesMax);
}

async function openOn(bucket: Bucket, messagesMax: number): Promise<Outbox> {
  return await Outbox.open({
    bucket,
    digest: (folded, severity) => digestMessage(folded, severity, { host: "web1", nowMs: 1, messageId: "hf-digest" }),
    messagesMax,
  });
}

describe("the outbox", () => {
  it("gives back after a restart what was added, in order, and not what was removed", async () => {
    await using store = await StateStore.create();
    const outbox = await openOutbox(store);
    for (let number = 0; number < 20; number += 1) await outbox.add(message(number), ["mail", "chat"], number, []);
    const first = outbox.next("mail", 0);
    if (first !== undefined && "entry" in first) await outbox.remove(first.entry);
    await store.reopen();
    const again = await openOutbox(store);
    const ids = (channel: string): string[] => again.waiting(channel).map((entry) => entry.message.id);
    expect(ids("mail")).to.deep.equal(Array.from({ length: 19 }, (_, index) => `hf-${String(index + 1)}`));
    expect(ids("chat")).to.have.length(20);
    expect(again.waiting("chat")[3]?.message).to.deep.equal(message(3));
    await again.add(message(99), ["mail"], 1, []);
    expect(ids("mail").at(-1)).to.equal("hf-99");
  });

  it("removes what it cannot read instead of failing for ever", async () => {
    await using store = await StateStore.create();
    const bucket = store.database.sublevel("alerts");
    for (const [key, value] of [
      ["outbox!0000000000000001", "no json"],
      ["outbox!0000000000000002", "{}"],
      ["outbox!x", JSON.stringify({ channel: "mail", message: { id: 1 } })],
    ] as const)
      await bucket.put(key, value);
    const outbox = await openOutbox(store);
    await outbox.add(message(1), ["mail"], 1, []);
    expect(outbox.waiting("mail")).to.have.length(1);
    expect(await bucket.keys().all()).to.deep.equal(["outbox!0000000000000003"]);
  });

  it("folds the oldest unimportant messages into one digest beyond its limit", async () => {
    await using store = await StateStore.create();
    const outbox = await openOutbox(store, 10);
    for (let number = 0; number < 100; number += 1)
      await outbox.add(
        message(number, number % 10 === 0 ? "critical" : number % 10 === 5 ? "warning" : "info"),
        ["mail"],
        number,
        [],
      );
    const waiting = outbox.waiting("mail");
    expect(
      waiting.filter((entry) => entry.message.severity === "critical").map((entry) => entry.message.id),
    ).to.deep.equal(Array.from({ length: 10 }, (_, index) => `hf-${String(index * 10)}`));
    const digests = waiting.filter((entry) => entry.folded.length > 0);
    expect(digests).to.have.length(1);
    expect(digests[0]?.folded.length).to.be.at.most(DIGEST_LINES_MAX + 1);
    const total = digests[0]?.folded.reduce((sum, [, count]) => sum + count, 0);
    const single = waiting.filter((entry) => entry.folded.length === 0 && entry.message.severity !== "critical").length;
    expect((total ?? 0) + single).to.equal(90);
    await store.reopen();
    const again = await openOutbox(store, 10);
    expect(again.waiting("mail").map((entry) => entry.message)).to.deep.equal(waiting.map((entry) => entry.message));
  });

  it("never loses a critical thread and never grows beyond limit and threads, whatever comes", async () => {
    const severity = fc.constantFrom<Severity>("info", "warning", "critical");
    const step = fc.record({ severity, thread: fc.integer({ min: 0, max: 5 }) });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        await using store = await StateStore.create();
        const outbox = await openOutbox(store, 5);
        for (const [number, { severity: level, thread }] of steps.entries())
          await outbox.add(message(number, level, `t${String(thread)}`), ["mail"], number, []);
        const waiting = outbox.waiting("mail");
        const threads = (entries: readonly { severity: Severity; thread: string }[]): string[] =>
          [...new Set(entries.filter((entry) => entry.severity === "critical").map(({ thread }) => thread))].sort();
        const added = steps.map((entry) => ({ severity: entry.severity, thread: `t${String(entry.thread)}` }));
        const kept = waiting.map((entry) => entry.message);
        const lost = threads(added).filter((thread) => !kept.some((entry) => entry.thread === thread));
        // A newer message of a thread stands for the older ones, also when it is less important.
        expect(
          lost.filter((thread) => added.filter((entry) => entry.thread === thread).at(-1)?.severity === "critical"),
        ).to.deep.equal([]);
        expect(waiting.length).to.be.at.most(5 + 6);
      }),
      { numRuns: 15 },
    );
  });

  it("hands the critical messages of a channel that is gone to another one", async () => {
    await using store = await StateStore.create();
    const outbox = await openOutbox(store);
    await outbox.add(message(1, "critical"), ["old"], 1, []);
    await outbox.add(message(2, "info"), ["old"], 1, []);
    expect(await outbox.adopt([], 1)).to.equal(0);
    expect(outbox.waiting("old")).to.have.length(2);
    expect(await outbox.adopt([new RecordingChannel("mail")], 1)).to.equal(1);
    expect(outbox.waiting("mail").map((entry) => entry.message.id)).to.deep.equal(["hf-1"]);
    expect(outbox.channels).to.deep.equal(["mail"]);
  });

  it("has every message that was acknowledged after SIGKILL at any moment, and sends each under the same id", async function () {
    this.timeout(60_000);
    await using store = await StateStore.create();
    await store.database.close();
    const acknowledged = new Set<string>();
    for (let round = 0; round < 8; round += 1) {
      const child = fork(new URL("outbox-writer.js", import.meta.url), [store.location, String(round)], {
        stdio: "inherit",
      });
      let heard = 0;
      const enough = new Promise<void>((resolve) => {
        child.on("message", (id: string) => {
          acknowledged.add(id);
          heard += 1;
          if (heard > round * 7) resolve();
        });
      });
      await enough;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
    store.database = new Level<string, string>(store.location);
    const outbox = await openOutbox(store, 100_000);
    const found = outbox.waiting("mail").map((entry) => entry.message.id);
    expect(new Set(found).size).to.equal(found.length);
    expect(found).to.include.members([...acknowledged]);
    expect(acknowledged.size).to.be.greaterThan(100);
  });
});

interface Run extends AsyncDisposable {
  readonly clock: FakeClock;
  readonly outbox: Outbox;
  readonly mail: RecordingChannel;
  readonly chat: RecordingChannel;
  readonly delivery: Delivery;
  readonly observer: RecordingObserver;
  add(...messages: readonly AlertMessage[]): Promise<void>;
}

async function startDelivery(): Promise<Run> {
  const [clock, observer] = [new FakeClock(), new RecordingObserver()];
  const [mail, chat] = [new RecordingChannel("mail"), new RecordingChannel("chat")];
  const outbox = await openOn(new MemoryBucket(), 500);
  const delivery = new Delivery({
    outbox,
    channels: [mail, chat],
    clock,
    observer,
    random: () => 0.5,
    onOutcome: () => undefined,
  });
  return {
    clock,
    outbox,
    mail,
    chat,
    delivery,
    observer,
    async add(...messages) {
      for (const one of messages) await outbox.add(one, ["mail", "chat"], clock.nowMs(), []);
      delivery.wake();
      await clock.advance(0, 30);
    },
    async [Symbol.asyncDispose]() {
      await delivery[Symbol.asyncDispose]();
    },
  };
}

describe("the delivery", () => {
  it("keeps the order of a channel while it is closed, and does not hold up the others", async () => {
    await using run = await startDelivery();
    run.mail.answer = () => ({ kind: "retry", reason: "no network" });
    await run.add(message(1), message(2), message(3));
    expect(run.chat.delivered.map(({ id }) => id)).to.deep.equal(["hf-1", "hf-2", "hf-3"]);
    expect(run.mail.attempts).to.equal(1);
    run.mail.answer = undefined;
    await run.clock.advance(BACKOFF_MS[0] ?? 0, 30);
    expect(run.mail.delivered.map(({ id }) => id)).to.deep.equal(["hf-1", "hf-2", "hf-3"]);
    expect(run.outbox.channels).to.deep.equal([]);
  });

  it("tries less and less often, never more than the steps allow", async () => {
    await using run = await startDelivery();
    run.mail.answer = () => ({ kind: "retry", reason: "no network" });
    await run.add(message(1, "critical"));
    const attempts: number[] = [];
    for (let hour = 0; hour < 24; hour += 1) {
      await run.clock.advance(3_600_000, 12);
      attempts.push(run.mail.attempts);
    }
    expect(attempts[0]).to.be.within(5, 7);
    expect(run.mail.attempts).to.be.within(20, 32);
  });

  it("obeys Retry-After", async () => {
    await using run = await startDelivery();
    run.mail.answer = () => ({ kind: "retry", reason: "429", retryAfterMs: 90_000 });
    await run.add(message(1));
    run.mail.answer = undefined;
    await run.clock.advance(89_000, 20);
    expect(run.mail.delivered).to.deep.equal([]);
    await run.clock.advance(1000, 20);
    expect(run.mail.delivered).to.have.length(1);
  });

  it("lets others pass a message that is rejected, and does not forget a critical one", async () => {
    await using run = await startDelivery();
    run.mail.answer = ({ id }) => (id === "hf-1" ? { kind: "rejected", reason: "550" } : { kind: "delivered" });
    await run.add(message(1, "critical"), message(2));
    expect(run.mail.delivered.map(({ id }) => id)).to.deep.equal(["hf-2"]);
    run.mail.answer = undefined;
    await run.clock.advance(3_600_000, 20);
    expect(run.mail.delivered.map(({ id }) => id)).to.deep.equal(["hf-2", "hf-1"]);
  });

  it("gives up what is not critical after three days, and says so", async () => {
    await using run = await startDelivery();
    run.mail.answer = () => ({ kind: "retry", reason: "no network" });
    await run.add(message(1), message(2, "critical"));
    await run.clock.advance(MESSAGE_AGE_MAX_MS + 2 * 3_600_000, 8);
    run.mail.answer = undefined;
    await run.clock.advance(2 * 3_600_000, 20);
    expect(run.mail.delivered.map(({ id }) => id)).to.deep.equal(["hf-2"]);
    expect(run.observer.events("error")).to.include("alert.expired");
  });

  it("lets a burst pass and then no more than its rate", async () => {
    await using run = await startDelivery();
    await run.add(...Array.from({ length: 40 }, (_, index) => message(index, "critical")));
    expect(run.mail.delivered).to.have.length(BURST_MESSAGES);
    await run.clock.advance(10 * TOKEN_EVERY_MS, 10);
    expect(run.mail.delivered.length).to.be.within(BURST_MESSAGES + 9, BURST_MESSAGES + 10);
    await run.clock.advance(60 * TOKEN_EVERY_MS, 10);
    expect(run.mail.delivered).to.have.length(40);
  });

  it("does not wait for ever for a channel that never answers", async () => {
    await using run = await startDelivery();
    run.mail.answer = () => new Promise(() => undefined);
    await run.add(message(1));
    await run.clock.advance(31_000, 20);
    expect(run.observer.lines.find(({ event }) => event === "alert.undelivered")?.fields["reason"]).to.contain(
      "no answer",
    );
    run.mail.answer = undefined;
    await run.clock.advance(10_000, 20);
    expect(run.mail.delivered).to.have.length(1);
  });

  it("treats a channel that throws as one that is closed for now", async () => {
    await using run = await startDelivery();
    run.mail.answer = () => {
      throw new Error("bug in the channel");
    };
    await run.add(message(1));
    expect(run.outbox.waiting("mail")).to.have.length(1);
    run.mail.answer = undefined;
    await run.clock.advance(10_000, 20);
    expect(run.mail.delivered).to.have.length(1);
  });
});
