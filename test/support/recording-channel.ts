/** An alert channel that keeps what it was sent, and answers as the test says: the port's second implementer. */
import type { AlertChannel, AlertMessage, DeliveryResult } from "../../src/alerts/channel.js";

export class RecordingChannel implements AlertChannel {
  readonly kind = "recording";
  readonly name: string;
  /** What was delivered. */
  readonly delivered: AlertMessage[] = [];
  attempts = 0;
  /** Decides about each attempt; delivers when undefined. */
  answer: ((message: AlertMessage) => DeliveryResult | Promise<DeliveryResult>) | undefined;

  constructor(name: string) {
    this.name = name;
  }

  get subjects(): readonly string[] {
    return this.delivered.map(({ subject }) => subject);
  }

  async send(message: AlertMessage): Promise<DeliveryResult> {
    this.attempts += 1;
    const result = (await this.answer?.(message)) ?? { kind: "delivered" };
    if (result.kind === "delivered") this.delivered.push(message);
    return result;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
