/**
 * The one router: turns the rows of `routes/` into HTTP. It judges the caller, checks shapes, keeps the limits, and
 * sends what a handler answers. The same router serves the Unix socket and callers in this process.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import * as formats from "ajv-formats";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { Clock } from "../base/clock.js";
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import type { Observer } from "../base/observe.js";
import { type Judge, requireLocalHost, requireRole } from "./access.js";
import { API_LIMITS } from "./contract.js";
import { IdempotencyMemory } from "./idempotency.js";
import { openApiDocument } from "./openapi.js";
import { pageOf } from "./paging.js";
import { problemOf } from "./problems.js";
import { type Answer, type Call, type Route, ok } from "./route.js";
import { auditRoutes } from "./routes/audit.js";
import { browseRoutes } from "./routes/browse.js";
import { dataRoutes } from "./routes/data.js";
import { observeRoutes } from "./routes/observe.js";
import { recoveryRoutes } from "./routes/recovery.js";
import { retentionRoutes } from "./routes/retention.js";
import { systemRoutes } from "./routes/system.js";
import { cbtRoutes } from "./routes/cbt.js";
import { upkeepRoutes } from "./routes/upkeep.js";
import { watchRoutes } from "./routes/watch.js";
import type { Caller, Services } from "./services.js";
import { IN_PROCESS_HEADER } from "./transport.js";

export interface RouterOptions {
  readonly services: Services;
  readonly observer: Observer;
  readonly clock: Clock;
  /** For `/openapi.json`. */
  readonly version: string;
  /** Told of every request that changed something, or was refused. Must not throw. */
  readonly onWrite?: (write: WriteNote) => void;
}

/** One request that changed something, or was refused. */
export interface WriteNote {
  readonly method: string;
  /** Without the query. */
  readonly url: string;
  readonly caller: string;
  readonly role: string;
  /** `done`, `accepted` where a job does it, or the code of the error. */
  readonly outcome: string;
  /** Id of the job that was accepted. */
  readonly job?: string;
  /** As it was checked; may hold secrets. Undefined where the request was refused before. */
  readonly body: unknown;
}

export interface Router {
  readonly http: FastifyInstance;
  /** Value of `IN_PROCESS_HEADER` that makes a request an admin's. */
  readonly inProcessKey: string;
  /** From now on connections are judged by it; without one every connection is refused. */
  judgeBy(judge: Judge): void;
  /** Ends every event stream, so that closing need not wait for their readers. */
  endStreams(): void;
}

/** The router, ready to serve. */
export async function createRouter(options: RouterOptions): Promise<Router> {
  const closing = new AbortController();
  const table = allRoutes(options, closing.signal);
  const http = Fastify({
    logger: false,
    bodyLimit: API_LIMITS.bodyBytesMax,
    requestTimeout: API_LIMITS.requestTimeoutMs,
    keepAliveTimeout: API_LIMITS.keepAliveTimeoutMs,
    connectionTimeout: API_LIMITS.idleTimeoutMs,
    routerOptions: { maxParamLength: API_LIMITS.pathCharsMax },
    exposeHeadRoutes: false,
    http: { maxHeaderSize: API_LIMITS.headerBytesMax, headersTimeout: API_LIMITS.headersTimeoutMs },
  });
  const state = new RouterState(options);
  http.setValidatorCompiler(({ schema, httpPart }) =>
    compiledOnUse(() => (httpPart === "querystring" ? lenient : strict).compile(schema)),
  );
  http.addHook("onRequest", (request, _reply, done) => {
    state.admit(request);
    done();
  });
  http.setErrorHandler((error, request, reply) => {
    state.tellRefused(error, request);
    return state.sendProblem(error, request, reply);
  });
  http.setNotFoundHandler((request, reply) => state.sendNotFound(table, request, reply));
  allowEmptyJson(http);
  for (const route of table) addRoute(http, route, state);
  await http.ready();
  return {
    http,
    inProcessKey: state.inProcessKey,
    judgeBy: (judge) => state.judgeBy(judge),
    endStreams: () => closing.abort(),
  };
}

