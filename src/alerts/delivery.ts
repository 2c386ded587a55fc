/**
 * Carries messages from the outbox to the channels: one loop per channel, so that a slow one holds up nobody else; a
 * time limit for each attempt; a token bucket against floods; back-off while a channel is closed. Every wait ends when
 * the delivery is disposed, and what was not delivered stays in the outbox for the next start.
 */
import type { Clock } from "../base/clock.js";
import { messageOf } from "../base/errors.js";
import type { Observer } from "../base/observe.js";
import type { AlertChannel, AlertMessage, DeliveryResult } from "./channel.js";
import type { Outbox, OutboxEntry } from "./outbox.js";

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** One attempt may take this long. */
export const SEND_TIMEOUT_MS = 30 * SECOND_MS;
/** Waits after the first, second … failed attempt; the last one stays. */
export const BACKOFF_MS: readonly number[] = [
  5 * SECOND_MS,
  30 * SECOND_MS,
  2 * MINUTE_MS,
  10 * MINUTE_MS,
  30 * MINUTE_MS,
  HOUR_MS,
];
/** Longest Retry-After that is obeyed. */
export const RETRY_AFTER_MAX_MS = HOUR_MS;
/** Messages that are not critical are given up at this age. */
export const MESSAGE_AGE_MAX_MS = 72 * HOUR_MS;
/** A channel may send this many at once, and then one each `TOKEN_EVERY_MS`: Slack allows one a second. */
export const BURST_MESSAGES = 10;
export const TOKEN_EVERY_MS = 6 * SECOND_MS;

export const DELIVERY_OUTCOMES = ["delivered", "retried", "rejected", "expired"] as const;
export type DeliveryOutcome = (typeof DELIVERY_OUTCOMES)[number];

export interface DeliveryOptions {
  readonly outbox: Outbox;
  readonly channels: readonly AlertChannel[];
  readonly clock: Clock;
  readonly observer: Observer;
  /** Between 0 and 1; spreads retries. */
  readonly random: () => number;
  /** Told of each attempt's end. */
  readonly onOutcome: (message: AlertMessage, channel: string, outcome: DeliveryOutcome) => void;
}

