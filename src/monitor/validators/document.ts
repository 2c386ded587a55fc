/** Reads content as documents: JSON, else YAML (one document or several). Alias bombs and deep nesting are refused. */
import { parseAllDocuments } from "yaml";
import { decode } from "./invalid.js";

/** Aliases that one YAML document may expand. */
const ALIASES_MAX = 100;

/** The documents, or undefined when the content is neither valid JSON nor YAML. */
export function readDocuments(content: Buffer): readonly unknown[] | undefined {
  const text = decode(content);
  if (text === undefined) return undefined;
  try {
    return [JSON.parse(text) as unknown];
  } catch {
    return readYaml(text);
  }
}

function readYaml(text: string): readonly unknown[] | undefined {
  try {
    const values: unknown[] = [];
    for (const document of parseAllDocuments(text, { logLevel: "silent", prettyErrors: false })) {
      if (!("errors" in document) || document.errors.length > 0) return undefined;
      values.push(document.toJS({ maxAliasCount: ALIASES_MAX }));
    }
    return values;
  } catch {
    return undefined;
  }
}

/** The value at a path of names with dots (`author.name`); undefined when a step is missing. */
export function valueAt(document: unknown, path: string): unknown {
  let value = document;
  for (const name of path.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}
