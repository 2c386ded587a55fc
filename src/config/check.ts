/**
 * Compares a parsed file with the schema and gives one error for one fault. A general validator reports three errors
 * when a value fits none of three shapes; this one first decides, by the type of the value, which shape was meant.
 * It knows the JSON Schema words that `schema.ts` uses; a test proves that it and ajv agree on what is valid.
 */
import { parseDurationMs } from "../base/units.js";
import { type KeyPath, didYouMean } from "./problems.js";

/** Told for each fault; `onKey` true: the fault is the key itself, not its value. */
export type Report = (path: KeyPath, message: string, hint: string, onKey: boolean) => void;

/** One value's place, and where its faults go. */
class Spot {
  readonly #path: KeyPath;
  readonly #report: Report;

  constructor(path: KeyPath, report: Report) {
    this.#path = path;
    this.#report = report;
  }

  below(key: string | number): Spot {
    return new Spot([...this.#path, key], this.#report);
  }

  fault(message: string, hint: string): void {
    this.#report(this.#path, message, hint, false);
  }

  keyFault(message: string, hint: string): void {
    this.#report(this.#path, message, hint, true);
  }
}

type Json = Readonly<Record<string, unknown>>;

/** Tells the faults of `value` against a schema; nothing when it fits. */
export function checkAgainstSchema(schema: unknown, value: unknown, report: Report): void {
  checkValue(schema, value, new Spot([], report));
}

function checkValue(schema: unknown, value: unknown, spot: Spot): void {
  const rules = asMapping(schema);
  if (Array.isArray(rules["anyOf"])) checkUnion(rules, value, spot);
  else if (Array.isArray(rules["enum"])) checkWord(rules, value, spot);
  else if ("const" in rules) checkConstant(rules, value, spot);
  else checkTyped(rules, value, spot);
}

function checkTyped(rules: Json, value: unknown, spot: Spot): void {
  const type = rules["type"];
  if (type === undefined) return;
  if (!hasType(value, type)) {
    reportType(rules, value, spot);
    return;
  }
  if (type === "object") checkMapping(rules, asMapping(value), spot);
  else if (type === "array") checkList(rules, value as readonly unknown[], spot);
  else if (type === "string") checkText(rules, value as string, spot);
  else if (type === "integer" || type === "number") checkNumber(rules, value as number, spot);
}

function checkMapping(rules: Json, value: Json, spot: Spot): void {
  const properties = asMapping(rules["properties"]);
  const open = asMapping(rules["patternProperties"]);
  const names = Object.keys(value);
  for (const name of names) {
    if (Object.hasOwn(properties, name)) checkValue(properties[name], value[name], spot.below(name));
    else checkOtherKey({ rules, open, known: Object.keys(properties) }, name, value[name], spot.below(name));
  }
  for (const name of asTexts(rules["required"])) {
    if (!Object.hasOwn(value, name)) spot.fault(`"${name}" is missing`, "");
  }
  checkKeyCount(rules, names, spot);
}

function checkKeyCount(rules: Json, names: readonly string[], spot: Spot): void {
  const least = Number(rules["minProperties"] ?? 0);
  const most = Number(rules["maxProperties"] ?? Infinity);
  if (names.length >= least && names.length <= most) return;
  const known = Object.keys(asMapping(rules["properties"])).join(", ");
  spot.fault(least === 1 && most === 1 ? "exactly one key is needed" : "something is missing", `one of ${known}`);
}

interface Surroundings {
  readonly rules: Json;
  readonly open: Json;
  readonly known: readonly string[];
}

function checkOtherKey(around: Surroundings, name: string, value: unknown, spot: Spot): void {
  for (const [pattern, schema] of Object.entries(around.open)) {
    if (new RegExp(pattern, "u").test(name)) {
      checkValue(schema, value, spot);
      return;
    }
  }
  if (Object.keys(around.open).length > 0) {
    spot.keyFault(`"${printable(name)}" is no good name`, "use letters, digits, `.`, `_` and `-`");
    return;
  }
  if (asTexts(around.rules["x-later"]).includes(name)) {
    spot.keyFault(`"${name}" is not supported by this version yet`, "remove it");
    return;
  }
  const guess = didYouMean(name, around.known);
  const all = around.known.length <= 12 ? `known here: ${around.known.join(", ")}` : "see docs/configuration.md";
  spot.keyFault(`unknown key "${printable(name)}"`, guess === "" ? all : guess);
}

function checkList(rules: Json, value: readonly unknown[], spot: Spot): void {
  const least = Number(rules["minItems"] ?? 0);
  const most = Number(rules["maxItems"] ?? Infinity);
  if (value.length < least) spot.fault("the list is empty", `at least ${least} needed`);
  if (value.length > most) spot.fault(`the list has ${value.length} entries`, `at most ${most}`);
  value.slice(0, most).forEach((item, index) => checkValue(rules["items"], item, spot.below(index)));
}

function checkText(rules: Json, value: string, spot: Spot): void {
  if (value.length < Number(rules["minLength"] ?? 0)) spot.fault("the text is empty", "");
  else if (value.length > Number(rules["maxLength"] ?? Infinity)) spot.fault("the text is too long", "");
  else if (value.includes("\0")) spot.fault("the text holds a NUL character", "");
  else if (!fitsFormat(rules, value)) {
    // A value that may hold a password is never shown.
    const what = rules["x-hide"] === true ? "the value" : `"${printable(value)}"`;
    spot.fault(`${what} ${formatFault(rules)}`, formatHint(rules));
  } else if (rules["format"] === "duration" && parseDurationMs(value) > DURATION_MAX_MS)
    spot.fault(`"${printable(value)}" is too long`, "at most 100 years");
}

/** What lies further ahead is no date for the system. */
const DURATION_MAX_MS = 100 * 366 * 86_400_000;

const FORMAT_HINTS: Readonly<Record<string, string>> = {
  duration: "write a number with a unit: 500ms, 30s, 15m, 6h, 7d or 2w",
  size: "write a number with a unit: 512KiB, 20MiB or 2GiB",
  share: "write a share such as 5%",
};
const PATH_HINT =
  "`~` is nobody's home here: write all of it, such as /home/ann/notes, or ./~ for a name that begins so";

function fitsFormat(rules: Json, value: string): boolean {
  const pattern = rules["pattern"];
  return typeof pattern !== "string" || new RegExp(pattern, "u").test(value);
}

function formatFault(rules: Json): string {
  const format = rules["format"];
  return typeof format === "string" ? `is no ${format}` : "does not fit";
}

function formatHint(rules: Json): string {
  if (rules["format"] === "path") return PATH_HINT;
  return FORMAT_HINTS[String(rules["format"])] ?? plainDescription(rules);
}

function checkNumber(rules: Json, value: number, spot: Spot): void {
  const least = Number(rules["minimum"] ?? -Infinity);
  const most = Number(rules["maximum"] ?? Infinity);
  const above = Number(rules["exclusiveMinimum"] ?? -Infinity);
  if (value < least) spot.fault(`${value} is too small`, `at least ${least}`);
  else if (value > most) spot.fault(`${value} is too large`, `at most ${most}`);
  else if (value <= above) spot.fault(`${value} is too small`, `more than ${above}`);
}

function checkWord(rules: Json, value: unknown, spot: Spot): void {
  const words = asTexts(rules["enum"]);
  if (typeof value === "string" && words.includes(value)) return;
  const guess = typeof value === "string" ? didYouMean(value, words) : "";
  spot.fault(`${shown(value)} is not allowed here`, guess === "" ? `one of ${words.join(", ")}` : guess);
}

function checkConstant(rules: Json, value: unknown, spot: Spot): void {
  if (value !== rules["const"]) spot.fault(`${shown(value)} is not allowed here`, `write ${String(rules["const"])}`);
}

/** Picks the branch that was meant: by type, then for mappings by the key that tells them apart. */
function checkUnion(rules: Json, value: unknown, spot: Spot): void {
  const branches = (rules["anyOf"] as readonly unknown[]).map(asMapping);
  const fitting = branches.filter((branch) => hasType(value, branch["type"] ?? "string"));
  const [first, ...others] = fitting;
  if (first === undefined) reportType(rules, value, spot);
  else if (isLaterWord(rules, value)) spot.fault(`${shown(value)} is not supported by this version yet`, "remove it");
  else if (others.length === 0) checkValue(first, value, spot);
  else checkDiscriminated(rules, fitting, asMapping(value), spot);
}

function checkDiscriminated(rules: Json, branches: readonly Json[], value: Json, spot: Spot): void {
  const key = constantKey(branches[0]);
  const named = branches.find((branch) => constantOf(branch, key) === value[key]);
  if (named !== undefined) {
    checkValue(named, value, spot);
    return;
  }
  if (!Object.hasOwn(value, key)) {
    spot.fault(`"${key}" is missing`, "");
    return;
  }
  const words = branches.map((branch) => String(constantOf(branch, key)));
  const word = value[key];
  if (isLaterWord(rules, word))
    spot.below(key).fault(`${shown(word)} is not supported by this version yet`, "remove it");
  else checkWord({ enum: words }, word, spot.below(key));
}

function isLaterWord(rules: Json, value: unknown): boolean {
  return typeof value === "string" && asTexts(rules["x-later"]).includes(value);
}

function constantKey(branch: Json | undefined): string {
  const properties = asMapping(branch?.["properties"]);
  return Object.keys(properties).find((name) => "const" in asMapping(properties[name])) ?? "";
}

function constantOf(branch: Json, key: string): unknown {
  return asMapping(asMapping(branch["properties"])[key])["const"];
}

function reportType(rules: Json, value: unknown, spot: Spot): void {
  if (rules["x-secret"] === true && typeof value !== "object") {
    spot.fault(
      "a secret may not stand in the configuration",
      "write {file: PATH}, {env: NAME}, {credential: NAME} or {command: [...]}",
    );
    return;
  }
  const quoted = rules["x-quote"] === true ? "write it in quotes" : "";
  const hint = FORMAT_HINTS[String(rules["format"])] ?? quoted;
  const isSimple = typeof value !== "object";
  const given = isSimple ? `${shown(value)} is ${typeName(value)}` : `${shown(value)} stands here`;
  spot.fault(`${given}, but ${wanted(rules)} is needed${isSimple ? " here" : ""}`, hint);
}

function wanted(rules: Json): string {
  const branches = Array.isArray(rules["anyOf"]) ? rules["anyOf"].map(asMapping) : [rules];
  return [
    ...new Set(
      branches.map((branch) => TYPE_NAMES[typeof branch["type"] === "string" ? branch["type"] : "string"] ?? "text"),
    ),
  ].join(" or ");
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: "a mapping",
  array: "a list",
  string: "text",
  boolean: "true or false",
  integer: "a whole number",
  number: "a number",
};

function typeName(value: unknown): string {
  if (value === null || value === undefined) return "empty";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  if (typeof value === "number") return "a number";
  return typeof value === "boolean" ? "true or false" : "text";
}

function hasType(value: unknown, type: unknown): boolean {
  switch (type) {
    case "object":
      return typeof value === "object" && value !== null && !Array.isArray(value);
    case "array":
      return Array.isArray(value);
    case "integer":
      return Number.isSafeInteger(value);
    case "number":
      return typeof value === "number" && Number.isFinite(value);
    default:
      return typeof value === type;
  }
}

/** A value as an error message shows it: short, one line. */
function shown(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  return `"${printable(typeof value === "string" ? value : JSON.stringify(value))}"`;
}

function printable(text: string): string {
  const clean = text.replace(/[\p{Cc}\p{Cf}]/gu, "\u{fffd}");
  return clean.length > 60 ? `${clean.slice(0, 57)}...` : clean;
}

function plainDescription(rules: Json): string {
  const description = typeof rules["description"] === "string" ? rules["description"] : "";
  return description.replace(/\.$/, "");
}

function asMapping(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}

function asTexts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
