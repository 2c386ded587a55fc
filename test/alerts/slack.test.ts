/** Slack against an HTTP server that judges the payload as Slack does. */
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { slackChannel } from "../../src/alerts/channels/slack.js";
import { Secret } from "../../src/base/observe.js";
import { type ChannelStage, itIsAnAlertChannel, sampleMessage } from "../contract/channel.js";

const never = new AbortController().signal;
const PATH = "/services/T000/B000/sEcReTpArT";

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Record<string, string>;
}

interface Hook {
  readonly url: string;
  readonly payloads: unknown[];
  answer: Answer | "hang" | undefined;
  close(): Promise<void>;
}

async function startHook(): Promise<Hook> {
  const server = createServer((request, response) => void take(request, response));
  const hook: Hook = { url: "", payloads: [], answer: undefined, close: () => Promise.resolve() };
  const take = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let text = "";
    for await (const part of request) text += String(part);
    if (hook.answer === "hang") return;
    const fault = judge(request, text);
    const answer: Answer =
      hook.answer ?? (fault === undefined ? { status: 200, body: "ok" } : { status: 400, body: fault });
    if (answer.status === 200) hook.payloads.push(JSON.parse(text));
    response.writeHead(answer.status, answer.headers).end(answer.body);
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
  };
  return Object.assign(hook, { url: `http://127.0.0.1:${String(port)}${PATH}`, close });
}

interface Block {
  type: string;
  text?: { type: string; text: string };
  fields?: { type: string; text: string }[];
  elements?: { type: string; text: string }[];
}

/** Slack's own rules for a payload; the fault as Slack names it, or undefined. */
function judge(request: IncomingMessage, text: string): string | undefined {
  if (request.method !== "POST" || request.url !== PATH) return "no_service";
  if (!(request.headers["content-type"] ?? "").startsWith("application/json")) return "invalid_payload";
  const payload = JSON.parse(text) as { text?: string; blocks?: Block[] };
  if (payload.text === undefined || payload.text === "") return "no_text";
  const blocks = payload.blocks ?? [];
  if (blocks.length > 50) return "invalid_blocks";
  return blocks.map(blockFault).find((fault) => fault !== undefined);
}

function blockFault(block: Block): string | undefined {
  const [length, fields] = [block.text?.text.length ?? 0, block.fields ?? []];
  if (!["header", "section", "context"].includes(block.type)) return "invalid_blocks: type";
  if (length > (block.type === "header" ? 150 : 3000)) return `invalid_blocks: ${block.type}`;
  if (fields.length > 10 || fields.some(({ text }) => text.length > 2000)) return "invalid_blocks: fields";
  return textsOf(block).includes("") ? "invalid_blocks: empty text" : undefined;
}

function textsOf({ text, fields = [], elements = [] }: Block): readonly string[] {
  return [...(text === undefined ? [] : [text]), ...fields, ...elements].map((part) => part.text);
}

itIsAnAlertChannel("slack", async (): Promise<ChannelStage> => {
  const hook = await startHook();
  let isOpen = true;
  const leave = async (): Promise<void> => {
    if (isOpen) await hook.close();
    isOpen = false;
  };
  const answers = {
    well: undefined,
    busy: { status: 503, body: "service_unavailable" },
    refuse: { status: 400, body: "invalid_payload" },
    hang: "hang",
  } as const;
  return {
    channel: slackChannel({ name: "ops", webhook: new Secret(hook.url) }),
    received: () => Promise.resolve(hook.payloads.map((payload) => JSON.stringify(payload))),
    behave: (manner) => {
      hook.answer = answers[manner];
    },
    leave,
    close: leave,
  };
});

