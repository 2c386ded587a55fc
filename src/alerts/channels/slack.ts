/**
 * Alerts to Slack, with @slack/webhook. The webhook's address is a secret: it is never logged and never shown. What
 * varies (names of files and sources, errors) is put where Slack interprets nothing, or escaped.
 */
import { IncomingWebhook, IncomingWebhookHTTPError, type IncomingWebhookSendArguments } from "@slack/webhook";
import { HoldfastError, messageOf } from "../../base/errors.js";
import type { Secret } from "../../base/observe.js";
import type { AlertChannel, AlertMessage, DeliveryResult } from "../channel.js";
import { plainText, withoutSecrets } from "../text.js";

export interface SlackOptions {
  readonly name: string;
  /** `https://hooks.slack.com/services/…`; plain http only to this machine itself. */
  readonly webhook: Secret;
}

/** Slack's limits, characters and counts. */
const HEADER_MAX = 150;
const SECTION_MAX = 2900;
const FIELDS_PER_SECTION = 10;
const FIELD_VALUE_MAX = 400;
const FACTS_MAX = 20;
/** The webhook or its channel is gone: nothing but a new configuration helps. */
const SETTINGS_RETRY_MS = 30 * 60_000;
/** Bytes of an answer that are read; Slack answers with one word. */
const ANSWER_BYTES_MAX = 4096;
/** Longest reason that is told, characters. */
const REASON_MAX = 300;
/** Shorter parts of the address say nothing (`services`), or would blot out ordinary words. */
const SECRET_PART_MIN = 9;

const SIGNS = { info: "ℹ️", warning: "⚠️", critical: "🚨" } as const;

