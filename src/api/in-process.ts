/** Requests straight into a router of this process, as admin: for the command line without a daemon, and for tests. */
import { HoldfastError } from "../base/errors.js";
import type { Router } from "./router.js";
import { IN_PROCESS_HEADER, type Transport, type TransportRequest, type TransportResponse } from "./transport.js";

/** A transport that needs no socket. */
export function inProcessTransport(router: Router): Transport {
  return {
    async send(request: TransportRequest, signal: AbortSignal): Promise<TransportResponse> {
      signal.throwIfAborted();
      const hasBody = request.body !== undefined;
      const answer = await router.http.inject({
        method: request.method,
        url: request.path,
        headers: {
          ...request.headers,
          ...(hasBody ? { "content-type": "application/json" } : {}),
          [IN_PROCESS_HEADER]: router.inProcessKey,
        },
        ...(hasBody ? { payload: JSON.stringify(request.body) } : {}),
        payloadAsStream: true,
        signal: ownSignal(signal),
      });
      const headers: Record<string, string | undefined> = {};
      for (const [name, value] of Object.entries(answer.headers)) headers[name] = String(value);
      return { status: answer.statusCode, headers, body: bodyOf(answer.stream(), signal) };
    },
  };
}

/** One that is given up with its request: each request leaves listeners on the signal that it gets. */
function ownSignal(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal]);
}

async function* bodyOf(stream: AsyncIterable<unknown>, signal: AbortSignal): AsyncIterable<Buffer> {
  for await (const part of stream) {
    if (signal.aborted) throw new HoldfastError("INTERRUPTED", "interrupted");
    yield Buffer.isBuffer(part) ? part : Buffer.from(String(part));
  }
}
