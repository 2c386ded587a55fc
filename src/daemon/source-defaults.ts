/** The configuration of a source that was added at run time: the configured defaults, with its own name and paths. */
import { HoldfastError } from "../base/errors.js";
import { type BytePath, pathText } from "../base/paths.js";
import type { Configuration, OnDelete, Priority, SourceConfiguration } from "../config/configuration.js";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** What may be set of a source at run time; what is left out is as the configuration's `defaults` have it. */
export interface SourceSettings {
  readonly onDelete?: OnDelete;
  readonly priority?: Priority;
  readonly rpoMs?: number;
  readonly rtoMs?: number;
  /** Beside the configured ones. */
  readonly exclude?: readonly string[];
}

/** A source that was added at run time, as it was asked for. */
export interface AddedSource {
  readonly name: string;
  readonly paths: readonly BytePath[];
  readonly settings: SourceSettings;
}

/** Throws USAGE for a name that would not do as a label and in file names. */
export function configureSource(configuration: Configuration, added: AddedSource): SourceConfiguration {
  if (!NAME.test(added.name)) {
    throw new HoldfastError("USAGE", `"${added.name}" cannot be the name of a source`, {
      hint: "Use up to 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit.",
    });
  }
  const { sourceDefaults } = configuration;
  const { exclude = [], ...settings } = added.settings;
  return {
    ...sourceDefaults,
    ...settings,
    name: added.name,
    paths: added.paths,
    exclude: [...sourceDefaults.exclude, ...exclude],
  };
}

/** Longest name made out of a path; a number behind it still fits `NAME`. */
const MADE_NAME_MAX = 60;

/** A free name for a source over a path: the path's last name, with a number behind it when that is taken. */
export function freeSourceName(path: BytePath, isTaken: (name: string) => boolean): string {
  const letters =
    pathText(path)
      .split("/")
      .at(-1)
      ?.replace(/[^A-Za-z0-9._-]/g, "-") ?? "";
  const base = letters.replace(/^[^A-Za-z0-9]+/, "").slice(0, MADE_NAME_MAX) || "root";
  let name = base;
  for (let count = 2; isTaken(name); count += 1) name = `${base}-${String(count)}`;
  return name;
}