/** A channel that posts to Slack. Throws CONFIG_INVALID when the webhook is no fit address (without showing it). */
export function slackChannel(options: SlackOptions): AlertChannel {
  const text = options.webhook.reveal();
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isLocal = url !== undefined && ["127.0.0.1", "localhost", "[::1]"].includes(url.hostname);
  if (url === undefined || !(url.protocol === "https:" || (url.protocol === "http:" && isLocal)))
    throw new HoldfastError("CONFIG_INVALID", `the webhook of the Slack channel ${options.name} is no https address`, {
      hint: "Copy it from the Slack app's page `Incoming Webhooks` into the configured secret.",
    });
  return {
    name: options.name,
    kind: "slack",
    send: async (message, signal) => await post(options.webhook, message, signal),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function post(webhook: Secret, message: AlertMessage, signal: AbortSignal): Promise<DeliveryResult> {
  let retryAfterMs: number | undefined;
  const hook = new IncomingWebhook(webhook.reveal(), {
    retryConfig: { retries: 0 }, // the outbox retries
    fetch: async (url, init) => {
      const response = await fetch(url, { ...init, redirect: "error", signal });
      retryAfterMs = retryAfterOf(response.headers.get("retry-after"));
      return answered(response, await boundedBytes(response));
    },
  });
  try {
    await hook.send(payloadOf(message));
    return { kind: "delivered" };
  } catch (error) {
    if (signal.aborted) return { kind: "retry", reason: "interrupted" };
    const isAnswer = error instanceof IncomingWebhookHTTPError;
    const why = isAnswer ? `Slack answered ${String(error.statusCode)} ${error.body}` : deepestMessage(error);
    const reason = plainText(withoutSecrets(why, secretsOf(webhook)), REASON_MAX);
    return isAnswer ? answerOf(error, reason, retryAfterMs) : { kind: "retry", reason };
  }
}

/** The address and its telling parts: a proxy's answer names the path alone. */
function secretsOf(webhook: Secret): readonly string[] {
  const { pathname, search } = new URL(webhook.reveal());
  const parts = pathname.split("/").filter((part) => part.length >= SECRET_PART_MIN);
  return [webhook.reveal(), `${pathname}${search}`, search, ...parts].filter((text) => text.length >= SECRET_PART_MIN);
}

function answerOf(error: IncomingWebhookHTTPError, reason: string, retryAfterMs: number | undefined): DeliveryResult {
  if (error.statusCode === 400 || error.statusCode === 413) return { kind: "rejected", reason };
  if (retryAfterMs !== undefined) return { kind: "retry", reason, retryAfterMs };
  const isSettings = error.statusCode >= 400 && error.statusCode < 500 && error.statusCode !== 429;
  return isSettings ? { kind: "retry", reason, retryAfterMs: SETTINGS_RETRY_MS } : { kind: "retry", reason };
}

type Block = NonNullable<IncomingWebhookSendArguments["blocks"]>[number];

function payloadOf(message: AlertMessage): IncomingWebhookSendArguments {
  const sign = message.state === "resolved" ? "✅" : SIGNS[message.severity];
  const blocks: Block[] = [header(`${sign} ${message.subject}`), plainSection(message.summary)];
  const facts = message.facts.slice(0, FACTS_MAX);
  for (let start = 0; start < facts.length; start += FIELDS_PER_SECTION)
    blocks.push(factSection(facts.slice(start, start + FIELDS_PER_SECTION)));
  if (message.done !== "") blocks.push(plainSection(`What holdfast did: ${message.done}`));
  if (message.advice !== "") blocks.push(plainSection(`What to do: ${message.advice}`));
  if (message.commands.length > 0) blocks.push(commandSection(message.commands));
  blocks.push({
    type: "context",
    elements: [{ type: "plain_text", text: `holdfast on ${message.host} · ${message.id}` }],
  });
  // Screen readers and push messages use the text; the blocks are what is seen.
  return { text: escapeMarkdown(`${sign} ${message.subject}`), blocks, unfurl_links: false, unfurl_media: false };
}

function header(text: string): Block {
  return { type: "header", text: { type: "plain_text", text: plainText(text, HEADER_MAX), emoji: false } };
}

function plainSection(text: string): Block {
  return { type: "section", text: { type: "plain_text", text: text.slice(0, SECTION_MAX), emoji: false } };
}

function factSection(facts: AlertMessage["facts"]): Block {
  return {
    type: "section",
    fields: facts.map(([label, value]) => ({
      type: "mrkdwn",
      text: `*${escapeMarkdown(label)}*\n\`${inCode(plainText(value, FIELD_VALUE_MAX))}\``,
    })),
  };
}

function commandSection(commands: readonly string[]): Block {
  const text = commands.join("\n").slice(0, SECTION_MAX / 2);
  return { type: "section", text: { type: "mrkdwn", text: `\`\`\`${inCode(text)}\`\`\`` } };
}

/** Slack's three control characters; without them there is no link, no mention and no `<!channel>`. */
function escapeMarkdown(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Inside code nothing but the backtick is interpreted; it is replaced by one that looks alike. */
function inCode(text: string): string {
  return escapeMarkdown(text).replaceAll("`", "ˋ") || " ";
}

function retryAfterOf(header: string | null): number | undefined {
  const seconds = header === null ? NaN : Number(header);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

async function boundedBytes(response: Response): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  const reader: ReadableStreamDefaultReader<Uint8Array> | undefined = response.body?.getReader();
  while (reader !== undefined && sizeBytes < ANSWER_BYTES_MAX) {
    const { value } = await reader.read();
    if (value === undefined) break;
    parts.push(value);
    sizeBytes += value.byteLength;
  }
  await reader?.cancel();
  return Buffer.concat(parts).subarray(0, ANSWER_BYTES_MAX);
}

/** The answer as the library reads it, with the bytes that were read already. Its address is left out. */
function answered(response: Response, body: Buffer) {
  return {
    ok: response.ok,
    status: response.status,
    statusText: response.statusText,
    url: "",
    headers: response.headers,
    arrayBuffer: () => Promise.resolve(new Uint8Array(body).buffer),
    json: () => Promise.resolve<unknown>(JSON.parse(body.toString("utf8"))),
    text: () => Promise.resolve(body.toString("utf8")),
  };
}

/** "fetch failed" says nothing; what lies beneath does. */
function deepestMessage(error: unknown): string {
  let deepest = error;
  for (let depth = 0; depth < 5 && deepest instanceof Error; depth += 1) {
    const inner: unknown = "original" in deepest ? deepest.original : deepest.cause;
    if (inner === undefined) break;
    deepest = inner;
  }
  return messageOf(deepest);
}
