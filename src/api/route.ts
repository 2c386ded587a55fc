/**
 * What a route is: a row with method, path, least role, request shapes and a handler that gives an `Answer` value.
 * The router turns rows into HTTP; `/openapi.json` is made of the same rows.
 */
import type { TSchema } from "typebox";
import { HoldfastError } from "../base/errors.js";
import { type BytePath, pathFromBytes, pathFromText } from "../base/paths.js";
import type { Caller, JobDocument, Services } from "./services.js";

export const ROLES = ["viewer", "backup_operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** What a handler answers; the router knows how to send each kind. */
export type Answer =
  | {
      readonly kind: "document";
      readonly status: number;
      readonly body: unknown;
      readonly headers?: Readonly<Record<string, string>>;
      /** Id of the job that was accepted. */
      readonly job?: string;
    }
  | { readonly kind: "text"; readonly contentType: string; readonly body: string; readonly status?: number }
  /** A page of a list, or all of it as JSON lines when the caller accepts `application/x-ndjson`. */
  | { readonly kind: "list"; readonly items: AsyncIterable<unknown> | Iterable<unknown> }
  | { readonly kind: "bytes"; readonly contentType: string; readonly parts: AsyncIterable<Buffer> };

/** One request as a handler sees it; shapes have been checked by then. */
export interface Call {
  readonly services: Services;
  readonly caller: Caller;
  readonly params: Readonly<Record<string, string>>;
  readonly query: unknown;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Wall time of the request, ms. */
  readonly nowMs: number;
  /** Aborts when the caller goes away. */
  readonly signal: AbortSignal;
}

export interface Route {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With `:name` for parameters. */
  readonly path: string;
  /** The seeds' short forms of the same route. */
  readonly aliases?: readonly string[];
  readonly role: Role;
  readonly summary: string;
  readonly query?: TSchema;
  readonly body?: TSchema;
  readonly handle: (call: Call) => Promise<Answer> | Answer;
}

/** Prefix of the canonical paths. */
export const BASE = "/api/v1/backup";

/** 200 with a document. */
export function ok(body: unknown): Answer {
  return { kind: "document", status: 200, body };
}

/** 201 with a document. */
export function created(body: unknown, location: string): Answer {
  return { kind: "document", status: 201, body, headers: { location } };
}

/** 202 with the job and where to follow it. */
export function accepted(job: JobDocument): Answer {
  const { id } = job;
  return { kind: "document", status: 202, body: job, job: id, headers: { location: `${BASE}/jobs/${id}` } };
}

/** A list, paged or streamed as the caller wishes. */
export function list(items: AsyncIterable<unknown> | Iterable<unknown>): Answer {
  return { kind: "list", items };
}

/** An absolute path out of a request. Throws USAGE. */
export function pathOf(text: string): BytePath {
  if (!text.startsWith("/"))
    throw new HoldfastError("USAGE", `"${text}" is no absolute path`, { hint: "Start it with /." });
  return pathFromText(text);
}

/** The path of a query that may carry it as bytes. Throws USAGE when there is none or it is none. */
export function queryPath(query: { readonly path?: string; readonly path_b64?: string }): BytePath {
  if (query.path_b64 === undefined) {
    if (query.path === undefined)
      throw new HoldfastError("USAGE", "no path was given", { hint: "Add ?path=/absolute/path." });
    return pathOf(query.path);
  }
  const bytes = Buffer.from(query.path_b64, "base64");
  const path = pathFromBytes(bytes);
  const names = path.split("/").slice(1);
  const isNormal = path.startsWith("/") && names.every((name) => name !== "" && name !== "." && name !== "..");
  if ((!isNormal && path !== "/") || path.includes("\0")) {
    throw new HoldfastError("USAGE", "path_b64 is no absolute, normalised path");
  }
  return path;
}

/** Milliseconds of an ISO 8601 time. Throws USAGE. */
export function timeMsOf(text: string): number {
  const timeMs = Date.parse(text);
  if (Number.isNaN(timeMs))
    throw new HoldfastError("USAGE", `"${text}" is no time`, { hint: "Write 2026-01-31T12:00:00Z." });
  return timeMs;
}

/** A parameter of the path; the router has seen to it that it is there. */
export function param(call: Call, name: string): string {
  return call.params[name] ?? "";
}
