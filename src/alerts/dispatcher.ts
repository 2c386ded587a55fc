/**
 * From events to messages: listens to the bus, keeps one record for each condition of each source, and when a record is
 * due hands one message per channel to the outbox in the same durable batch as the record. What is counted together
 * (a thousand recovered files), what ended before it was worth a message, what a person has acknowledged or silenced is
 * decided here. Nothing here can fail a backup: event handlers only note, and every failure ends in the log.
 */
import { randomHex } from "../base/ids.js";
import type { Clock, Timer } from "../base/clock.js";
import { HoldfastError } from "../base/errors.js";
import type { EventBus, EventHandler } from "../base/events.js";
import type { Observer } from "../base/observe.js";
import { AutoActions, type AutoPorts } from "./auto-actions.js";
import { type Bucket, type BucketWrite, entriesBelow, writeDurably } from "./bucket.js";
import type { AlertChannel, AlertMessage } from "./channel.js";
import { Delivery, type DeliveryOutcome } from "./delivery.js";
import { Outbox } from "./outbox.js";
import {
  type AlertRecord,
  SAMPLES_MAX,
  clearRecord,
  newRecord,
  nextMessageMs,
  parseRecord,
  raiseRecord,
  recordKey,
} from "./record.js";
import { type AlertRule, type AlertRules, CONDITIONS, type Condition } from "./rules.js";
import { type Clear, type HeardEvent, READINGS, type Raise, type Signal, signalsOf } from "./signals.js";
import { type Silence, Silences } from "./silences.js";
import { plainText } from "./text.js";
import { alertMessage, digestMessage, testMessage } from "./wording.js";

/** Ended alerts that can still be listed. */
export const RESOLVED_KEPT_MAX = 100;
/** Sources whose latest lost files are remembered for the next message. */
const SAMPLED_SOURCES_MAX = 1000;
const AGE_EVERY_MS = 15_000;
/** Longest time between two looks at what is due, so that a jump of the wall clock delays nothing for long. */
const LOOK_EVERY_MS = 30_000;
/** After a start, conditions that still hold are raised again within this time. */
export const CONFIRM_WITHIN_MS = 10 * 60_000;
const RECORD_PREFIX = "record!";

export interface DispatcherOptions {
  readonly bus: EventBus;
  /** A sublevel of the state database, for alerts alone. */
  readonly bucket: Bucket;
  /** Taken over: disposed with the dispatcher. */
  readonly channels: readonly AlertChannel[];
  readonly rules: AlertRules;
  readonly auto: AutoPorts;
  readonly clock: Clock;
  readonly observer: Observer;
  /** Name of this machine, as people know it. */
  readonly host: string;
  /**
   * When this process began, wall ms; default now. A dispatcher that replaces another one of the same process (after a
   * reload) needs it: what was raised since then still holds, though nobody raises it again.
   */
  readonly startedAtMs?: number;
  /** Between 0 and 1; `Math.random` unless told. */
  readonly random?: () => number;
}

/** Conditions whose causes are ids of incidents. */
const OF_INCIDENTS: ReadonlySet<Condition> = new Set(["file_lost", "recovery_failed", "incident_waiting"]);

/** An alert as it is listed. */
export interface AlertView {
  readonly record: Readonly<AlertRecord>;
  readonly summary: string;
  readonly state: "active" | "acknowledged" | "silenced" | "resolved";
}

export class AlertDispatcher implements AsyncDisposable {
  readonly #options: DispatcherOptions;
  readonly #outbox: Outbox;
  readonly #silences: Silences;
  readonly #delivery: Delivery;
  readonly #auto: AutoActions;
  readonly #records = new Map<string, AlertRecord>();
  readonly #attempts = new Map<string, string>();
  readonly #resolved: AlertRecord[] = [];
  readonly #samples = new Map<string, string[]>();
  readonly #changed = new Set<string>();
  readonly #unsubscribe: (() => void)[] = [];
  readonly #ageTimer: Timer;
  #lookTimer: Timer | undefined;
  #startTimer: Timer | undefined;
  #work: Promise<void> = Promise.resolve();
  #isWorkQueued = false;
  #isClosed = false;

