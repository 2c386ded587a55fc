/** Calls to the API as the command line makes them: JSON, pages, lines, bytes, events and jobs, over any transport. */
import { HoldfastError } from "../base/errors.js";
import { errorOfProblem } from "./problems.js";
import type { DaemonEvent, JobDocument } from "./services.js";
import type { Transport, TransportRequest, TransportResponse } from "./transport.js";

const BASE = "/api/v1/backup";
/** One JSON answer is at most this big, bytes; lists are streamed instead. */
const ANSWER_BYTES_MAX = 256 * 2 ** 20;
const LINE_BYTES_MAX = 16 * 2 ** 20;
/** A question about a job that runs is answered after this time when it has not ended before, ms. */
const JOB_WAIT_MS = 500;

export class ApiClient {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** A JSON document. `path` counts from `/api/v1/backup` unless it is one of the others (`/metrics`, `/healthz`). */
  async get<T>(path: string, signal: AbortSignal): Promise<T> {
    return await this.#json<T>({ method: "GET", path }, signal);
  }

  async post<T>(path: string, body: unknown, signal: AbortSignal): Promise<T> {
    return await this.#json<T>({ method: "POST", path, body }, signal);
  }

  async patch<T>(path: string, body: unknown, signal: AbortSignal): Promise<T> {
    return await this.#json<T>({ method: "PATCH", path, body }, signal);
  }

  async delete<T>(path: string, signal: AbortSignal): Promise<T> {
    return await this.#json<T>({ method: "DELETE", path }, signal);
  }

  /** Text of an answer, such as `/metrics`. */
  async text(path: string, signal: AbortSignal): Promise<string> {
    return (await readAll(await this.#send({ method: "GET", path }, signal))).toString("utf8");
  }

  /** Every entry of a list, streamed. */
  async *lines<T>(path: string, signal: AbortSignal): AsyncIterable<T> {
    const answer = await this.#send({ method: "GET", path, headers: { accept: "application/x-ndjson" } }, signal);
    for await (const line of splitLines(answer.body)) yield JSON.parse(line) as T;
  }

  /** The bytes of an answer. */
  async bytes(path: string, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
    return (await this.#send({ method: "GET", path }, signal)).body;
  }

  /** Events after an id and then live. */
  async *events(afterId: number | undefined, signal: AbortSignal): AsyncIterable<DaemonEvent> {
    const headers = afterId === undefined ? {} : { "last-event-id": String(afterId) };
    const answer = await this.#send({ method: "GET", path: "/events", headers }, signal);
    for await (const line of splitLines(answer.body)) {
      if (line.startsWith("data: ")) yield JSON.parse(line.slice("data: ".length)) as DaemonEvent;
    }
  }

  /** Waits until a job has ended; calls back at each change. Throws the job's own error when it failed. */
  async waitForJob(
    job: JobDocument,
    signal: AbortSignal,
    onProgress?: (job: JobDocument) => void,
  ): Promise<JobDocument> {
    let current = job;
    while (current.state === "queued" || current.state === "running") {
      const path = `/jobs/${encodeURIComponent(job.id)}?wait_ms=${String(JOB_WAIT_MS)}`;
      current = await this.get<JobDocument>(path, signal);
      onProgress?.(current);
    }
    if (current.state === "cancelled") throw new HoldfastError("INTERRUPTED", `job ${job.id} was cancelled`);
    if (current.state !== "failed") return current;
    const { code, message, hint } = current.error ?? { code: "INTERNAL", message: "the job failed", hint: "" };
    throw errorOfProblem({ code, detail: message, ...(hint === "" ? {} : { hint }) }, 500);
  }

  async #json<T>(request: TransportRequest, signal: AbortSignal): Promise<T> {
    const bytes = await readAll(await this.#send(request, signal));
    return parseJson(bytes) as T;
  }

  async #send(request: TransportRequest, signal: AbortSignal): Promise<TransportResponse> {
    const isOther = /^\/(?:api|metrics|healthz|readyz|openapi\.json)/.test(request.path);
    const path = isOther ? request.path : `${BASE}${request.path}`;
    const answer = await this.#transport.send({ ...request, path }, signal);
    // A health answer is a document also when it is bad news.
    const isDocument = answer.headers["content-type"]?.startsWith("application/json") === true;
    if (answer.status < 300 || (answer.status === 503 && isDocument)) return answer;
    const bytes = await readAll(answer);
    throw errorOfProblem(isDocument || isProblem(answer) ? parseJson(bytes) : undefined, answer.status);
  }
}

function isProblem(answer: TransportResponse): boolean {
  return answer.headers["content-type"]?.startsWith("application/problem+json") === true;
}

async function readAll(answer: TransportResponse): Promise<Buffer> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of answer.body) {
    sizeBytes += part.length;
    if (sizeBytes > ANSWER_BYTES_MAX) throw new HoldfastError("LIMIT_REACHED", "the answer is larger than 256 MiB");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (error) {
    throw new HoldfastError("INTERNAL", "the daemon's answer is no JSON", { cause: error });
  }
}

async function* splitLines(body: AsyncIterable<Buffer>): AsyncIterable<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const part of body) {
    rest += decoder.decode(part, { stream: true });
    if (rest.length > LINE_BYTES_MAX) throw new HoldfastError("LIMIT_REACHED", "a line of the answer is too long");
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield line;
  }
  if (rest !== "") yield rest;
}
