/** Requests over the Unix socket of a daemon, with node:http alone so that a short command starts fast. */
import { type IncomingMessage, request as httpRequest } from "node:http";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import type { Transport, TransportRequest, TransportResponse } from "./transport.js";

/** The head of an answer must come within this time. */
const HEAD_TIMEOUT_MS = 60_000;

/** A transport to the daemon that listens on a socket. */
export function socketTransport(socketPath: string): Transport {
  return {
    async send(request: TransportRequest, signal: AbortSignal): Promise<TransportResponse> {
      const answer = await sendOne(socketPath, request, signal);
      const headers: Record<string, string | undefined> = {};
      for (const [name, value] of Object.entries(answer.headers)) {
        headers[name] = Array.isArray(value) ? value.join(", ") : value;
      }
      return { status: answer.statusCode ?? 0, headers, body: answer };
    },
  };
}

async function sendOne(socketPath: string, request: TransportRequest, signal: AbortSignal): Promise<IncomingMessage> {
  signal.throwIfAborted();
  const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
  return await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = httpRequest({
      socketPath,
      method: request.method,
      path: request.path,
      signal,
      agent: false,
      headers: {
        host: "localhost",
        ...request.headers,
        ...(body === undefined ? {} : { "content-type": "application/json", "content-length": body.length }),
      },
    });
    outgoing.setTimeout(HEAD_TIMEOUT_MS, () => {
      outgoing.destroy(new HoldfastError("TIMEOUT", `no answer on ${socketPath} within ${HEAD_TIMEOUT_MS / 1000} s`));
    });
    outgoing.once("response", (answer) => {
      outgoing.setTimeout(0);
      resolve(answer);
    });
    outgoing.once("error", (error) => reject(asTransportError(error, socketPath, signal)));
    outgoing.end(body);
  });
}

const SILENT = new Set(["ENOENT", "ECONNREFUSED", "ENOTSOCK", "ECONNRESET", "EPIPE"]);

function asTransportError(error: Error, socketPath: string, signal: AbortSignal): HoldfastError {
  if (error instanceof HoldfastError) return error;
  if (signal.aborted) return new HoldfastError("INTERRUPTED", "interrupted", { cause: error });
  const errno = errnoOf(error) ?? "";
  if (errno === "EACCES") {
    return new HoldfastError("PERMISSION_DENIED", `this account may not open the socket ${socketPath}`, {
      cause: error,
      hint: "Use sudo, or join the group that access.socket.group names.",
    });
  }
  const why = SILENT.has(errno) ? `no daemon answers on ${socketPath}` : `${socketPath}: ${messageOf(error)}`;
  return new HoldfastError("DAEMON_UNREACHABLE", why, { cause: error });
}