describe("slack", () => {
  let hook: Hook;
  beforeEach(async () => {
    hook = await startHook();
  });
  afterEach(async () => {
    await hook.close();
  });

  it("obeys Retry-After when Slack says that it is too much", async () => {
    hook.answer = { status: 429, body: "rate_limited", headers: { "retry-after": "17" } };
    const result = await slackChannel({ name: "ops", webhook: new Secret(hook.url) }).send(sampleMessage(), never);
    expect(result).to.include({ kind: "retry", retryAfterMs: 17_000 });
  });

  it("waits long when the webhook does not exist any more, and never shows its address", async () => {
    hook.answer = { status: 404, body: "no_service" };
    const result = await slackChannel({ name: "ops", webhook: new Secret(hook.url) }).send(sampleMessage(), never);
    expect(result).to.include({ kind: "retry", retryAfterMs: 1_800_000 });
    expect(JSON.stringify(result)).to.contain("no_service").and.not.contain("sEcReTpArT");
  });

  it("does not show its address when a proxy's refusal repeats the path", async () => {
    hook.answer = { status: 404, body: `Cannot POST ${new URL(hook.url).pathname}` };
    const result = await slackChannel({ name: "ops", webhook: new Secret(hook.url) }).send(sampleMessage(), never);
    expect(JSON.stringify(result)).to.contain("Cannot POST [secret]").and.not.contain("sEcReTpArT");
  });

  it("follows no redirect", async () => {
    let isFollowed = false;
    const other = createServer((_request, response) => {
      isFollowed = true;
      response.end("ok");
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    hook.answer = { status: 307, body: "", headers: { location: `http://127.0.0.1:${String(port)}/` } };
    const result = await slackChannel({ name: "ops", webhook: new Secret(hook.url) }).send(sampleMessage(), never);
    other.close();
    expect(result.kind).to.equal("retry");
    expect(isFollowed).to.equal(false);
  });

  it("lets no name mention a channel, make a link or break out of code", async () => {
    const evil = "<!channel> *bold* `code` <https://evil.example|click> & ```";
    const facts = [["file", `/srv/${evil}`]] as const;
    const message = sampleMessage({ subject: evil, summary: evil, facts, commands: [`rm ${evil}`] });
    const result = await slackChannel({ name: "ops", webhook: new Secret(hook.url) }).send(message, never);
    expect(result.kind).to.equal("delivered");
    const payload = hook.payloads[0] as { text: string; blocks: Block[] };
    expect(payload.text).to.not.match(/[<>]/);
    const markdown = payload.blocks
      .flatMap((block) => [block.text, ...(block.fields ?? [])])
      .filter((part) => part?.type === "mrkdwn")
      .map((part) => part?.text ?? "");
    for (const text of markdown) expect(text).to.not.match(/[<>]/);
    expect(markdown.find((text) => text.includes("/srv/"))).to.match(/^\*file\*\n`[^`]*`$/);
    expect(markdown.find((text) => text.includes("rm"))).to.match(/^```[^`]*```$/);
  });

  it("stays within Slack's limits however long everything is", async () => {
    const long = "ä".repeat(10_000);
    const facts = Array.from({ length: 60 }, (_, index) => [`label ${String(index)}`, long] as const);
    const commands = Array.from({ length: 50 }, () => long);
    const message = sampleMessage({ subject: long, summary: long, done: long, advice: long, facts, commands });
    const result = await slackChannel({ name: "ops", webhook: new Secret(hook.url) }).send(message, never);
    expect(result).to.deep.equal({ kind: "delivered" });
  });

  it("reads only the beginning of an endless answer", async () => {
    hook.answer = { status: 500, body: "x".repeat(5_000_000) };
    const result = await slackChannel({ name: "ops", webhook: new Secret(hook.url) }).send(sampleMessage(), never);
    expect(result.kind).to.equal("retry");
    expect(JSON.stringify(result).length).to.be.lessThan(1000);
  });

  it("refuses a webhook that is no https address, without showing it", () => {
    for (const wrong of ["http://hooks.slack.com/services/x", "hooks.slack.com/services/x", "file:///etc/passwd"])
      expect(() => slackChannel({ name: "ops", webhook: new Secret(wrong) }), wrong)
        .to.throw("no https address")
        .and.satisfy((error: unknown) => !String(error).includes(wrong));
  });
});