/** The schemas are our own, and a test looks at each: they are not checked again at every start. */
const ajvOptions = { allErrors: false, strict: false, useDefaults: true, validateSchema: false } as const;
const strict = formats.default.default(new Ajv(ajvOptions));
/** Queries are text: `limit=10` is a number there. */
const lenient = formats.default.default(new Ajv({ ...ajvOptions, coerceTypes: true }));

/** Compiled when the first request comes: all of them take a fifth of a second, and a command asks one route or two. */
function compiledOnUse(compile: () => ValidateFunction): (data: unknown) => boolean {
  let validate: ValidateFunction | undefined;
  const check = (data: unknown): boolean => {
    validate ??= compile();
    const isValid = validate(data);
    checked.errors = validate.errors;
    return isValid;
  };
  // Fastify reads the errors off the function, as ajv's own have them.
  const checked: typeof check & { errors: ErrorObject[] | null | undefined } = Object.assign(check, { errors: null });
  return checked;
}

function allRoutes(options: RouterOptions, closing: AbortSignal): readonly Route[] {
  const table = [
    ...dataRoutes,
    ...retentionRoutes,
    ...upkeepRoutes,
    ...cbtRoutes,
    ...browseRoutes,
    ...watchRoutes,
    ...recoveryRoutes,
    ...systemRoutes,
    ...auditRoutes,
    ...observeRoutes(options.clock, closing),
  ] as const;
  const document: Route = {
    method: "GET",
    path: "/openapi.json",
    role: "viewer",
    summary: "This interface, described.",
    handle: () => ok(openApiDocument([...table, document], options.version)),
  };
  return [...table, document];
}

/** An empty body with a JSON content type is no body, as curl users expect. */
function allowEmptyJson(http: FastifyInstance): void {
  http.removeContentTypeParser(["application/json", "text/plain"]);
  http.addContentTypeParser("application/json", { parseAs: "string" }, (_request, text, done) => {
    if (text.length === 0) {
      done(null, undefined);
      return;
    }
    try {
      done(null, JSON.parse(text.toString()));
    } catch {
      done(new HoldfastError("USAGE", "the body is no JSON"));
    }
  });
}

function addRoute(http: FastifyInstance, route: Route, state: RouterState): void {
  const schema = {
    ...(route.query === undefined ? {} : { querystring: route.query }),
    ...(route.body === undefined ? {} : { body: route.body }),
  };
  for (const url of [route.path, ...(route.aliases ?? [])]) {
    http.route({
      method: route.method,
      url,
      schema,
      // A request without a body is checked as an empty mapping.
      preValidation: (request, _reply, done) => {
        if (route.body !== undefined && request.body === undefined) request.body = {};
        done();
      },
      handler: async (request, reply) => await state.serve(route, request, reply),
    });
  }
}

class RouterState {
  readonly inProcessKey = randomBytes(32).toString("hex");
  readonly #options: RouterOptions;
  readonly #memory: IdempotencyMemory;
  readonly #callers = new WeakMap<FastifyRequest, Caller>();
  /** One judgment a connection. */
  readonly #judged = new WeakMap<Socket, { readonly caller: Caller | undefined }>();
  /** Requests that were told already. */
  readonly #told = new WeakSet<FastifyRequest>();
  #judge: Judge = () => undefined;

  constructor(options: RouterOptions) {
    this.#options = options;
    this.#memory = new IdempotencyMemory(options.clock);
  }

  judgeBy(judge: Judge): void {
    this.#judge = judge;
  }

  /** Decides who asks, before anything else is read. */
  admit(request: FastifyRequest): void {
    const key = request.headers[IN_PROCESS_HEADER];
    if (typeof key === "string" && this.#isInProcess(key)) {
      this.#callers.set(request, { role: "admin", name: "this process" });
      return;
    }
    requireLocalHost(request.headers);
    const caller = this.#judgeOnce(request.raw.socket);
    requireRole(caller, "viewer");
    this.#callers.set(request, caller);
  }

