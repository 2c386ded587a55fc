/**
 * Makes anything fit for a log line: bounded in depth, width and length, and without secrets. A `Secret`, a field with
 * a telling name, a password in a URL, a bearer token and a Slack webhook become `[secret]` wherever they stand.
 */
import { HoldfastError } from "../base/errors.js";
import { type LogFields, Secret } from "../base/observe.js";

/** Longest string of a field, characters; a line has at most `FIELDS_MAX` of them per object. */
export const STRING_CHARACTERS_MAX = 2000;
/** Most members of one object, and most items of one list. */
export const FIELDS_MAX = 40;
/** Deepest nesting that is shown. */
export const DEPTH_MAX = 4;
/** Most values of one line in all: 40 x 40 x 40 would be far too many. */
export const VALUES_MAX = 400;

const SECRET = "[secret]";
const SECRET_NAME =
  /passw|passphrase|secret|token|webhook|authori[sz]ation|cookie|credential|api[-_]?key|private[-_]?key|recovery[-_]?key/i;
/** Every repetition before a fixed part is bounded, so that no text makes the search slow. */
const REDACTIONS: readonly (readonly [RegExp, string])[] = [
  [/([a-z][a-z0-9+.-]{0,30}:\/\/)[^/\s"<>]+@/gi, `$1${SECRET}@`],
  [/(hooks\.slack(?:-gov)?\.com\/)[^\s"<>]+/gi, `$1${SECRET}`],
  [/\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}/gi, `$1 ${SECRET}`],
  [
    /([?&;](?:[a-z0-9_-]{0,30}(?:token|secret|passw(?:or)?d|signature|api[-_]?key)|sig|key)=)[^&\s"<>]+/gi,
    `$1${SECRET}`,
  ],
];

/** Takes secrets out of text. */
export function redactText(text: string): string {
  let clean = text;
  for (const [pattern, replacement] of REDACTIONS) clean = clean.replace(pattern, replacement);
  return clean;
}

/** A plain, bounded copy of the fields without secrets; never throws, whatever the values are. */
export function safeFields(fields: LogFields): Record<string, unknown> {
  const budget = { left: VALUES_MAX };
  const safe = safeObject(Object.entries(fields), 0, budget);
  return typeof safe === "object" ? safe : {};
}

interface Budget {
  left: number;
}

function safeValue(value: unknown, depth: number, budget: Budget): unknown {
  budget.left -= 1;
  if (budget.left < 0) return "[cut]";
  switch (typeof value) {
    case "string":
      return safeString(value);
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "boolean":
      return value;
    case "undefined":
      return undefined;
    case "bigint":
      return value.toString();
    case "symbol":
    case "function":
      return `[${typeof value}]`;
    case "object":
      return value === null ? null : safeThing(value, depth, budget);
  }
}

function safeString(text: string): string {
  // Cut before searching, so that a huge string costs nothing; the margin keeps a secret across the cut recognisable.
  const clean = redactText(text.slice(0, STRING_CHARACTERS_MAX * 2));
  if (clean.length <= STRING_CHARACTERS_MAX && text.length <= STRING_CHARACTERS_MAX * 2) return clean;
  return `${clean.slice(0, STRING_CHARACTERS_MAX)}… [${String(text.length)} characters]`;
}

function safeThing(thing: object, depth: number, budget: Budget): unknown {
  if (thing instanceof Secret) return SECRET;
  if (thing instanceof Date) return Number.isNaN(thing.getTime()) ? "[no date]" : thing.toISOString();
  if (ArrayBuffer.isView(thing)) return `[${String(thing.byteLength)} bytes]`;
  if (depth >= DEPTH_MAX) return "[deep]";
  try {
    if (thing instanceof Error) return safeError(thing, depth, budget);
    if (Array.isArray(thing)) return safeList(thing, depth, budget);
    if (thing instanceof Set) return safeList([...thing].slice(0, FIELDS_MAX + 1), depth, budget);
    if (thing instanceof Map) return safeObject(mapEntries(thing), depth, budget);
    return safeObject(Object.entries(thing), depth, budget);
  } catch {
    return "[unreadable]"; // a getter or a proxy that throws
  }
}

function mapEntries(map: ReadonlyMap<unknown, unknown>): [string, unknown][] {
  return [...map].slice(0, FIELDS_MAX + 1).map(([key, value]) => [String(key), value]);
}

function safeList(items: readonly unknown[], depth: number, budget: Budget): unknown[] {
  const safe = items.slice(0, FIELDS_MAX).map((item) => safeValue(item, depth + 1, budget));
  if (items.length > FIELDS_MAX) safe.push("[more]");
  return safe;
}

function safeObject(
  entries: readonly (readonly [string, unknown])[],
  depth: number,
  budget: Budget,
): Record<string, unknown> {
  const safe: Record<string, unknown> = {};
  for (const [name, value] of entries.slice(0, FIELDS_MAX)) {
    if (budget.left <= 0) break;
    const shownName = name.slice(0, 100);
    const hides = SECRET_NAME.test(name) && value !== undefined && value !== null && typeof value !== "boolean";
    Object.defineProperty(safe, shownName, {
      value: hides ? SECRET : safeValue(value, depth + 1, budget),
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  if (entries.length > FIELDS_MAX) safe["more"] = true;
  return safe;
}

function safeError(error: Error, depth: number, budget: Budget): Record<string, unknown> {
  const described: [string, unknown][] = [
    ["name", error.name],
    ["message", error.message],
  ];
  if (error instanceof HoldfastError) {
    described.push(["code", error.code], ["hint", error.hint]);
    if (Object.keys(error.details).length > 0) described.push(["details", error.details]);
  } else {
    if ("code" in error) described.push(["code", error.code]);
    described.push(["stack", error.stack]);
  }
  if (error instanceof AggregateError) described.push(["errors", error.errors]);
  if (error.cause !== undefined) described.push(["cause", error.cause]);
  return safeObject(described, depth, budget);
}
