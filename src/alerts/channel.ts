/**
 * The port to a way of telling people: email, Slack, later others. The contract suite is `test/contract/channel.ts`.
 * Messages are plain text without control characters; a channel escapes what its own medium would interpret.
 */

export const SEVERITIES = ["info", "warning", "critical"] as const;
/** info = for the record, warning = a person soon, critical = a person now. */
export type Severity = (typeof SEVERITIES)[number];

export interface AlertMessage {
  /** Unique and the same at every attempt, so that a receiver can drop a second copy: letters, digits, `-`, `_`. */
  readonly id: string;
  /** The same for all messages about one thing (firing, repeated, resolved): letters, digits, `-`, `_`. */
  readonly thread: string;
  readonly state: "firing" | "resolved" | "digest" | "test";
  readonly condition: string;
  readonly severity: Severity;
  /** Source's name, or "" when it is about the whole. */
  readonly source: string;
  readonly host: string;
  /** One line. */
  readonly subject: string;
  /** What happened, where. */
  readonly summary: string;
  readonly facts: readonly (readonly [label: string, value: string])[];
  /** What holdfast did about it. */
  readonly done: string;
  /** What a person should do; "" when nothing. */
  readonly advice: string;
  /** Commands to type, ready to copy. */
  readonly commands: readonly string[];
  /** Wall ms. */
  readonly createdAtMs: number;
}

/**
 * How a delivery ended. `retry`: the way is closed for now (network, 429, 5xx, 4xx of SMTP), the same message may pass
 * later. `rejected`: this message or these settings will not pass (wrong address, wrong webhook); trying at once again
 * is no use. `reason` is for logs and people and holds no secret.
 */
export type DeliveryResult =
  | { readonly kind: "delivered"; readonly note?: string }
  | { readonly kind: "retry"; readonly reason: string; readonly retryAfterMs?: number }
  | { readonly kind: "rejected"; readonly reason: string };

export interface AlertChannel extends AsyncDisposable {
  /** The name in the configuration; what rules call an action. */
  readonly name: string;
  /** Such as `email` or `slack`. */
  readonly kind: string;
  /**
   * Delivers one message; resolves when the other side has taken it. Never throws but for a programming error. Retrying
   * a message is allowed and may deliver it twice. When the signal aborts, it ends soon with `retry`.
   */
  send(message: AlertMessage, signal: AbortSignal): Promise<DeliveryResult>;
}
