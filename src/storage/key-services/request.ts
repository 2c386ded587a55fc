/** One HTTPS request to a key service: bounded in time and size, JSON in and out. What it carries is never logged. */
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import { HoldfastError, messageOf } from "../../base/errors.js";

const TIMEOUT_MS = 15_000;
const ANSWER_BYTES_MAX = 256 * 1024;

export interface ServiceRequest {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** Certificates of an authority of one's own, PEM; else the system's. */
  readonly ca?: string | undefined;
}

/** An address that a key may be sent to. Throws USAGE for anything but HTTPS, except on this machine itself. */
export function serviceUrl(address: string): URL {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const isHere = url !== undefined && ["localhost", "127.0.0.1", "[::1]"].includes(url.hostname);
  if (url?.protocol === "https:" || (url?.protocol === "http:" && isHere)) return url;
  throw new HoldfastError("USAGE", `"${address}" is no address of a key service`, { hint: "Use https://." });
}

/** Posts and gives the answer's fields. Throws KEY_SERVICE_FAILED with what the service said. */
export async function postJson(order: ServiceRequest, signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
  const { status, text } = await post(order, signal);
  const fields = parsed(text);
  if (status === 200 && fields !== undefined) return fields;
  const said = fields?.["message"] ?? fields?.["Message"] ?? fields?.["errors"] ?? fields?.["__type"] ?? "";
  throw failed(`${order.url.host} answered ${String(status)} ${JSON.stringify(said)}`);
}

/** A text that an answer must have. Throws KEY_SERVICE_FAILED. */
export function textField(fields: unknown, name: string): string {
  const value = typeof fields === "object" && fields !== null ? (fields as Record<string, unknown>)[name] : undefined;
  if (typeof value !== "string" || value === "") throw failed(`the answer has no ${name}`);
  return value;
}

async function post(order: ServiceRequest, signal: AbortSignal): Promise<{ status: number; text: string }> {
  const { url, headers, body, ca } = order;
  const options: RequestOptions & { ca?: string } = {
    method: "POST",
    headers: { ...headers, "content-length": String(Buffer.byteLength(body)) },
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    ...(ca === undefined ? {} : { ca }),
  };
  try {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const request = (url.protocol === "https:" ? httpsRequest : httpRequest)(url, options, resolve);
      request.on("error", reject);
      request.end(body);
    });
    return { status: answer.statusCode ?? 0, text: await textOf(answer) };
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof HoldfastError) throw error;
    throw failed(`${url.host} cannot be asked: ${messageOf(error)}`, error);
  }
}

async function textOf(answer: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    sizeBytes += part.length;
    if (sizeBytes > ANSWER_BYTES_MAX) throw failed("the answer is too long");
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

function failed(why: string, cause?: unknown): HoldfastError {
  return new HoldfastError("KEY_SERVICE_FAILED", `the key service failed: ${why}`, { cause });
}
