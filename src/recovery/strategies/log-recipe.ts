/**
 * The declared recipe that makes a file out of JSON-lines logs: which files, which records, and what output. Pure but
 * for nothing: it reads parameters and folds records; `reconstruct-from-logs.ts` reads the files.
 *
 * files: glob on names in `log_dir` (default `*.jsonl`, `*.ndjson`, `*.log`) · match: field → value or list of values,
 * dotted fields, `{name}`, `{stem}`, `{path}` stand for the lost file's · record: field that holds the payload ·
 * time_field, since, until · pick: fields to keep · output: {mode: append | last_wins | merge, key, sort_by, shape:
 * array | object | lines | record, template}. In a template "{records}" stands for the result, "{count}" for its
 * length, "{first.FIELD}" and "{last.FIELD}" for a field of the first or last record.
 */
import { nameOf, pathText } from "../../base/paths.js";
import { ParameterReader, type Parameters, isMapping } from "../parameters.js";
import type { LostFile } from "../strategy.js";

export const LOG_STRATEGY = "reconstruct_from_logs";
const MODES = ["append", "last_wins", "merge"] as const;
const SHAPES = ["array", "object", "lines", "record"] as const;
const DEFAULT_FILES = ["*.jsonl", "*.ndjson", "*.log"];
/** Without a recipe: a record is the file's when one of these names it, and its payload is the first of those. */
const DEFAULT_NAME_FIELDS = ["path", "file", "filename"];
const DEFAULT_PAYLOAD_FIELDS = ["content", "data", "record", "payload"];
/** Records kept in memory. */
export const RECORDS_MAX = 1_000_000;

export interface LogRecipe {
  readonly logDir: string;
  readonly files: readonly string[];
  readonly match: ReadonlyMap<string, readonly string[]> | undefined;
  readonly record: string | undefined;
  readonly timeField: string | undefined;
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly pick: readonly string[] | undefined;
  readonly mode: (typeof MODES)[number];
  readonly key: string | undefined;
  readonly sortBy: string | undefined;
  readonly shape: (typeof SHAPES)[number] | undefined;
  readonly template: unknown;
}

/** The recipe of a step. Throws CONFIG_INVALID. */
export function recipeOf(parameters: Parameters, lost: LostFile): LogRecipe {
  const reader = new ParameterReader(LOG_STRATEGY, parameters);
  const logDir = reader.text("log_dir");
  if (logDir?.startsWith("/") !== true) throw reader.wrong("log_dir", "an absolute folder");
  const outputMapping = reader.mapping("output") ?? {};
  const output = new ParameterReader(`${LOG_STRATEGY}.output`, outputMapping);
  const key = output.text("key");
  const mode = output.choice("mode", MODES) ?? (key === undefined ? "append" : "last_wins");
  if (mode !== "append" && key === undefined) throw output.wrong("key", `the name of a field, for mode ${mode}`);
  return {
    logDir,
    files: reader.texts("files") ?? DEFAULT_FILES,
    match: matchOf(reader, lost),
    record: reader.text("record"),
    timeField: reader.text("time_field"),
    sinceMs: timeOf(reader, "since") ?? -Infinity,
    untilMs: timeOf(reader, "until") ?? Infinity,
    pick: reader.texts("pick"),
    mode,
    key,
    sortBy: output.text("sort_by"),
    shape: output.choice("shape", SHAPES),
    template: outputMapping["template"],
  };
}

/** Folds records into the output's bytes. */
export class LogFold {
  readonly #recipe: LogRecipe;
  readonly #lost: LostFile;
  readonly #byKey = new Map<string, unknown>();
  readonly #list: unknown[] = [];
  /** Records that were taken. */
  count = 0;
  /** Time of the newest record, ms; undefined when records carry none. */
  newestMs: number | undefined;
  #first: unknown;
  #last: unknown;

  constructor(recipe: LogRecipe, lost: LostFile) {
    this.#recipe = recipe;
    this.#lost = lost;
  }

