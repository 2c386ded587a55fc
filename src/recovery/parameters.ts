/**
 * Reading a chain step's parameters: what a person wrote in the configuration, unknown until looked at. A wrong value
 * is a CONFIG_INVALID that names the strategy, the key and what would be right.
 */
import { HoldfastError } from "../base/errors.js";

export type Parameters = Readonly<Record<string, unknown>>;

export class ParameterReader {
  readonly #strategy: string;
  readonly #parameters: Parameters;

  constructor(strategy: string, parameters: Parameters) {
    this.#strategy = strategy;
    this.#parameters = parameters;
  }

  text(name: string): string | undefined {
    const value = this.#parameters[name];
    if (value === undefined || typeof value === "string") return value;
    throw this.wrong(name, "text");
  }

  /** A finite number in the given bounds. */
  number(name: string, bounds: { readonly min: number; readonly max: number }): number | undefined {
    const value = this.#parameters[name];
    if (value === undefined) return undefined;
    if (typeof value === "number" && value >= bounds.min && value <= bounds.max) return value;
    throw this.wrong(name, `a number from ${String(bounds.min)} to ${String(bounds.max)}`);
  }

  flag(name: string): boolean {
    const value = this.#parameters[name] ?? false;
    if (typeof value === "boolean") return value;
    throw this.wrong(name, "true or false");
  }

  /** A list of texts; one text stands for a list of one. */
  texts(name: string): readonly string[] | undefined {
    const value = this.#parameters[name];
    if (value === undefined) return undefined;
    const list: unknown[] = Array.isArray(value) ? value : [value];
    if (list.every((item) => typeof item === "string")) return list;
    throw this.wrong(name, "a list of texts");
  }

  /** A mapping of names to anything. */
  mapping(name: string): Parameters | undefined {
    const value = this.#parameters[name];
    if (value === undefined) return undefined;
    if (isMapping(value)) return value;
    throw this.wrong(name, "a mapping");
  }

  /** One of the given texts. */
  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const found = choices.find((choice) => choice === value);
    if (found === undefined) throw this.wrong(name, `one of ${choices.join(", ")}`);
    return found;
  }

  wrong(name: string, wanted: string): HoldfastError {
    return new HoldfastError("CONFIG_INVALID", `${this.#strategy}: "${name}" must be ${wanted}`);
  }
}

/** True for a plain mapping, as YAML and JSON make them. */
export function isMapping(value: unknown): value is Parameters {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The age that a step allows without asking (`max_age_hours`), ms; undefined when it sets none. */
export function maxAgeMsOf(strategy: string, parameters: Parameters): number | undefined {
  const hours = new ParameterReader(strategy, parameters).number("max_age_hours", { min: 0, max: 1e6 });
  return hours === undefined ? undefined : hours * 3_600_000;
}
