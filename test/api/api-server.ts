/** A real API server on a real socket over fake services, and raw requests to it, for tests. */
import { type IncomingMessage, request } from "node:http";
import { createRouter, type Router, type WriteNote } from "../../src/api/router.js";
import { ApiServer, type ListenOptions } from "../../src/api/server.js";
import { systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import { type FakeServices, fakeServices } from "./fake-services.js";

export interface TestServer extends AsyncDisposable {
  readonly services: FakeServices;
  readonly router: Router;
  readonly server: ApiServer;
  readonly socketPath: string;
}

/** Serves fake services on `socketPath`; 0600 and nobody else unless told. */
export async function startServer(
  socketPath: string,
  options: Partial<ListenOptions> = {},
  onWrite: (write: WriteNote) => void = () => undefined,
): Promise<TestServer> {
  const services = fakeServices();
  const told = { observer: silentObserver, onWrite };
  const router = await createRouter({ services, ...told, clock: systemClock, version: "0.1.0" });
  const access = { group: undefined, others: "refuse" } as const;
  const server = await ApiServer.start(router, { socketPath, mode: 0o600, access, ...options });
  return { services, router, server, socketPath, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

export interface RawAnswer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
  json(): Record<string, unknown>;
}

export interface RawRequest {
  readonly method?: string;
  readonly path: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** One request as any HTTP client would send it. */
export async function send(socketPath: string, wanted: RawRequest): Promise<RawAnswer> {
  return await new Promise<RawAnswer>((resolve, reject) => {
    const outgoing = request(
      {
        socketPath,
        method: wanted.method ?? "GET",
        path: wanted.path,
        agent: false,
        headers: {
          host: "localhost",
          ...(wanted.body === undefined ? {} : { "content-type": "application/json" }),
          ...wanted.headers,
        },
      },
      (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (part: Buffer) => parts.push(part));
        answer.on("error", reject);
        answer.on("end", () => {
          const text = Buffer.concat(parts).toString("utf8");
          const json = (): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>;
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text, json });
        });
      },
    );
    outgoing.on("error", reject);
    outgoing.end(wanted.body);
  });
}
