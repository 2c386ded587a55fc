/** Resolves one entry of `sources` with the defaults: durations to ms, paths to absolute ones, strategies to steps. */
import { basename, dirname } from "node:path";
import { type BytePath, nameOf, pathFromText, pathText } from "../base/paths.js";
import { parseDurationMs, parseSizeBytes } from "../base/units.js";
import type {
  CompressionConfiguration,
  RecoverConfiguration,
  SourceConfiguration,
  StrategyName,
  StrategyStep,
  ValidateConfiguration,
} from "./configuration.js";
import type { Fault } from "./problems.js";
import { resolveFrequency } from "./resolve-schedule.js";
import type { ConfigFile } from "./schema.js";

type WrittenSource = NonNullable<ConfigFile["sources"]>[number];
type SourceMapping = Exclude<WrittenSource, string>;
type WrittenDefaults = NonNullable<ConfigFile["defaults"]>;
type WrittenRecover = NonNullable<SourceMapping["recover"]>;
type WrittenStep = Exclude<WrittenRecover[number], string>["chain"][number];
type WrittenValidation = NonNullable<SourceMapping["validate"]>[number];

export interface SourceContext {
  readonly defaults: WrittenDefaults;
  /** Relative paths count from here. */
  readonly baseFolder: string;
  readonly fault: Fault;
}

const DEFAULT_CHAIN: readonly StrategyName[] = [
  "latest_backup",
  "fs_snapshots",
  "git_history",
  "package_manager",
  "temp_files",
  "sqlite_wal",
  "manual_recovery",
];

/** One source; its name may still be doubled, see `uniqueNames`. */
export function resolveSource(written: WrittenSource, context: SourceContext): SourceConfiguration {
  const source: SourceMapping = typeof written === "string" ? { path: written } : written;
  const { defaults } = context;
  const paths = sourcePaths(source, context);
  return {
    name: firstOf(source.name, nameFor(paths[0])),
    paths,
    priority: firstOf(source.priority, defaults.priority, "medium"),
    frequency: resolveFrequency(firstOf(source.backup_frequency, "on_change"), context.fault),
    rpoMs: parseDurationMs(firstOf(source.rpo, defaults.rpo, "15m")),
    rtoMs: parseDurationMs(firstOf(source.rto, defaults.rto, "10m")),
    encryptionRequired: firstOf(source.encryption_required, false),
    compression: resolveCompression(firstOf(source.compress, defaults.compress, "auto")),
    onDelete: source.on_delete ?? defaults.on_delete,
    graceMs: parseDurationMs(firstOf(source.settle, source.grace, defaults.settle, "500ms")),
    restMs: parseDurationMs(firstOf(source.rest, defaults.rest, "250ms")),
    exclude: [...firstOf(defaults.exclude, []), ...firstOf(source.exclude, [])],
    sizeBytesMin: sizeOf(source.min_size),
    sizeBytesMax: sizeOf(source.max_size),
    oneFileSystem: firstOf(source.one_file_system, true),
    rules: firstOf(source.rules, []),
    validate: firstOf(source.validate, []).map((check) => resolveValidation(check, context)),
    canaries: firstOf(source.canaries, []),
    expect: firstOf(source.expect, []).map(({ match, min_files, max_age }) => ({
      match,
      filesMin: min_files ?? 1,
      ageMaxMs: max_age === undefined ? undefined : parseDurationMs(max_age),
    })),
    groups: firstOf(source.groups, []),
    recover: resolveRecover(firstOf(source.recover, defaults.recover, [])),
  };
}

/** The first that is set; the last always is. */
function firstOf<T>(...values: readonly [...(T | undefined)[], T]): T {
  return values.find((value) => value !== undefined) as T;
}

function sizeOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : parseSizeBytes(text);
}

