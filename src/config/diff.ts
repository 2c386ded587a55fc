/** What changes between two configurations, as lines for people: `+ source media`, `~ source etc rpo 5 m -> 1 m`. */
import { pathText } from "../base/paths.js";
import { formatDuration, formatSize } from "../base/units.js";
import type { Configuration, SourceConfiguration } from "./configuration.js";

/** Lines of a plan at most; more are counted. */
const LINES_MAX = 200;

/** Settings that a running daemon cannot change; they need a restart. */
const RESTART_KEYS: Readonly<Record<string, (configuration: Configuration) => unknown>> = {
  store: ({ storeUrl }) => storeUrl,
  state_dir: ({ stateDir }) => stateDir,
  "access.socket": ({ socket }) => socket,
  encryption: ({ encryption }) => encryption,
  metrics: ({ metrics }) => metrics,
  limits: ({ limits }) => limits,
  watch: ({ watch }) => watch,
  pins: ({ pins }) => pins,
  "verify.checksums": ({ verify }) => verify.checksumsEveryMs,
};

export interface ConfigurationDiff {
  /** Empty: nothing changes. */
  readonly plan: readonly string[];
  /** Keys of the file among the changed that need a restart to take effect. */
  readonly needsRestart: readonly string[];
}

/** Compares what is in force with what would be. */
export function diffConfigurations(before: Configuration, after: Configuration): ConfigurationDiff {
  const lines = [...sourceLines(before.sources, after.sources), ...settingLines(before, after)];
  const more = lines.length - LINES_MAX;
  const plan = more > 0 ? [...lines.slice(0, LINES_MAX), `and ${more} more`] : lines;
  const isOther = (valueOf: (configuration: Configuration) => unknown): boolean =>
    text(valueOf(before)) !== text(valueOf(after));
  const needsRestart = Object.entries(RESTART_KEYS)
    .filter(([, valueOf]) => isOther(valueOf))
    .map(([key]) => key);
  return { plan, needsRestart };
}

function sourceLines(before: readonly SourceConfiguration[], after: readonly SourceConfiguration[]): string[] {
  const old = new Map(before.map((source) => [source.name, source]));
  const kept = new Set(after.map((source) => source.name));
  const lines: string[] = [];
  for (const source of before) {
    if (!kept.has(source.name)) lines.push(`- source ${source.name} (its backups stay)`);
  }
  for (const source of after) {
    const previous = old.get(source.name);
    if (previous === undefined) lines.push(`+ source ${source.name} ${source.paths.map(pathText).join(" ")}`);
    else lines.push(...fieldLines(`source ${source.name}`, fields(previous), fields(source)));
  }
  return lines;
}

function settingLines(before: Configuration, after: Configuration): string[] {
  const { sources: _a, file: _b, warnings: _c, ...old } = before;
  const { sources: _d, file: _e, warnings: _f, ...now } = after;
  return fieldLines("", fields(old), fields(now));
}

type Fields = ReadonlyMap<string, string>;

/** Leaves of a nested object by dotted name, as people read them. */
function fields(value: object): Fields {
  const found = new Map<string, string>();
  const walk = (prefix: string, node: unknown): void => {
    if (typeof node === "object" && node !== null && !Array.isArray(node)) {
      for (const [key, child] of Object.entries(node)) walk(prefix === "" ? key : `${prefix}.${key}`, child);
    } else {
      found.set(shortName(prefix), readable(prefix, node));
    }
  };
  walk("", value);
  return found;
}

function fieldLines(subject: string, before: Fields, after: Fields): string[] {
  const names = new Set([...before.keys(), ...after.keys()]);
  const lines: string[] = [];
  for (const name of names) {
    const old = before.get(name) ?? "not set";
    const now = after.get(name) ?? "not set";
    if (old !== now) lines.push(`~ ${subject === "" ? "" : `${subject} `}${name} ${old} -> ${now}`);
  }
  return lines;
}

function shortName(name: string): string {
  return name.replace(/(Ms|Bytes)$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function readable(name: string, value: unknown): string {
  if (value === undefined) return "not set";
  if (typeof value === "number" && name.endsWith("Ms")) return formatDuration(value);
  if (typeof value === "number" && name.endsWith("Bytes")) return formatSize(value);
  if (name === "mode" || name.endsWith(".mode"))
    return typeof value === "number" ? `0${value.toString(8)}` : text(value);
  return typeof value === "string" ? value : text(value).slice(0, 200);
}

function text(value: unknown): string {
  return value === undefined ? "not set" : JSON.stringify(value);
}
