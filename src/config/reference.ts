/** The reference page of the configuration (`docs/configuration.md`), made of the one schema. */
import { configFileSchema } from "./schema.js";

type Json = Readonly<Record<string, unknown>>;

/** Every key, its type, default and meaning, as Markdown. */
export function configReference(): string {
  const lines = [...INTRODUCTION, ...rowsOf(configFileSchema, "")];
  return `${lines.join("\n")}\n`;
}

const INTRODUCTION = [
  "# Configuration",
  "",
  "Made from the schema by `node scripts/reference.mjs`; do not edit. An example with every key is `config/holdfast.example.yaml`; the",
  "schema for editors is `config/holdfast.schema.json` (`# yaml-language-server: $schema=...` on the first line).",
  "",
  "Without any file the embedded defaults hold, and `holdfast protect PATH` says what is protected. Three lines are",
  "enough otherwise: `store:` and a list of `sources:`. Durations are written `15m`, sizes `2GiB`, shares `5%`; a secret",
  "is never written here, only where it is: `{file: F}`, `{env: NAME}`, `{credential: NAME}` or `{command: [...]}`.",
  "A path that begins with `~` is refused: whose home it means would depend on who runs holdfast.",
  "`holdfast config check` tells every fault with its line; `holdfast config reload` takes a changed file, all of it or",
  "nothing.",
  "",
  "| key | value | default | |",
  "|---|---|---|---|",
] as const;

function rowsOf(schema: unknown, prefix: string): string[] {
  const { properties } = schema as { readonly properties?: Readonly<Record<string, Json>> };
  return Object.entries(properties ?? {}).flatMap(([name, child]) => {
    const key = prefix === "" ? name : `${prefix}.${name}`;
    return [rowOf(key, child), ...childRows(child, key)];
  });
}

function childRows(child: Json, key: string): string[] {
  if (isSecret(child)) return [];
  if (child["type"] === "array") return branchesOf(child["items"]).flatMap((branch) => rowsOf(branch, `${key}[]`));
  const open = child["patternProperties"];
  if (typeof open === "object" && open !== null) {
    return Object.values(open).flatMap((branch) => rowsOf(branch, `${key}.NAME`));
  }
  return branchesOf(child).flatMap((branch) => rowsOf(branch, key));
}

function branchesOf(schema: unknown): readonly Json[] {
  const union = (schema as Json)["anyOf"];
  return Array.isArray(union) ? (union as readonly Json[]) : [schema as Json];
}

function rowOf(key: string, schema: Json): string {
  const fallback = schema["default"];
  const shown = fallback === undefined ? "" : `\`${JSON.stringify(fallback)}\``;
  return `| \`${key}\` | ${cell(valueOf(schema))} | ${shown} | ${cell(text(schema["description"]))} |`;
}

function valueOf(schema: Json): string {
  if (isSecret(schema)) return "secret";
  if (Array.isArray(schema["enum"])) return schema["enum"].map((word) => `\`${String(word)}\``).join(", ");
  if ("const" in schema) return `\`${text(schema["const"])}\``;
  if (Array.isArray(schema["anyOf"])) return [...new Set(schema["anyOf"].map(valueOf))].join(" or ");
  if (typeof schema["format"] === "string") return schema["format"];
  if (schema["type"] === "array") return `list of ${valueOf(schema["items"] as Json)}`;
  return TYPE_WORDS[text(schema["type"])] ?? "anything";
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  object: "mapping",
  string: "text",
  boolean: "true or false",
  integer: "whole number",
  number: "number",
};

function isSecret(schema: Json): boolean {
  return schema["x-secret"] === true;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function cell(value: string): string {
  return value.replaceAll("|", "\\|").replaceAll("\n", " ");
}