function sourcePaths(source: SourceMapping, context: SourceContext): readonly BytePath[] {
  if (source.path !== undefined && source.paths !== undefined) {
    context.fault(["path"], "both path and paths are given", "keep one of them");
  }
  if (source.settle !== undefined && source.grace !== undefined) {
    context.fault(["grace"], "both settle and grace are given", "keep one of them");
  }
  const texts = source.paths ?? (source.path === undefined ? [] : [source.path]);
  if (texts.length === 0) context.fault([], "the source has no path", "add path: or paths:");
  return texts.map((text) => pathFromText(text, context.baseFolder));
}

/** A name out of a path: its last part without wildcards, or that of the folder above. */
export function nameFor(path: BytePath | undefined): string {
  if (path === undefined || path === "/") return "root";
  const whole = pathText(path);
  const last = /[*?[{]/.test(pathText(nameOf(path) as BytePath)) ? basename(dirname(whole)) : basename(whole);
  const clean = last.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return clean === "" ? "source" : clean.slice(0, 80);
}

/** Gives sources whose names were made from paths a number when the name is taken; a written name twice is a fault. */
export function uniqueNames(
  sources: readonly SourceConfiguration[],
  isWritten: readonly boolean[],
  fault: Fault,
): SourceConfiguration[] {
  const taken = new Set<string>();
  sources.forEach((source, index) => {
    if (isWritten[index] !== true) return;
    if (taken.has(source.name)) fault(["sources", index, "name"], `two sources are named "${source.name}"`, "");
    taken.add(source.name);
  });
  return sources.map((source, index) => {
    if (isWritten[index] === true) return source;
    let name = source.name;
    for (let count = 2; taken.has(name); count += 1) name = `${source.name}-${count}`;
    taken.add(name);
    return { ...source, name };
  });
}

function resolveCompression(text: string): CompressionConfiguration {
  if (text === "auto" || text === "lz4" || text === "none") return { kind: text, level: undefined };
  const level = text.split(":")[1];
  return { kind: "zstd", level: level === undefined ? 3 : Number(level) };
}

function resolveValidation(written: WrittenValidation, context: SourceContext): ValidateConfiguration {
  const { rules } = written;
  return {
    match: written.match,
    json: written.json ?? (written.schema !== undefined || rules !== undefined),
    yaml: written.yaml ?? false,
    text: written.text ?? false,
    format: written.format,
    sizeBytesMin: sizeOf(written.min_size),
    sizeBytesMax: sizeOf(written.max_size),
    schemaFile: written.schema === undefined ? undefined : pathText(pathFromText(written.schema, context.baseFolder)),
    rules:
      rules === undefined
        ? undefined
        : {
            required: rules.required ?? [],
            unique: rules.unique ?? [],
            uniqueAcrossFiles: rules.unique_across_files ?? [],
            timestamps: rules.timestamps ?? [],
            items:
              rules.items === undefined ? undefined : { path: rules.items.path, required: rules.items.required ?? [] },
          },
    command: written.command,
    timeoutMs: parseDurationMs(written.timeout ?? "10s"),
  };
}

/** Names of strategies form one chain for everything, after the written rules. */
function resolveRecover(written: WrittenRecover): readonly RecoverConfiguration[] {
  const rules: RecoverConfiguration[] = [];
  const names: StrategyName[] = [];
  for (const rule of written) {
    if (typeof rule === "string") names.push(rule);
    else rules.push({ match: rule.match, accept: rule.accept ?? "newer_valid", chain: rule.chain.map(resolveStep) });
  }
  const rest = names.length === 0 ? DEFAULT_CHAIN : names;
  return [...rules, { match: "**", accept: "newer_valid", chain: rest.map(resolveStep) }];
}

function resolveStep(written: WrittenStep): StrategyStep {
  if (typeof written === "string") return { strategy: written, parameters: {} };
  const { strategy, ...others } = written;
  const parameters: Record<string, unknown> = { ...others };
  const timeout = parameters["timeout"];
  if (typeof timeout === "string") {
    delete parameters["timeout"];
    parameters["timeout_ms"] = parseDurationMs(timeout);
  }
  return { strategy, parameters };
}
