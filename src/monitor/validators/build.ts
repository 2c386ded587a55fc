/** Makes the validator for a check. Commands are not here: they run as programs, outside the worker. */
import { readFileSync } from "node:fs";
import type { Check, Validator } from "../validator.js";
import { rulesValidator } from "./rules.js";
import { schemaValidator } from "./schema.js";
import { jsonValidator, textValidator, yamlValidator } from "./structure.js";

/** A check that can be made in the worker. */
export type ContentCheck = Exclude<Check, { readonly kind: "command" }>;

/** Throws CONFIG_INVALID when a schema cannot be used. */
export function buildValidator(check: ContentCheck): Validator {
  switch (check.kind) {
    case "json":
      return jsonValidator;
    case "yaml":
      return yamlValidator;
    case "text":
      return textValidator;
    case "schema":
      return schemaValidator(readFileSync(check.schemaFile, "utf8"));
    case "rules":
      return rulesValidator(check.rules);
  }
}
