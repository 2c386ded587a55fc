/**
 * Serves the router: on the Unix socket, and `/metrics` for Prometheus on a loopback port when that is configured.
 * The socket is never open wider than it should be, not for a moment; a stale one is replaced only when nobody
 * answers on it.
 */
import { timingSafeEqual } from "node:crypto";
import { chmod, chown, lstat, stat, unlink } from "node:fs/promises";
import { type Server, createServer } from "node:http";
import { connect } from "node:net";
import { dirname } from "node:path";
import { findGroup } from "../base/accounts.js";
import { systemClock } from "../base/clock.js";
import { deferred } from "../base/concurrency.js";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import { ResourceStack } from "../base/lifecycle.js";
import { makeFolders } from "../base/make-folders.js";
import { nativeCalls } from "../base/native.js";
import type { Secret } from "../base/observe.js";
import { type AccessOptions, unixJudge } from "./access.js";
import { API_LIMITS } from "./contract.js";
import type { Router } from "./router.js";
import { IN_PROCESS_HEADER } from "./transport.js";

export type { AccessOptions } from "./access.js";

/** Requests that run when the server closes may take this long. */
const CLOSE_TIMEOUT_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;
/** The longest path that the kernel's address structure holds. */
const SOCKET_PATH_BYTES_MAX = 107;

export interface ListenOptions {
  readonly socketPath: string;
  /** Permission bits of the socket, such as 0o660. */
  readonly mode: number;
  readonly access: AccessOptions;
  /** A listening socket handed over by the service manager; `socketPath` is then not touched. */
  readonly activatedFd?: number;
  /** Loopback `host:port` that serves `/metrics`, `/healthz` and `/readyz` to bearers of the token. */
  readonly metrics?: { readonly listen: string; readonly token: Secret };
}

/** Serves a router until it is disposed; disposing waits for running requests, 10 s at most. */
export class ApiServer implements AsyncDisposable {
  readonly #stack: ResourceStack;
  /** Port of the metrics listener, when there is one. */
  readonly metricsPort: number | undefined;

  private constructor(stack: ResourceStack, metricsPort: number | undefined) {
    this.#stack = stack;
    this.metricsPort = metricsPort;
  }

