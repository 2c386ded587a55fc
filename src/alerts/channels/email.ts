/**
 * Alerts by email, with nodemailer. One connection per message, which the channel owns: an aborted delivery closes its
 * socket at once. A password is never sent over an unencrypted connection, except to this machine itself.
 */
import { type Socket, connect } from "node:net";
import { createTransport } from "nodemailer";
import { isoTime } from "../../base/clock.js";
import { HoldfastError, errnoOf, messageOf } from "../../base/errors.js";
import type { Secret } from "../../base/observe.js";
import type { AlertChannel, AlertMessage, DeliveryResult } from "../channel.js";
import { plainText, withoutSecrets } from "../text.js";

export const SMTP_SECURITIES = ["tls", "starttls", "opportunistic"] as const;
/** tls = from the start; starttls = upgraded or nothing is sent; opportunistic = upgraded when the server can. */
export type SmtpSecurity = (typeof SMTP_SECURITIES)[number];

export interface SmtpServer {
  readonly host: string;
  readonly port: number;
  readonly security: SmtpSecurity;
}

export interface EmailOptions {
  readonly name: string;
  readonly server: SmtpServer;
  readonly from: string;
  readonly to: readonly string[];
  readonly auth?: { readonly user: string; readonly password: Secret };
  /** Certificates (PEM) to trust instead of the system's, for a server with a certificate of its own. */
  readonly certificates?: string;
}

/** Greeting, commands and silence of a server, each; the whole attempt is limited by the delivery. */
const SMTP_STEP_TIMEOUT_MS = 20_000;
/** Wrong credentials do not become right by asking often, and servers lock accounts for it. */
const AUTH_RETRY_MS = 30 * 60_000;
const DEFAULT_PORTS: Readonly<Record<string, number>> = { "smtp:": 25, "smtps:": 465, "smtp+starttls:": 587 };
const SECURITY_OF: Readonly<Record<string, SmtpSecurity>> = {
  "smtp:": "opportunistic",
  "smtps:": "tls",
  "smtp+starttls:": "starttls",
};
const LOOPBACK = new Set(["localhost", "127.0.0.1", "::1", "[::1]"]);

/** `smtps://mail.example.org:465`, `smtp+starttls://…`, `smtp://…`. Throws CONFIG_INVALID, also for a password in it. */
export function parseSmtpUrl(text: string): SmtpServer {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const security = SECURITY_OF[url?.protocol ?? ""];
  if (url === undefined || security === undefined || url.hostname === "")
    throw new HoldfastError("CONFIG_INVALID", "the address of the mail server is no SMTP URL", {
      hint: "Write smtps://HOST, smtp+starttls://HOST or smtp://HOST, with :PORT if it is not the usual one.",
    });
  if (url.username !== "" || url.password !== "")
    throw new HoldfastError("CONFIG_INVALID", "the address of the mail server holds a user or password", {
      hint: "Give `user` and `password` beside `smtp`, the password as {file: …} or {credential: …}.",
    });
  const port = url.port === "" ? (DEFAULT_PORTS[url.protocol] ?? 25) : Number(url.port);
  return { host: url.hostname.replace(/^\[|\]$/g, ""), port, security };
}

