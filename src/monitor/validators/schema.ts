/** Check against a JSON Schema (draft-07 or 2020-12), for JSON and YAML documents. */
import { Ajv, type ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import formatsPlugin from "ajv-formats";
import { HoldfastError } from "../../base/errors.js";
import type { Validator } from "../validator.js";
import { isTooDeep, readDocuments } from "./document.js";
import { invalid, unchecked } from "./invalid.js";

const OPTIONS = { strict: false, allErrors: false, validateFormats: true, addUsedSchema: false } as const;
const addFormats = formatsPlugin.default;

/** A validator for the schema's text. Throws CONFIG_INVALID when it is no schema. */
export function schemaValidator(schemaText: string): Validator {
  const validate = compile(schemaText);
  return {
    name: "schema",
    check: (content) => {
      const documents = readDocuments(content);
      if (documents === undefined) return invalid("neither valid JSON nor YAML");
      for (const document of documents) {
        if (isTooDeep(document)) return unchecked("nested beyond what can be judged");
        if (validate(document)) continue;
        const error = validate.errors?.[0];
        const place = error?.instancePath === "" ? "the document" : (error?.instancePath ?? "the document");
        return { kind: "schema_violation", detail: `${place} breaks the schema at ${error?.schemaPath ?? "#"}` };
      }
      return undefined;
    },
  };
}

function compile(schemaText: string): ValidateFunction {
  try {
    const schema: unknown = JSON.parse(schemaText);
    if (typeof schema !== "object" || schema === null) throw new Error("a schema is an object");
    const dialect = "$schema" in schema && typeof schema.$schema === "string" ? schema.$schema : "";
    const ajv = dialect.includes("2020-12") ? new Ajv2020(OPTIONS) : new Ajv(OPTIONS);
    addFormats(ajv);
    return ajv.compile(schema);
  } catch (error) {
    throw new HoldfastError("CONFIG_INVALID", "the schema cannot be used", { cause: error });
  }
}