  private constructor(options: DispatcherOptions, outbox: Outbox, silences: Silences) {
    this.#options = options;
    this.#outbox = outbox;
    this.#silences = silences;
    this.#auto = new AutoActions(options.auto, options.clock, options.observer.log);
    this.#delivery = new Delivery({
      outbox,
      channels: options.channels,
      clock: options.clock,
      observer: options.observer,
      random: options.random ?? Math.random,
      onOutcome: (message, channel, outcome) => this.#noteOutcome(message, channel, outcome),
    });
    const age = options.observer.gauge({
      name: "holdfast_alert_outbox_oldest_age_seconds",
      help: "Age of the oldest alert message that is not delivered; 0 = none waits.",
    });
    this.#ageTimer = options.clock.every(AGE_EVERY_MS, () => age.set(this.outboxAgeMs / 1000));
  }

  /** Takes up what an earlier process has left, and listens. */
  static async open(options: DispatcherOptions): Promise<AlertDispatcher> {
    const { bucket, clock, observer } = options;
    const context = (): { host: string; nowMs: number; messageId: string } => newContext(options);
    const outbox = await Outbox.open({
      bucket,
      digest: (folded, severity) => digestMessage(folded, severity, context()),
    });
    const dropped = await outbox.adopt(options.channels, clock.nowMs());
    if (dropped > 0) observer.log.warn("alert.channel_gone", { messages: dropped });
    const dispatcher = new AlertDispatcher(options, outbox, await Silences.open(bucket, clock));
    await dispatcher.#load();
    dispatcher.#listen();
    dispatcher.#soon();
    return dispatcher;
  }

  /** Active alerts, and the last ended ones when asked; newest first. */
  list(includeResolved: boolean): readonly AlertView[] {
    const records = [...this.#records.values(), ...(includeResolved ? this.#resolved : [])];
    return records
      .sort((a, b) => b.sinceMs - a.sinceMs || (a.id < b.id ? -1 : 1))
      .map((record) => this.#view(record))
      .filter(({ state }) => includeResolved || state !== "resolved");
  }

  /** Ends what was raised for incidents that were closed while nobody listened: by a command without a daemon. */
  confirmIncidents(isOpen: (id: string) => boolean): void {
    for (const { condition, source, causes } of [...this.#records.values()]) {
      const ended = OF_INCIDENTS.has(condition) ? causes.filter((cause) => !isOpen(cause)) : [];
      for (const cause of ended) this.#clear({ kind: "clear", condition, source, cause });
    }
    this.#soon();
  }

  /** Stops further messages about an alert until it ends. NOT_FOUND. */
  async acknowledge(id: string): Promise<AlertView> {
    const found = [...this.#records].find(([, record]) => record.id === id);
    if (found === undefined) throw new HoldfastError("NOT_FOUND", `there is no active alert ${id}`);
    const [key, record] = found;
    record.acknowledgedMs ??= this.#options.clock.nowMs();
    await writeDurably(this.#options.bucket, [put(key, record)]);
    return this.#view(record);
  }

  /** Holds back messages; what still lasts at the end is told then. */
  async silence(silence: Omit<Silence, "id">): Promise<Silence> {
    const added = await this.#silences.add(silence, this.#options.clock.nowMs());
    this.#soon();
    return added;
  }

  /** Ends a silence before its time. NOT_FOUND. */
  async unsilence(id: string): Promise<void> {
    await this.#silences.remove(id);
    this.#soon();
  }

  silences(): readonly Silence[] {
    return this.#silences.list(this.#options.clock.nowMs());
  }

  /** Sends a test message now, past the outbox. CHANNEL_NOT_FOUND, CHANNEL_FAILED. */
  async test(channelName: string): Promise<void> {
    const channel = this.#options.channels.find(({ name }) => name === channelName);
    if (channel === undefined) throw new HoldfastError("CHANNEL_NOT_FOUND", `there is no channel ${channelName}`);
    const result = await this.#delivery.sendNow(channel, testMessage(channelName, newContext(this.#options)));
    if (result.kind !== "delivered")
      throw new HoldfastError("CHANNEL_FAILED", `the test message was not delivered: ${result.reason}`, {
        hint: "Correct the channel's settings, then test it again.",
      });
  }

  /** Messages that are not delivered yet, over all channels. */
  get undelivered(): number {
    return this.#outbox.channels.reduce((sum, channel) => sum + this.#outbox.waiting(channel).length, 0);
  }

  /** Age of the oldest undelivered message, ms; 0 when none waits. */
  get outboxAgeMs(): number {
    const oldest = this.#outbox.oldestMs;
    return oldest === undefined ? 0 : Math.max(0, this.#options.clock.nowMs() - oldest);
  }

  /** Waits until everything noted so far is on disk. */
  async settled(): Promise<void> {
    while (this.#isWorkQueued) await this.#work;
    await this.#work;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    for (const stop of this.#unsubscribe) stop();
    await this.settled();
    this.#isClosed = true;
    for (const timer of [this.#lookTimer, this.#startTimer, this.#ageTimer]) timer?.cancel();
    this.#auto[Symbol.dispose]();
    await this.#delivery[Symbol.asyncDispose]();
    await this.settled();
    for (const channel of this.#options.channels) await channel[Symbol.asyncDispose]();
  }

  async #load(): Promise<void> {
    for await (const [key, text] of entriesBelow(this.#options.bucket, RECORD_PREFIX)) {
      const record = parseRecord(text);
      if (record === undefined) await writeDurably(this.#options.bucket, [{ type: "del", key }]);
      else this.#records.set(key, record);
    }
    const startMs = this.#options.startedAtMs ?? this.#options.clock.nowMs();
    this.#startTimer = this.#options.clock.after(CONFIRM_WITHIN_MS, () => this.#endUnconfirmed(startMs));
  }

  /** What an earlier process had raised and this one did not raise again has ended in between. */
  #endUnconfirmed(startMs: number): void {
    for (const record of this.#records.values()) {
      if (!CONDITIONS[record.condition].isRaisedAnew || record.lastMs >= startMs) continue;
      for (const cause of [...record.causes, ""])
        this.#clear({ kind: "clear", condition: record.condition, source: record.source, cause });
    }
    this.#soon();
  }

  #listen(): void {
    const { bus } = this.#options;
    for (const name of Object.keys(READINGS) as HeardEvent[])
      this.#unsubscribe.push(bus.on(name, this.#handlerOf(name)));
  }

  #handlerOf<N extends HeardEvent>(name: N): EventHandler<N> {
    return (event) => {
      for (const signal of signalsOf(name, event)) this.#hear(signal);
      this.#soon();
    };
  }

  #hear(signal: Signal): void {
    if (signal.kind === "raise") this.#raise(signal);
    else if (signal.kind === "clear") this.#clear(signal);
    else this.#sample(signal.source, signal.text);
  }

  #sample(source: string, text: string): void {
    const samples = this.#samples.get(source) ?? [];
    if (samples.length === 0 && this.#samples.size >= SAMPLED_SOURCES_MAX) this.#samples.clear();
    this.#samples.set(source, [...samples, plainText(text)].slice(-SAMPLES_MAX));
  }

  #raise(signal: Raise): void {
    const { clock, observer } = this.#options;
    const key = RECORD_PREFIX + recordKey(signal.condition, signal.source);
    const rule = this.#rule(signal.condition);
    const existing = this.#records.get(key);
    const record = existing ?? newRecord(signal.condition, signal.source, rule, clock.nowMs());
    this.#records.set(key, record);
    if (record.resolvedMs !== null) revive(record);
    raiseRecord(record, signal, clock.nowMs());
    if (signal.files > 0 && signal.condition !== "file_recovered")
      record.samples = [...(this.#samples.get(signal.source) ?? record.samples)];
    this.#changed.add(key);
    const { condition, source } = signal;
    observer.log[LOG_LEVEL[record.severity]]("alert.raised", {
      condition,
      source,
      ...Object.fromEntries(signal.facts),
    });
    const attempt = this.#auto.onRaised(rule, source, signal.cause);
    if (attempt !== "") this.#attempts.set(key, attempt);
  }

  #clear(signal: Clear): void {
    const key = RECORD_PREFIX + recordKey(signal.condition, signal.source);
    this.#auto.onCleared(signal.condition, signal.source, signal.cause);
    const record = this.#records.get(key);
    if (record === undefined || record.resolvedMs !== null) return;
    this.#changed.add(key);
    if (!clearRecord(record, signal.cause)) return;
    record.resolvedMs = this.#options.clock.nowMs();
    record.untoldSinceMs = record.resolvedMs;
    this.#attempts.delete(key);
    this.#options.observer.log.info("alert.resolved", { condition: record.condition, source: record.source });
  }

  #noteOutcome(message: AlertMessage, channel: string, outcome: DeliveryOutcome): void {
    for (const [key, record] of this.#records) {
      if (record.id !== message.thread) continue;
      record.deliveries[channel] = outcome;
      this.#changed.add(key);
    }
    const ended = this.#resolved.find((record) => record.id === message.thread);
    if (ended !== undefined) ended.deliveries[channel] = outcome;
    this.#soon();
  }

  /** Looks at what is due in a moment: many events of one burst are one look and one write. */
  #soon(): void {
    if (this.#isWorkQueued || this.#isClosed) return;
    this.#isWorkQueued = true;
    this.#work = this.#work.then(async () => {
      this.#isWorkQueued = false;
      try {
        await this.#look();
      } catch (error) {
        this.#options.observer.log.error("alert.state_not_written", { error });
      }
      this.#plan();
    });
  }

  async #look(): Promise<void> {
    const { clock, bucket } = this.#options;
    for (const [key, record] of this.#records) {
      const dueMs = this.#dueMs(record);
      if (dueMs !== undefined && dueMs <= clock.nowMs()) await this.#tryToTell(key, record);
      else if (isFinished(record, clock.nowMs())) this.#forget(key, record);
    }
    const changed = [...this.#changed];
    this.#changed.clear();
    const writes = changed.map((key): BucketWrite => {
      const record = this.#records.get(key);
      return record === undefined ? { type: "del", key } : put(key, record);
    });
    try {
      await writeDurably(bucket, writes);
    } catch (error) {
      for (const key of changed) this.#changed.add(key);
      throw error;
    }
  }

  async #tryToTell(key: string, record: AlertRecord): Promise<void> {
    try {
      await this.#tell(key, record);
    } catch (error) {
      // The message is on its way from memory; what failed is keeping it through a crash.
      this.#options.observer.log.error("alert.outbox_not_written", { condition: record.condition, error });
    }
  }

  async #tell(key: string, record: AlertRecord): Promise<void> {
    const nowMs = this.#options.clock.nowMs();
    const rule = this.#rule(record.condition);
    const wasTold = record.toldMs !== null;
    const attempt = this.#attempts.get(key) ?? "";
    record.severity = rule.severity;
    const message = alertMessage(record, record.id, { ...newContext(this.#options), attempt });
    record.untoldSinceMs = null;
    record.toldMs = nowMs;
    const isOver = record.resolvedMs !== null;
    if (isOver) this.#forget(key, record);
    else for (const channel of rule.actions) record.deliveries[channel] ??= "waiting";
    if (CONDITIONS[record.condition].isMoment) startAnew(record);
    this.#changed.delete(key);
    const write: BucketWrite = isOver ? { type: "del", key } : put(key, record);
    // An end is told only to those who were told of the beginning.
    const channels = isOver && !wasTold ? [] : rule.actions;
    try {
      await this.#outbox.add(message, channels, nowMs, [write]);
    } finally {
      this.#delivery.wake();
    }
  }

  #forget(key: string, record: AlertRecord): void {
    this.#records.delete(key);
    this.#attempts.delete(key);
    this.#changed.add(key);
    this.#resolved.unshift({ ...record, resolvedMs: record.resolvedMs ?? record.lastMs });
    this.#resolved.splice(RESOLVED_KEPT_MAX);
  }

  #plan(): void {
    if (this.#isClosed) return;
    const { clock } = this.#options;
    this.#lookTimer?.cancel();
    const due = [...this.#records.values()].map((record) => this.#dueMs(record)).filter((ms) => ms !== undefined);
    const waitMs = Math.min(LOOK_EVERY_MS, ...due.map((ms) => Math.max(0, ms - clock.nowMs())));
    this.#lookTimer = clock.after(waitMs, () => this.#soon());
  }

  /** When to tell of a record, counted in a silence that lies over it. A clock set back does not hold it for long. */
  #dueMs(record: AlertRecord): number | undefined {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    if (record.untoldSinceMs !== null && record.untoldSinceMs > nowMs) record.untoldSinceMs = nowMs;
    if (record.toldMs !== null && record.toldMs > nowMs) record.toldMs = nowMs;
    const dueMs = nextMessageMs(record, this.#rule(record.condition));
    if (dueMs === undefined) return undefined;
    const silentUntilMs = this.#silences.silentUntilMs(record.condition, record.source, nowMs);
    return silentUntilMs === undefined ? dueMs : Math.max(dueMs, silentUntilMs);
  }

  #rule(condition: Condition): AlertRule {
    const rule = this.#options.rules.get(condition);
    if (rule === undefined) throw new HoldfastError("INTERNAL", `the condition ${condition} has no rule`);
    return rule;
  }

  #view(record: AlertRecord): AlertView {
    const { summary } = alertMessage(record, record.id, { ...newContext(this.#options), attempt: "" });
    return { record, summary, state: this.#stateOf(record) };
  }

  #stateOf(record: AlertRecord): AlertView["state"] {
    const nowMs = this.#options.clock.nowMs();
    if (record.resolvedMs !== null) return "resolved";
    if (CONDITIONS[record.condition].isMoment && record.untoldSinceMs === null) return "resolved";
    if (record.acknowledgedMs !== null) return "acknowledged";
    const isSilent = this.#silences.silentUntilMs(record.condition, record.source, nowMs) !== undefined;
    return isSilent ? "silenced" : "active";
  }
}

const LOG_LEVEL = { info: "info", warning: "warn", critical: "error" } as const;

/** The thing came back before its end was told: it is the same alert, going on. */
function revive(record: AlertRecord): void {
  record.resolvedMs = null;
  record.acknowledgedMs = null;
}

/** A moment that was told: what comes next is counted anew, under the same id. */
function startAnew(record: AlertRecord): void {
  record.count = 0;
  record.files = 0;
  record.measure = 0;
  record.causes = [];
}

/** A moment with nothing more to tell is forgotten when its time to gather is over. */
function isFinished(record: AlertRecord, nowMs: number): boolean {
  const { isMoment, repeatMs } = CONDITIONS[record.condition];
  return isMoment && record.untoldSinceMs === null && (record.toldMs ?? 0) + repeatMs <= nowMs;
}

function put(key: string, record: AlertRecord): BucketWrite {
  return { type: "put", key, value: JSON.stringify(record) };
}

function newContext(options: DispatcherOptions): { host: string; nowMs: number; messageId: string } {
  return { host: options.host, nowMs: options.clock.nowMs(), messageId: `hf-${randomHex(12)}` };
}