/** A channel that sends mail. Throws CONFIG_INVALID when there is no receiver. */
export function emailChannel(options: EmailOptions): AlertChannel {
  if (options.to.length === 0)
    throw new HoldfastError("CONFIG_INVALID", `the email channel ${options.name} has no receiver`, {
      hint: "Add at least one address under `to`.",
    });
  return {
    name: options.name,
    kind: "email",
    send: async (message, signal) => await sendMail(options, message, signal),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function sendMail(options: EmailOptions, message: AlertMessage, signal: AbortSignal): Promise<DeliveryResult> {
  if (signal.aborted) return { kind: "retry", reason: "interrupted" };
  let socket: Socket | undefined;
  const close = (): void => void socket?.destroy();
  signal.addEventListener("abort", close, { once: true });
  try {
    const transport = createTransport({
      ...connectionOptions(options),
      getSocket: (_options, callback) => {
        socket = openSocket(options.server, signal, callback);
      },
    });
    const sent = await transport.sendMail(mailOf(options, message));
    if (sent.rejected.length === 0) return { kind: "delivered" };
    return { kind: "delivered", note: `refused for ${String(sent.rejected.length)} of ${String(options.to.length)}` };
  } catch (error) {
    return isAborted(signal) ? { kind: "retry", reason: "interrupted" } : failureOf(error, secretsOf(options));
  } finally {
    signal.removeEventListener("abort", close);
    socket?.destroy();
  }
}

function connectionOptions({ server, auth, certificates }: EmailOptions) {
  return {
    host: server.host,
    port: server.port,
    secure: server.security === "tls",
    requireTLS: server.security === "starttls" || (auth !== undefined && !LOOPBACK.has(server.host)),
    greetingTimeout: SMTP_STEP_TIMEOUT_MS,
    socketTimeout: SMTP_STEP_TIMEOUT_MS,
    disableFileAccess: true,
    disableUrlAccess: true,
    tls: { minVersion: "TLSv1.2" as const, ...(certificates === undefined ? {} : { ca: certificates }) },
    ...(auth === undefined ? {} : { auth: { user: auth.user, pass: auth.password.reveal() } }),
  };
}

function openSocket(
  server: SmtpServer,
  signal: AbortSignal,
  callback: (error: Error | null, options: { connection: Socket } | undefined) => void,
): Socket {
  const socket = connect({ host: server.host, port: server.port });
  const failed = (error: Error): void => callback(error, undefined);
  socket.setTimeout(SMTP_STEP_TIMEOUT_MS, () => {
    socket.destroy(new Error(`no connection within ${String(SMTP_STEP_TIMEOUT_MS / 1000)} s`));
  });
  socket.once("error", failed);
  socket.once("close", () => failed(new Error(signal.aborted ? "interrupted" : "connection closed")));
  socket.once("connect", () => {
    socket.removeListener("error", failed);
    socket.removeAllListeners("close");
    socket.setTimeout(0);
    socket.removeAllListeners("timeout");
    callback(null, { connection: socket });
  });
  return socket;
}

function mailOf(options: EmailOptions, message: AlertMessage) {
  const domain = message.host.replace(/[^A-Za-z0-9.-]/g, "-") || "localhost";
  const threadId = `<${message.thread}@${domain}.holdfast>`;
  return {
    from: options.from,
    to: [...options.to],
    subject: message.subject,
    text: bodyOf(message),
    date: new Date(message.createdAtMs),
    messageId: `<${message.id}@${domain}.holdfast>`,
    references: threadId,
    inReplyTo: threadId,
    headers: {
      "Auto-Submitted": "auto-generated",
      "X-Holdfast-Condition": message.condition,
      "X-Holdfast-Severity": message.severity,
      "X-Holdfast-State": message.state,
    },
    ...(message.severity === "critical" ? { priority: "high" as const } : {}),
  };
}

function bodyOf(message: AlertMessage): string {
  const width = Math.max(0, ...message.facts.map(([label]) => label.length));
  const parts = [
    message.summary,
    message.facts.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`).join("\n"),
    message.done === "" ? "" : `What holdfast did: ${message.done}`,
    message.advice === "" ? "" : `What to do: ${message.advice}`,
    message.commands.map((command) => `    ${command}`).join("\n"),
    `-- \nholdfast on ${message.host}, ${isoTime(message.createdAtMs)}`,
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

/** Asked anew: the compiler believes that what was false before an await is false after it. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}

/** The password in the forms in which SMTP sends it; a server may repeat them in its refusal. */
function secretsOf({ auth }: EmailOptions): readonly string[] {
  if (auth === undefined) return [];
  const password = auth.password.reveal();
  const encoded = [password, `\0${auth.user}\0${password}`].map((text) => Buffer.from(text).toString("base64"));
  return [password, ...encoded];
}

/** 4xx and a closed way: later. 5xx about this message or its receivers: not like this. */
function failureOf(error: unknown, secrets: readonly string[]): DeliveryResult {
  const reason = plainText(withoutSecrets(messageOf(error), secrets), 300);
  const code = errnoOf(error);
  if (code === "EAUTH" || code === "ENOAUTH") return { kind: "retry", reason, retryAfterMs: AUTH_RETRY_MS };
  const status = responseCodeOf(error);
  if ((code === "EENVELOPE" || code === "EMESSAGE") && status !== undefined && status >= 500)
    return { kind: "rejected", reason };
  return { kind: "retry", reason };
}

function responseCodeOf(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("responseCode" in error)) return undefined;
  return typeof error.responseCode === "number" ? error.responseCode : undefined;
}
