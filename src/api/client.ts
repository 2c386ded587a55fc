/** Calls to the API as the command line makes them: JSON, pages, streams, events and jobs, over any transport. */
import type { JobDocument } from "./services.js";
import type { Transport } from "./transport.js";

/** Over the daemon's Unix socket. */
export declare function socketTransport(socketPath: string): Transport;

export declare class ApiClient {
  constructor(transport: Transport);
  get<T>(path: string, signal: AbortSignal): Promise<T>;
  post<T>(path: string, body: unknown, signal: AbortSignal): Promise<T>;
  /** Waits for a job; calls back on each change. Throws the job's own error when it failed. */
  waitForJob(job: JobDocument, signal: AbortSignal, onProgress?: (job: JobDocument) => void): Promise<JobDocument>;
}
