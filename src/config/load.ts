/**
 * From a configuration file (or none) to the `Configuration`: reads, follows `include`, checks against the schema,
 * resolves. Every fault is found in one pass and told with file, line and column; nothing is taken from a file that
 * has any.
 */
import { checkAgainstSchema } from "./check.js";
import type { Configuration } from "./configuration.js";
import { missingFileWarnings } from "./missing-files.js";
import { type ConfigProblem, type KeyPath, configInvalid } from "./problems.js";
import { type PlaceOptions, resolvePlaces } from "./places.js";
import { resolveConfiguration } from "./resolve.js";
import { type ConfigFile, configFileSchema } from "./schema.js";
import { CONFIG_LIMITS } from "./schema-parts.js";
import { YamlFile, includedFiles, isGlob, readConfigText } from "./yaml-file.js";

export type LoadOptions = PlaceOptions & {
  /** Wins over the file's `store`. */
  readonly storeUrl?: string;
  /** Also finds what is wrong only on this machine: a group that it does not have. */
  readonly forThisMachine?: boolean;
};

/**
 * Loads the configuration: the file that `places.ts` finds, or the embedded defaults when there is none. Throws
 * CONFIG_UNREADABLE, CONFIG_INVALID (with `details.problems`).
 */
export async function loadConfiguration(options: LoadOptions = {}): Promise<Configuration> {
  const places = await resolvePlaces(options);
  const loaded = places.configFile === undefined ? noFile() : await readAll(places.configFile);
  const given = options.storeUrl === undefined ? {} : { storeUrl: options.storeUrl };
  const configuration = resolveConfiguration(loaded.content, loaded.report, {
    places,
    ...given,
    forThisMachine: options.forThisMachine ?? false,
  });
  const missing = await missingFileWarnings(configuration);
  return { ...configuration, warnings: [...configuration.warnings, ...missing] };
}

/** Faults of a file, without taking it; empty when it is good. Throws only CONFIG_UNREADABLE. */
export interface LoadedFile {
  readonly content: ConfigFile;
  /** Turns a fault at a path of keys into a problem with its place. */
  readonly report: (path: KeyPath, message: string, hint: string) => ConfigProblem;
}

function noFile(): LoadedFile {
  return {
    content: {},
    report: (path, message, hint) => ({ file: path.join("."), line: 0, column: 0, message, hint }),
  };
}

async function readAll(file: string): Promise<LoadedFile> {
  const main = checked(new YamlFile(await readConfigText(file)));
  const files = [main];
  for (const [index, pattern] of (main.content.include ?? []).entries()) {
    const found = await includedFiles(pattern, file);
    // A slip of the pen would leave everything in that file unprotected.
    if (found.length === 0 && !isGlob(pattern)) throw configInvalid([notIncluded(main.yaml, index, pattern)]);
    for (const included of found) {
      if (files.length > CONFIG_LIMITS.includesMax) throw configInvalid([tooManyIncludes(main.yaml)]);
      files.push(checked(new YamlFile(await readConfigText(included))));
    }
  }
  return merged(files);
}

interface CheckedFile {
  readonly yaml: YamlFile;
  readonly content: ConfigFile;
}

function checked(yaml: YamlFile): CheckedFile {
  const syntax = yaml.syntaxProblems();
  if (syntax.length > 0) throw configInvalid(syntax);
  const content = yaml.content();
  const problems: ConfigProblem[] = [];
  checkAgainstSchema(configFileSchema, content, (path, message, hint, onKey) => {
    problems.push(yaml.problemAt(path, message, hint, onKey));
  });
  if (problems.length > 0) throw configInvalid(problems);
  return { yaml, content: content as ConfigFile };
}

function notIncluded(yaml: YamlFile, index: number, pattern: string): ConfigProblem {
  const hint = "a pattern such as `conf.d/*.yaml` may name none";
  return yaml.problemAt(["include", index], `there is no file "${pattern}"`, hint, false);
}

function tooManyIncludes(yaml: YamlFile): ConfigProblem {
  return yaml.problemAt(["include"], `more than ${CONFIG_LIMITS.includesMax} files are included`, "", false);
}

/** Joins files and remembers which file gave what, so that later faults are told at the right place. */
function merged(files: readonly CheckedFile[]): LoadedFile {
  const merger = new Merger();
  for (const [index, file] of files.entries()) {
    if (index > 0 && file.content.include !== undefined) {
      merger.problems.push(file.yaml.problemAt(["include"], "an included file may not include more", "", true));
    }
    merger.add(file);
  }
  if (merger.problems.length > 0) throw configInvalid(merger.problems);
  return { content: merger.content, report: (path, message, hint) => merger.report(path, message, hint) };
}

type Json = Record<string, unknown>;

class Merger {
  readonly content: Json = {};
  readonly problems: ConfigProblem[] = [];
  /** Who gave a merged value, and where it stands there; by the joined path. */
  readonly #origins = new Map<string, { readonly yaml: YamlFile; readonly path: KeyPath }>();
  #main: YamlFile | undefined;

  add(file: CheckedFile): void {
    this.#main ??= file.yaml;
    this.#merge(this.content, file.content, { yaml: file.yaml, path: [] });
  }

  report(path: KeyPath, message: string, hint: string): ConfigProblem {
    for (let length = path.length; length > 0; length -= 1) {
      const origin = this.#origins.get(path.slice(0, length).join("\0"));
      if (origin !== undefined)
        return origin.yaml.problemAt([...origin.path, ...path.slice(length)], message, hint, false);
    }
    if (this.#main === undefined) throw new Error("a fault was reported before any file was added");
    return this.#main.problemAt(path, message, hint, false);
  }

  #merge(into: Json, from: Json, at: { readonly yaml: YamlFile; readonly path: KeyPath }): void {
    for (const [key, value] of Object.entries(from)) {
      const path = [...at.path, key];
      const old = Object.hasOwn(into, key) ? into[key] : undefined;
      if (old === undefined) {
        into[key] = Array.isArray(value) ? [...(value as unknown[])] : isMapping(value) ? {} : value;
        this.#origins.set(path.join("\0"), { yaml: at.yaml, path });
        if (isMapping(value)) this.#merge(into[key] as Json, value, { yaml: at.yaml, path });
        else if (Array.isArray(value)) this.#noteItems(path, 0, value.length, at.yaml);
      } else if (Array.isArray(old) && Array.isArray(value)) {
        this.#noteItems(path, old.length, value.length, at.yaml);
        old.push(...(value as unknown[]));
      } else if (isMapping(old) && isMapping(value)) {
        this.#merge(old, value, { yaml: at.yaml, path });
      } else {
        this.problems.push(at.yaml.problemAt(path, `"${key}" is set by another file already`, "", true));
      }
    }
  }

  #noteItems(path: KeyPath, start: number, count: number, yaml: YamlFile): void {
    for (let index = 0; index < count; index += 1) {
      this.#origins.set([...path, start + index].join("\0"), { yaml, path: [...path, index] });
    }
  }
}

function isMapping(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