export class Delivery implements AsyncDisposable {
  readonly #options: DeliveryOptions;
  readonly #stop = new AbortController();
  readonly #loops: Promise<void>[];
  readonly #wakers = new Map<string, () => void>();
  readonly #count: (channel: string, outcome: DeliveryOutcome) => void;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const counter = options.observer.counter({
      name: "holdfast_alerts_total",
      help: "Attempts to deliver alert messages, by channel and outcome.",
      labels: ["channel", "outcome"],
    });
    this.#count = (channel, outcome) => counter.add(1, { channel, outcome });
    for (const { name } of options.channels)
      for (const outcome of DELIVERY_OUTCOMES) counter.add(0, { channel: name, outcome });
    this.#loops = options.channels.map((channel) => this.#run(channel));
  }

  /** To be called when messages were added. */
  wake(): void {
    for (const wake of this.#wakers.values()) wake();
  }

  /** One attempt outside the outbox, for `holdfast alerts test`. */
  async sendNow(channel: AlertChannel, message: AlertMessage): Promise<DeliveryResult> {
    return await sendWithin(channel, message, this.#options.clock, this.#stop.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.wake();
    await Promise.all(this.#loops);
  }

  async #run(channel: AlertChannel): Promise<void> {
    const { clock, outbox, observer } = this.#options;
    const tokens = new TokenBucket(clock);
    while (!this.#stop.signal.aborted) {
      const next = outbox.next(channel.name, clock.monotonicMs());
      const waitMs =
        next === undefined ? undefined : "entry" in next ? tokens.waitMs() : next.atMs - clock.monotonicMs();
      if (next === undefined || !("entry" in next) || (waitMs !== undefined && waitMs > 0)) {
        await this.#pause(channel.name, waitMs);
        continue;
      }
      tokens.take();
      try {
        await this.#deliver(channel, next.entry);
      } catch (error) {
        // Only the state database can fail here; the message stays in memory and the loop must go on.
        observer.log.error("alert.outbox_failed", { channel: channel.name, error });
        await this.#pause(channel.name, BACKOFF_MS[0]);
      }
    }
  }

  async #deliver(channel: AlertChannel, entry: OutboxEntry): Promise<void> {
    const { outbox, clock, observer } = this.#options;
    if (entry.message.severity !== "critical" && clock.nowMs() - entry.addedMs > MESSAGE_AGE_MAX_MS) {
      observer.log.error("alert.expired", { channel: channel.name, subject: entry.message.subject });
      this.#tell(entry.message, channel.name, "expired");
      await outbox.remove(entry);
      return;
    }
    entry.isSending = true;
    const { message } = entry;
    const result = await sendWithin(channel, message, clock, this.#stop.signal);
    if (result.kind === "delivered") {
      observer.log.info("alert.delivered", { channel: channel.name, subject: message.subject, note: result.note });
      this.#tell(message, channel.name, "delivered");
      await outbox.remove(entry);
      return;
    }
    if (this.#stop.signal.aborted) return;
    const isRejected = result.kind === "rejected";
    const waitMs = this.#backoffMs(entry.attempts, isRejected ? undefined : result.retryAfterMs, isRejected);
    observer.log[isRejected ? "error" : "warn"]("alert.undelivered", {
      channel: channel.name,
      subject: message.subject,
      reason: result.reason,
      attempts: entry.attempts + 1,
      retry_in_ms: Math.round(waitMs),
    });
    this.#tell(message, channel.name, isRejected ? "rejected" : "retried");
    await outbox.postpone(entry, clock.monotonicMs() + waitMs, isRejected);
  }

  #backoffMs(attempts: number, retryAfterMs: number | undefined, isRejected: boolean): number {
    if (retryAfterMs !== undefined) return Math.min(Math.max(retryAfterMs, SECOND_MS), RETRY_AFTER_MAX_MS);
    const step = isRejected ? attempts + 3 : attempts;
    const baseMs = BACKOFF_MS[Math.min(step, BACKOFF_MS.length - 1)] ?? HOUR_MS;
    return baseMs * (0.8 + 0.4 * this.#options.random());
  }

  #tell(message: AlertMessage, channel: string, outcome: DeliveryOutcome): void {
    this.#count(channel, outcome);
    this.#options.onOutcome(message, channel, outcome);
  }

  /** Waits until woken, or `ms` have passed when given. */
  async #pause(channel: string, ms: number | undefined): Promise<void> {
    if (this.#stop.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = ms === undefined ? undefined : this.#options.clock.after(ms, resolve);
      this.#wakers.set(channel, () => {
        timer?.cancel();
        resolve();
      });
    });
    this.#wakers.delete(channel);
  }
}

/** One attempt that ends in time, whatever the channel does. */
async function sendWithin(
  channel: AlertChannel,
  message: AlertMessage,
  clock: Clock,
  signal: AbortSignal,
): Promise<DeliveryResult> {
  const limit = new AbortController();
  const timedOut = new Promise<DeliveryResult>((resolve) => {
    limit.signal.addEventListener("abort", () => {
      resolve({ kind: "retry", reason: `no answer within ${String(SEND_TIMEOUT_MS / SECOND_MS)} s` });
    });
  });
  const timer = clock.after(SEND_TIMEOUT_MS, () => limit.abort());
  const stop = (): void => limit.abort();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) limit.abort();
  try {
    return await Promise.race([attempt(channel, message, limit.signal), timedOut]);
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", stop);
  }
}

async function attempt(channel: AlertChannel, message: AlertMessage, signal: AbortSignal): Promise<DeliveryResult> {
  try {
    return await channel.send(message, signal);
  } catch (error) {
    return { kind: "retry", reason: messageOf(error) };
  }
}

/** Lets `BURST_MESSAGES` pass at once and then one each `TOKEN_EVERY_MS`. */
class TokenBucket {
  readonly #clock: Clock;
  #tokens = BURST_MESSAGES;
  #filledMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#filledMs = clock.monotonicMs();
  }

  /** Ms until the next message may pass; 0 = now. */
  waitMs(): number {
    const now = this.#clock.monotonicMs();
    this.#tokens = Math.min(BURST_MESSAGES, this.#tokens + (now - this.#filledMs) / TOKEN_EVERY_MS);
    this.#filledMs = now;
    return this.#tokens >= 1 ? 0 : Math.ceil((1 - this.#tokens) * TOKEN_EVERY_MS);
  }

  take(): void {
    this.#tokens -= 1;
  }
}
