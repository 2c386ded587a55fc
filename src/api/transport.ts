/**
 * How a request reaches the router: over the Unix socket of a daemon, or straight into a router of this process when
 * no daemon runs. The client and the command line know only this port.
 */

export interface TransportRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path with query, such as `/api/v1/backup/backups?limit=10`. */
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface TransportResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** The body as it comes; read it to its end or destroy it. */
  readonly body: AsyncIterable<Buffer>;
}

export interface Transport {
  /**
   * Sends one request. Resolves at the head of the answer, whatever its status; rejects with DAEMON_UNREACHABLE when
   * nobody answers, with TIMEOUT when the head does not come, and with INTERRUPTED on abort (the body then ends with
   * an error too). Not retried here.
   */
  send(request: TransportRequest, signal: AbortSignal): Promise<TransportResponse>;
}

/** Marks requests of this process; its value is random, and no connection can know it. */
export const IN_PROCESS_HEADER = "x-holdfast-in-process";