  #isInProcess(key: string): boolean {
    const given = Buffer.from(key);
    const ours = Buffer.from(this.inProcessKey);
    return given.length === ours.length && timingSafeEqual(given, ours);
  }

  #judgeOnce(socket: Socket): Caller | undefined {
    const known = this.#judged.get(socket);
    if (known !== undefined) return known.caller;
    const caller = this.#judge(socket);
    this.#judged.set(socket, { caller });
    return caller;
  }

  /** Runs a route's handler and sends its answer. */
  async serve(route: Route, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const startedMs = this.#options.clock.monotonicMs();
    const caller = this.#callers.get(request);
    this.#requireRole(route, caller, request);
    const gone = new AbortController();
    reply.raw.on("close", () => gone.abort(new HoldfastError("INTERRUPTED", "the caller went away")));
    const call: Call = {
      services: this.#options.services,
      caller,
      params: request.params as Readonly<Record<string, string>>,
      query: request.query,
      body: request.body ?? undefined,
      headers: request.headers,
      nowMs: this.#options.clock.nowMs(),
      signal: gone.signal,
    };
    const answer = await this.#answerNoted(route, call, request);
    if (route.method !== "GET") this.#note(route, caller, startedMs);
    return await send(answer, request, reply);
  }

  #requireRole(route: Route, caller: Caller | undefined, request: FastifyRequest): asserts caller is Caller {
    try {
      requireRole(caller, route.role);
    } catch (error) {
      this.#tellWrite(route, caller, request, { outcome: asHoldfastError(error).code });
      throw error;
    }
  }

  /** The answer; a request that changes something is told, however it ends. */
  async #answerNoted(route: Route, call: Call, request: FastifyRequest): Promise<Answer> {
    if (route.method === "GET") return await this.#answer(route, call, request);
    try {
      const answer = await this.#answer(route, call, request);
      this.#tellWrite(route, call.caller, request, outcomeOf(answer));
      return answer;
    } catch (error) {
      this.#tellWrite(route, call.caller, request, { outcome: asHoldfastError(error).code });
      throw error;
    }
  }

  #tellWrite({ method }: Route, caller: Caller | undefined, request: FastifyRequest, outcome: Outcome): void {
    this.#tell(request, { method, caller, ...outcome, body: request.body });
  }

  /** Tells of what no route came to tell: a caller or a host that is not let in, a body that is not as it must be. */
  tellRefused(error: unknown, request: FastifyRequest): void {
    if (this.#told.has(request)) return;
    const { method } = request;
    const { code: outcome } = asHoldfastError(asProblem(error).thrown);
    if (method === "GET" && outcome !== "PERMISSION_DENIED") return;
    this.#tell(request, { method, caller: this.#callers.get(request), outcome, body: undefined });
  }

  #tell(
    request: FastifyRequest,
    { caller, ...told }: Omit<WriteNote, "url" | "caller" | "role"> & { readonly caller: Caller | undefined },
  ): void {
    this.#told.add(request);
    const url = (request.url.split("?")[0] ?? "").slice(0, 300);
    const { name, role } = caller ?? { name: "unknown", role: "none" };
    this.#options.onWrite?.({ ...told, url, caller: name, role });
  }

  async #answer(route: Route, call: Call, request: FastifyRequest): Promise<Answer> {
    const key = request.headers["idempotency-key"];
    if (route.method !== "POST" || typeof key !== "string") return await route.handle(call);
    const scope = `${call.caller.name}\0${key}`;
    return await this.#memory.run(scope, [request.url, request.body], async () => await route.handle(call));
  }

  #note(route: Route, caller: Caller, startedMs: number): void {
    this.#options.observer.log.info("api.write", {
      method: route.method,
      route: route.path,
      caller: caller.name,
      role: caller.role,
      duration_ms: Math.round(this.#options.clock.monotonicMs() - startedMs),
    });
  }

  async sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { thrown, status } = asProblem(error);
    const problem = problemOf(thrown, status);
    if (problem.status >= 500) {
      this.#options.observer.log.warn("api.failed", {
        method: request.method,
        route: request.routeOptions.url ?? "",
        code: problem.code,
        message: problem.detail,
      });
    }
    return await reply.code(problem.status).header("content-type", "application/problem+json").send(problem);
  }

  async sendNotFound(table: readonly Route[], request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const path = request.url.split("?")[0] ?? "";
    const allowed = table
      .filter((route) => [route.path, ...(route.aliases ?? [])].some((pattern) => fits(pattern, path)))
      .map((route) => route.method);
    if (allowed.length === 0) {
      const error = new HoldfastError("NOT_FOUND", `there is no ${path.slice(0, 200)}`, { hint: "See /openapi.json." });
      return await this.sendProblem(error, request, reply);
    }
    const methods = [...new Set(allowed)].join(", ");
    void reply.header("allow", methods);
    const error = new HoldfastError("USAGE", `${request.method} is not possible here`, { hint: `Use ${methods}.` });
    const problem = problemOf(error, 405);
    return await reply.code(405).header("content-type", "application/problem+json").send(problem);
  }
}