  /** Throws DAEMON_RUNNING when somebody answers on the socket, CONFIG_INVALID for an unknown group or a long path. */
  static async start(router: Router, options: ListenOptions): Promise<ApiServer> {
    await using stack = new ResourceStack();
    stack.defer(async () => await router.http.close());
    const { server } = router.http;
    server.maxConnections = API_LIMITS.connectionsMax;
    // Before it listens: on a socket that the service manager opened, somebody may be waiting already.
    const { mode, group } = await openingOf(options);
    const access = { ...options.access, group: options.access.group ?? group };
    router.judgeBy(unixJudge(access, { mode }, nativeCalls()));
    await listenOnSocket(server, options);
    stack.defer(async () => {
      router.endStreams();
      await closeServer(server);
    });
    let port: number | undefined;
    if (options.metrics !== undefined) {
      const metrics = metricsServer(router, options.metrics.token);
      port = await listenOnPort(metrics, options.metrics.listen);
      stack.defer(async () => await closeServer(metrics));
    }
    return new ApiServer(stack.move(), port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

/** To whom the socket is open. */
interface Opening {
  /** Permission bits that the socket has, or gets right after it is bound. */
  readonly mode: number;
  /** Number of the group that the service manager opened it to; undefined: none. */
  readonly group: string | undefined;
}

async function openingOf(options: ListenOptions): Promise<Opening> {
  const own = { mode: options.mode, group: undefined };
  return options.activatedFd === undefined ? own : ((await openedTo(options.socketPath)) ?? own);
}

async function listenOnSocket(server: Server, options: ListenOptions): Promise<void> {
  if (options.activatedFd !== undefined) {
    await listening(server, () => server.listen({ fd: options.activatedFd }));
    return;
  }
  const path = options.socketPath;
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new HoldfastError("CONFIG_INVALID", `the socket path ${path} is longer than ${SOCKET_PATH_BYTES_MAX} bytes`, {
      hint: "Choose a shorter one with --socket or HOLDFAST_SOCKET.",
    });
  }
  await makeFolders(dirname(path), 0o755);
  await removeStale(path);
  // Bound with 0600 and widened afterwards, so that it is never open to more people than it should be.
  const umask = process.umask(0o177);
  let bound: Promise<void>;
  try {
    bound = listening(server, () => server.listen({ path }));
  } finally {
    process.umask(umask);
  }
  await bound;
  await giveToGroup(path, options.access.group);
  await chmod(path, options.mode);
}

/** To whom the service manager opened its socket: `SocketMode=` and `SocketGroup=`; root's own group is nobody. */
async function openedTo(path: string): Promise<Opening | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  const isOpen = found.gid !== 0 && (found.mode & 0o060) === 0o060;
  return { mode: found.mode & 0o777, group: isOpen ? String(found.gid) : undefined };
}

async function giveToGroup(path: string, group: string | undefined): Promise<void> {
  if (group === undefined) return;
  const found = findGroup(group);
  if (found === undefined) {
    throw new HoldfastError("CONFIG_INVALID", `access.socket.group: there is no group "${group}"`, {
      hint: `Make it with: groupadd --system ${group}`,
    });
  }
  await chown(path, -1, found.gid).catch((error: unknown) => {
    const why = `the socket cannot be given to group ${group}: ${messageOf(error)}`;
    throw new HoldfastError("PERMISSION_DENIED", why, {
      cause: error,
      hint: "Run the daemon as a member of the group.",
    });
  });
}

async function listening(server: Server, start: () => void): Promise<void> {
  const { promise, resolve, reject } = deferred<undefined>();
  const fail = (error: Error): void => {
    const code = errnoOf(error) === "EADDRINUSE" ? "DAEMON_RUNNING" : "PERMISSION_DENIED";
    reject(new HoldfastError(code, `cannot listen: ${error.message}`, { cause: error }));
  };
  server.once("error", fail);
  server.once("listening", () => {
    server.off("error", fail);
    resolve(undefined);
  });
  start();
  await promise;
}

/** Removes a socket that nobody answers on. Anything that is no socket stays and is an error. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new HoldfastError("TARGET_EXISTS", `${path} exists and is no socket`, {
      hint: "Remove it, or choose another place with --socket.",
    });
  }
  if (await answers(path)) throw new HoldfastError("DAEMON_RUNNING", `a daemon answers on ${path} already`);
  await unlink(path);
}

async function answers(path: string): Promise<boolean> {
  const { promise, resolve } = deferred<boolean>();
  const probe = connect(path);
  const timer = systemClock.after(PROBE_TIMEOUT_MS, () => resolve(true)); // it hangs, so somebody holds it
  probe.once("connect", () => resolve(true));
  probe.once("error", (error) => resolve(errnoOf(error) === "EACCES" || errnoOf(error) === "EAGAIN"));
  const outcome = await promise;
  timer.cancel();
  probe.destroy();
  return outcome;
}

async function listenOnPort(server: Server, listen: string): Promise<number> {
  const cut = listen.lastIndexOf(":");
  const host = listen.slice(0, cut).replace(/^\[|\]$/g, "");
  await listening(server, () => server.listen({ host, port: Number(listen.slice(cut + 1)) }));
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

const METRICS_PATHS = new Set(["/metrics", "/healthz", "/readyz"]);

/** A small listener that serves three paths of the router to whoever brings the token. */
function metricsServer(router: Router, token: Secret): Server {
  const server = createServer(
    {
      maxHeaderSize: API_LIMITS.headerBytesMax,
      headersTimeout: API_LIMITS.headersTimeoutMs,
      requestTimeout: API_LIMITS.requestTimeoutMs,
      keepAliveTimeout: API_LIMITS.keepAliveTimeoutMs,
    },
    (request, response) => {
      const path = request.url?.split("?")[0] ?? "";
      const refuse = (status: number): void => {
        response.writeHead(status, { "content-type": "text/plain", connection: "close" }).end();
      };
      if (!isBearer(request.headers.authorization, token)) refuse(401);
      else if (request.method !== "GET" || !METRICS_PATHS.has(path)) refuse(404);
      else {
        router.http
          .inject({ method: "GET", url: path, headers: { [IN_PROCESS_HEADER]: router.inProcessKey } })
          .then((answer) => {
            response.writeHead(answer.statusCode, { "content-type": String(answer.headers["content-type"]) });
            response.end(answer.rawPayload);
          })
          .catch(() => refuse(500));
      }
    },
  );
  server.maxConnections = API_LIMITS.connectionsMax;
  return server;
}

function isBearer(header: string | undefined, token: Secret): boolean {
  const given = Buffer.from(header?.replace(/^Bearer /i, "") ?? "");
  const wanted = Buffer.from(token.reveal());
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

/** Stops listening, lets running requests end, then closes what is left. */
async function closeServer(server: Server): Promise<void> {
  const { promise, resolve } = deferred<undefined>();
  server.close(() => resolve(undefined));
  server.closeIdleConnections();
  const timer = systemClock.after(CLOSE_TIMEOUT_MS, () => server.closeAllConnections());
  await promise;
  timer.cancel();
}
