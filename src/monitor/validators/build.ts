/**
 * Makes the validator for a check. Heavy libraries are loaded at their first use. Commands are not here: they run as
 * programs, outside the worker.
 */
import { readFile } from "node:fs/promises";
import type { Check, Validator } from "../validator.js";
import { jsonValidator, textValidator } from "./text.js";

/** A check that can be made in the worker. */
export type ContentCheck = Exclude<Check, { readonly kind: "command" }>;

/** Throws CONFIG_INVALID when a schema cannot be used. */
export async function buildValidator(check: ContentCheck): Promise<Validator> {
  switch (check.kind) {
    case "json":
      return jsonValidator;
    case "text":
      return textValidator;
    case "yaml":
      return (await import("./yaml.js")).yamlValidator;
    case "schema":
      return (await import("./schema.js")).schemaValidator(await readFile(check.schemaFile, "utf8"));
    case "rules":
      return (await import("./rules.js")).rulesValidator(check.rules);
  }
}
