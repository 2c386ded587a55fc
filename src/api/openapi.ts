/** The OpenAPI 3.1 document, made of the rows that the router serves. */
import type { TSchema } from "typebox";
import { ERROR_CODES } from "../base/error-codes.js";
import type { Route } from "./route.js";

/** The document as plain JSON. */
export function openApiDocument(routes: readonly Route[], version: string): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    for (const path of [route.path, ...(route.aliases ?? [])]) {
      const name = path.replace(/:(\w+)/g, "{$1}");
      paths[name] = { ...paths[name], [route.method.toLowerCase()]: operation(route, path) };
    }
  }
  return {
    openapi: "3.1.0",
    info: { title: "holdfast", version, license: { name: "Apache-2.0", identifier: "Apache-2.0" } },
    servers: [{ url: "http://localhost", description: "The Unix socket." }],
    paths,
    components: { schemas: { Problem: problemSchema() } },
  };
}

function operation(route: Route, path: string): unknown {
  const problem = { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } };
  return {
    summary: route.summary,
    "x-role": route.role,
    operationId: `${route.method.toLowerCase()} ${path}`.replace(/[^A-Za-z0-9]+/g, "_"),
    parameters: [...pathParameters(path), ...queryParameters(route.query)],
    ...(route.body === undefined
      ? {}
      : { requestBody: { content: { "application/json": { schema: plain(route.body) } } } }),
    responses: {
      "2XX": { description: "Done, or accepted as a job." },
      default: { description: "What went wrong.", content: problem },
    },
  };
}

function pathParameters(path: string): unknown[] {
  return [...path.matchAll(/:(\w+)/g)].map((match) => ({
    name: match[1],
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
}

function queryParameters(query: TSchema | undefined): unknown[] {
  const { properties, required } = plain(query ?? {}) as {
    properties?: Record<string, { description?: string }>;
    required?: string[];
  };
  return Object.entries(properties ?? {}).map(([name, schema]) => ({
    name,
    in: "query",
    required: required?.includes(name) ?? false,
    description: schema.description ?? "",
    schema,
  }));
}

function problemSchema(): unknown {
  return {
    type: "object",
    required: ["type", "title", "status", "detail", "code", "hint"],
    properties: {
      type: { type: "string" },
      title: { type: "string" },
      status: { type: "integer" },
      detail: { type: "string" },
      code: { type: "string", enum: Object.keys(ERROR_CODES) },
      hint: { type: "string" },
      details: { type: "object" },
    },
  };
}

function plain(schema: unknown): unknown {
  return JSON.parse(JSON.stringify(schema)) as unknown;
}
