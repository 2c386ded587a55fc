/**
 * The API's door for the daemon: builds the one router over the services, and serves it on the Unix socket and, when
 * configured, `/metrics` on a loopback port.
 */
import type { FastifyInstance } from "fastify";
import type { Clock } from "../base/clock.js";
import type { Observer, Secret } from "../base/observe.js";
import type { Services } from "./services.js";
import type { Transport } from "./transport.js";

export interface AccessOptions {
  /** Group whose members are `backup_operator`; undefined: none. */
  readonly group: string | undefined;
  /** What a local user who is neither root, nor the daemon's own user, nor in the group may do. */
  readonly others: "viewer" | "refuse";
}

export interface RouterOptions {
  readonly services: Services;
  readonly observer: Observer;
  readonly clock: Clock;
  readonly access: AccessOptions;
  /** For `/openapi.json`. */
  readonly version: string;
}

export type Router = FastifyInstance;

/** The router, ready to serve. Close it (`router.close()`) when it was not given to `ApiServer.start`. */
export declare function createRouter(options: RouterOptions): Promise<Router>;

/** Requests straight into a router of this process, as admin: for the command line without a daemon, and tests. */
export declare function inProcessTransport(router: Router): Transport;

export interface ListenOptions {
  readonly socketPath: string;
  /** Permission bits of the socket, such as 0o660. */
  readonly mode: number;
  /** Group of the socket; undefined: unchanged. */
  readonly group: string | undefined;
  /** A listening socket handed over by the service manager; `socketPath` is then not touched. */
  readonly activatedFd?: number;
  /** Loopback `host:port` that serves `/metrics`, `/healthz` and `/readyz` to bearers of the token. */
  readonly metrics?: { readonly listen: string; readonly token: Secret };
}

/** Serves a router until it is disposed; disposing waits for running requests, 10 s at most. */
export declare class ApiServer implements AsyncDisposable {
  /** Throws DAEMON_RUNNING when somebody answers on the socket; removes a stale one. */
  static start(router: Router, options: ListenOptions): Promise<ApiServer>;
  /** Port of the metrics listener, when there is one. */
  readonly metricsPort: number | undefined;
  [Symbol.asyncDispose](): Promise<void>;
}
