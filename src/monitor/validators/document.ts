/**
 * Reads content as documents: JSON, else YAML (one document or several). Alias bombs and deep nesting are refused, the
 * latter before anything goes into the depth: near the end of its stack the engine may end the whole process.
 */
import { Composer, type Document, Lexer, Parser } from "yaml";
import { decode } from "./invalid.js";

/** Aliases that one YAML document may expand. */
const ALIASES_MAX = 100;

/** Collections within collections; what people and programs write stays below fifty. */
const DEPTH_MAX = 256;

/** The YAML documents of a text, with the errors found in them. Throws RangeError for what is nested too deeply. */
export function yamlDocuments(text: string): readonly Document.Parsed[] {
  const composer = new Composer({ logLevel: "silent", prettyErrors: false });
  return [...composer.compose(tokensOf(text))];
}

function* tokensOf(text: string): ReturnType<Parser["parse"]> {
  const parser = new Parser();
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme);
    if (parser.stack.length > DEPTH_MAX) throw new RangeError("nested too deeply");
  }
  yield* parser.end();
}

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
    for (const document of yamlDocuments(text)) {
      if (document.errors.length > 0) return undefined;
      values.push(document.toJS({ maxAliasCount: ALIASES_MAX }));
    }
    return values;
  } catch {
    return undefined;
  }
}

/** True for a value that whoever goes into its depth should leave alone. */
export function isTooDeep(value: unknown): boolean {
  let level: readonly unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > DEPTH_MAX) return true;
    level = level.flatMap((each): readonly unknown[] =>
      typeof each === "object" && each !== null ? Object.values(each) : [],
    );
  }
  return false;
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