type Outcome = Pick<WriteNote, "outcome" | "job">;

function outcomeOf(answer: Answer): Outcome {
  const job = answer.kind === "document" ? answer.job : undefined;
  return job === undefined ? { outcome: "done" } : { outcome: "accepted", job };
}

function fits(pattern: string, path: string): boolean {
  const wanted = pattern.split("/");
  const given = path.split("/");
  return wanted.length === given.length && wanted.every((part, index) => part.startsWith(":") || part === given[index]);
}

interface FrameworkError {
  readonly statusCode?: number;
  readonly message: string;
  readonly validation?: readonly {
    readonly instancePath: string;
    readonly message?: string;
    readonly params: object;
  }[];
  readonly validationContext?: string;
}

/** What ajv's message leaves out: the words that are possible, and the key that is too much. */
function whatElse(params: object = {}): string {
  const { allowedValues, additionalProperty } = params as Readonly<Record<string, unknown>>;
  const words = Array.isArray(allowedValues) ? allowedValues.map(String) : [additionalProperty];
  const told = words.filter((word) => typeof word === "string");
  return told.length === 0 ? "" : ` (${told.join(", ")})`;
}

/** Errors of the framework (shapes, sizes) as ours; ours pass. */
function asProblem(error: unknown): { readonly thrown: HoldfastError; readonly status: number | undefined } {
  if (error instanceof HoldfastError) return { thrown: error, status: undefined };
  const { statusCode, validation, validationContext, message } = error as FrameworkError;
  if (validation !== undefined) {
    const first = validation[0];
    const where = `${validationContext ?? "request"}${(first?.instancePath ?? "").replaceAll("/", ".")}`;
    const detail = `${where} ${first?.message ?? "does not fit"}${whatElse(first?.params)}`;
    return { thrown: new HoldfastError("USAGE", detail, { hint: "See /openapi.json." }), status: 400 };
  }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return { thrown: new HoldfastError(statusCode === 413 ? "LIMIT_REACHED" : "USAGE", message), status: statusCode };
  }
  return { thrown: asHoldfastError(error), status: undefined };
}

async function send(answer: Answer, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  void reply.header("cache-control", "no-store").header("x-content-type-options", "nosniff");
  switch (answer.kind) {
    case "document":
      for (const [name, value] of Object.entries(answer.headers ?? {})) void reply.header(name, value);
      return await reply.code(answer.status).send(answer.body);
    case "text":
      return await reply
        .code(answer.status ?? 200)
        .header("content-type", answer.contentType)
        .send(answer.body);
    case "bytes":
      return await reply.header("content-type", answer.contentType).send(Readable.from(answer.parts));
    case "list":
      if (request.headers.accept?.includes("application/x-ndjson") === true) {
        return await reply.header("content-type", "application/x-ndjson").send(Readable.from(jsonLines(answer.items)));
      }
      return await reply.send(await pageOf(answer.items, request.query as { limit?: number; cursor?: string }));
  }
}

/** Lines are sent in parts of about this many characters: a write for each line would cost more than the line. */
const LINES_PART_CHARS = 32 * 2 ** 10;

async function* jsonLines(items: AsyncIterable<unknown> | Iterable<unknown>): AsyncIterable<string> {
  let part = "";
  for await (const item of items) {
    part += `${JSON.stringify(item)}\n`;
    if (part.length < LINES_PART_CHARS) continue;
    yield part;
    part = "";
  }
  if (part !== "") yield part;
}
