/**
 * One source as the daemon holds it: its configuration, the file source that walks it, and what its settings mean to
 * the monitor and to the healer.
 */
import { type BytePath, isWithin, pathText } from "../base/paths.js";
import type {
  OnDelete,
  RecoverConfiguration,
  SourceConfiguration,
  ValidateConfiguration,
} from "../config/configuration.js";
import type { NodeKind } from "../engine/types.js";
import type { MassLimits, SourceSettings } from "../monitor/ports.js";
import { type ProtectionMode, matcherOf } from "../monitor/rules.js";
import { type Check, DEFAULT_VALIDATION, type ValidationRule } from "../monitor/validator.js";
import { withImplied } from "../recovery/chain.js";
import type { HealPolicy } from "../recovery/ports.js";
import { FileSource } from "../sources/files.js";
import type { AddedSource } from "./source-defaults.js";

const MODE_OF: Readonly<Record<OnDelete, ProtectionMode>> = { heal: "protect", hold: "ask", allow: "mirror" };

export interface SourceSurroundings {
  /** Store and state folder: never part of a source. */
  readonly ownFolders: readonly BytePath[];
  readonly knownKind: (path: BytePath) => NodeKind | undefined;
}

export class ProtectedSource {
  readonly configuration: SourceConfiguration;
  readonly files: FileSource;
  /** How it was asked for at run time; undefined: it stands in the configuration. */
  readonly added: AddedSource | undefined;
  readonly #chains: readonly { readonly matches: ReturnType<typeof matcherOf>; readonly entry: RecoverConfiguration }[];

  constructor(configuration: SourceConfiguration, surroundings: SourceSurroundings, added: AddedSource | undefined) {
    this.configuration = configuration;
    this.added = added;
    this.files = new FileSource({
      name: configuration.name,
      paths: configuration.paths,
      exclude: configuration.exclude,
      sizeBytesMin: configuration.sizeBytesMin,
      sizeBytesMax: configuration.sizeBytesMax,
      ownFolders: surroundings.ownFolders,
      crossMounts: !configuration.oneFileSystem,
      knownKind: surroundings.knownKind,
    });
    this.#chains = configuration.recover.map((entry) => ({ matches: matcherOf(entry.match), entry }));
  }

  /** True when it came by `holdfast protect`, false when it stands in the configuration. */
  get addedAtRunTime(): boolean {
    return this.added !== undefined;
  }

  get name(): string {
    return this.configuration.name;
  }

  /** True when something in its folders may not belong to it, and is therefore stored nowhere. */
  get leavesOut(): boolean {
    const { exclude, sizeBytesMin, sizeBytesMax } = this.configuration;
    const isPartial = this.files.roots.some((root) => !root.whole);
    return isPartial || exclude.length > 0 || sizeBytesMin !== undefined || sizeBytesMax !== undefined;
  }

  /** Real folders that hold the source. */
  get folders(): readonly BytePath[] {
    return this.files.roots.map((root) => root.folder);
  }

  /** Whether the path lies at or below one of the source's folders and belongs to it. */
  holds(path: BytePath): boolean {
    return this.files.includes(path) || this.files.includes(path, "folder");
  }

  /** What the monitor is told. */
  monitorSettings(mass: MassLimits): SourceSettings {
    const { configuration } = this;
    return {
      ...(configuration.onDelete === undefined ? {} : { mode: MODE_OF[configuration.onDelete] }),
      rules: configuration.rules,
      validation: [...configuration.validate.map(validationRule), ...DEFAULT_VALIDATION],
      graceMs: configuration.graceMs,
      restMs: configuration.restMs,
      canaries: configuration.canaries,
      expect: configuration.expect,
      groups: configuration.groups,
      mass,
    };
  }

  /** What the healer is to do for a path of this source, in the mode that the monitor's rules gave. */
  healPolicy(path: BytePath, mode: ProtectionMode, mass: "hold" | "heal"): HealPolicy {
    const entry = this.#chains.find(({ matches }) => matches(path, this.folders))?.entry;
    return {
      mode,
      priority: this.configuration.priority,
      accept: entry?.accept ?? "newer_valid",
      chain: entry?.chain ?? [],
      mass,
      root: this.folders.find((folder) => isWithin(path, folder)) ?? ("/" as BytePath),
    };
  }

  /** Names of the strategies that a heal of a path asks, in order. */
  chainOf(path: BytePath): readonly string[] {
    const entry = this.#chains.find(({ matches }) => matches(path, this.folders))?.entry;
    return withImplied(entry?.chain ?? []).map((step) => step.strategy);
  }

  /** Its paths as text, for people. */
  get pathTexts(): readonly string[] {
    return this.configuration.paths.map(pathText);
  }
}

function validationRule(entry: ValidateConfiguration): ValidationRule {
  const checks: Check[] = [];
  if (entry.json) checks.push({ kind: "json" });
  if (entry.yaml) checks.push({ kind: "yaml" });
  if (entry.text) checks.push({ kind: "text" });
  if (entry.format !== undefined) checks.push({ kind: entry.format });
  const { sizeBytesMin: bytesMin, sizeBytesMax: bytesMax } = entry;
  if (bytesMin !== undefined || bytesMax !== undefined) checks.push({ kind: "size", bytesMin, bytesMax });
  if (entry.schemaFile !== undefined) checks.push({ kind: "schema", schemaFile: entry.schemaFile });
  if (entry.rules !== undefined) checks.push({ kind: "rules", rules: entry.rules });
  if (entry.command !== undefined) checks.push({ kind: "command", command: entry.command });
  return { match: entry.match, checks, timeoutMs: entry.timeoutMs };
}
