/** The configuration's JSON Schema for editors (`config/holdfast.schema.json`), made of the one schema. */
import { configFileSchema } from "./schema.js";

/** Plain JSON without our own `x-` words and formats. */
export function configJsonSchema(): Record<string, unknown> {
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    $id: "https://holdfast.invalid/holdfast.schema.json",
    title: "holdfast configuration",
    ...(plain(configFileSchema) as Record<string, unknown>),
  };
}

function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const isOurs = (key: string, child: unknown): boolean =>
    key.startsWith("x-") || (key === "format" && typeof child === "string"); // a key of ours is called format, too
  const kept = Object.entries(value).filter(([key, child]) => !isOurs(key, child));
  return Object.fromEntries(kept.map(([key, child]) => [key, plain(child)]));
}