  /** Takes a parsed line if the recipe wants it. False: the limit is reached. */
  take(record: unknown): boolean {
    if (!isMapping(record) || !this.#isWanted(record)) return true;
    if (this.count >= RECORDS_MAX) return false;
    const timeMs = timeMsOf(field(record, this.#recipe.timeField ?? "timestamp"));
    if (timeMs !== undefined && timeMs > (this.newestMs ?? -Infinity)) this.newestMs = timeMs;
    this.count += 1;
    this.#first ??= record;
    this.#last = record;
    this.#fold(this.#payloadOf(record));
    return true;
  }

  /** The output; undefined when no record was taken. */
  bytes(): Buffer | undefined {
    if (this.count === 0) return undefined;
    const { template } = this.#recipe;
    const shaped = this.#shaped();
    if (typeof shaped === "string" && template === undefined) return Buffer.from(shaped, "utf8");
    const document = template === undefined ? shaped : this.#filled(template, shaped);
    return Buffer.from(`${JSON.stringify(document, undefined, 2)}\n`, "utf8");
  }

  #isWanted(record: Parameters): boolean {
    const { match, timeField, sinceMs, untilMs } = this.#recipe;
    const timeMs = timeMsOf(field(record, timeField ?? "timestamp"));
    if (
      timeMs === undefined ? Number.isFinite(sinceMs) || Number.isFinite(untilMs) : timeMs < sinceMs || timeMs > untilMs
    )
      return false;
    if (match === undefined) {
      const names = [pathText(this.#lost.path), nameText(this.#lost)];
      return DEFAULT_NAME_FIELDS.some((name) => names.includes(asText(record[name]) ?? ""));
    }
    return [...match].every(([name, values]) => values.includes(asText(field(record, name)) ?? ""));
  }

  #payloadOf(record: Parameters): unknown {
    const { record: name, match, pick } = this.#recipe;
    const implied =
      match === undefined ? DEFAULT_PAYLOAD_FIELDS.find((field) => record[field] !== undefined) : undefined;
    const chosen = name ?? implied;
    const payload = chosen === undefined ? record : field(record, chosen);
    if (pick === undefined || !isMapping(payload)) return payload;
    return Object.fromEntries(pick.filter((name) => payload[name] !== undefined).map((name) => [name, payload[name]]));
  }

  #fold(payload: unknown): void {
    const { mode, key } = this.#recipe;
    const id = isMapping(payload) && key !== undefined ? asText(field(payload, key)) : undefined;
    if (mode === "append" || id === undefined) {
      if (mode === "append" && payload !== undefined) this.#list.push(payload);
      return;
    }
    const before = mode === "merge" ? this.#byKey.get(id) : undefined;
    // The place in the output stays that of the key's first record.
    this.#byKey.set(id, isMapping(before) && isMapping(payload) ? { ...before, ...payload } : payload);
  }

  /** Without a recipe the last payload is the file; texts stay texts. */
  #shaped(): unknown {
    const { mode, match, sortBy } = this.#recipe;
    const shape = this.#recipe.shape ?? (match === undefined && mode === "append" ? "record" : "array");
    if (shape === "object") return Object.fromEntries(this.#byKey);
    const items = mode === "append" ? [...this.#list] : [...this.#byKey.values()];
    if (sortBy !== undefined) items.sort((a, b) => compareFields(field(a, sortBy), field(b, sortBy)));
    if (shape === "record") return items.at(-1);
    if (shape === "array") return items;
    return items.map((item) => `${typeof item === "string" ? item : JSON.stringify(item)}\n`).join("");
  }

  #filled(template: unknown, result: unknown): unknown {
    if (Array.isArray(template)) return template.map((item) => this.#filled(item, result));
    if (isMapping(template))
      return Object.fromEntries(Object.entries(template).map(([name, value]) => [name, this.#filled(value, result)]));
    if (typeof template !== "string") return template;
    if (template === "{records}") return result;
    if (template === "{count}") return Array.isArray(result) ? result.length : this.count;
    const ends = /^\{(first|last)\.(.+)\}$/.exec(template);
    if (ends?.[2] !== undefined) return field(ends[1] === "first" ? this.#first : this.#last, ends[2]) ?? null;
    return filledName(template, this.#lost);
  }
}

function matchOf(reader: ParameterReader, lost: LostFile): ReadonlyMap<string, readonly string[]> | undefined {
  const mapping = reader.mapping("match");
  if (mapping === undefined) return undefined;
  return new Map(
    Object.entries(mapping).map(([name, value]) => {
      const values: unknown[] = Array.isArray(value) ? value : [value];
      const texts = values.map(asText);
      if (texts.some((text) => text === undefined))
        throw reader.wrong(`match.${name}`, "a text, a number or a list of them");
      return [name, texts.map((text) => filledName(text ?? "", lost))];
    }),
  );
}

function filledName(text: string, lost: LostFile): string {
  const name = nameText(lost);
  const stem = name.includes(".", 1) ? name.slice(0, name.lastIndexOf(".")) : name;
  return text.replaceAll("{name}", name).replaceAll("{stem}", stem).replaceAll("{path}", pathText(lost.path));
}

function nameText(lost: LostFile): string {
  return Buffer.from(nameOf(lost.path), "latin1").toString("utf8");
}

/** A field by its dotted name. */
function field(record: unknown, name: string): unknown {
  if (isMapping(record) && Object.hasOwn(record, name)) return record[name];
  return name
    .split(".")
    .reduce<unknown>(
      (value, part) => (isMapping(value) && Object.hasOwn(value, part) ? value[part] : undefined),
      record,
    );
}

function asText(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : undefined;
}

function compareFields(a: unknown, b: unknown): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  const [first, second] = [asText(a) ?? "", asText(b) ?? ""];
  return first < second ? -1 : first > second ? 1 : 0;
}

/** ISO text, or a number of seconds or milliseconds since the epoch. */
function timeMsOf(value: unknown): number | undefined {
  if (typeof value === "number") return value < 1e11 ? value * 1000 : value;
  const parsed = typeof value === "string" ? Date.parse(value) : NaN;
  return Number.isNaN(parsed) ? undefined : parsed;
}

function timeOf(reader: ParameterReader, name: string): number | undefined {
  const text = reader.text(name);
  if (text === undefined) return undefined;
  const timeMs = timeMsOf(text);
  if (timeMs === undefined) throw reader.wrong(name, "a time such as 2026-01-31T12:00:00Z");
  return timeMs;
}
