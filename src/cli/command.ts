/**
 * What a command is: a row with its name, arguments, options, examples and what it runs. From the rows come the
 * parser, the help, the completion scripts and `docs/commands.md`.
 */
import type { ApiClient } from "../api/client.js";
import type { JobDocument } from "../api/services.js";
import type { Clock } from "../base/clock.js";
import { HoldfastError } from "../base/errors.js";
import type { Output } from "./output.js";

/** Options of every command. */
export interface GlobalOptions {
  readonly config?: string;
  readonly socket?: string;
  readonly stateDir?: string;
  readonly store?: string;
  readonly passwordFile?: string;
}

/** What a command works with. */
export interface CommandContext {
  readonly output: Output;
  readonly globals: GlobalOptions;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Aborts on Ctrl-C. */
  readonly signal: AbortSignal;
  /** False with `--no-input`, or when nobody sits at a terminal. */
  readonly mayAsk: boolean;
  /** Of this program. */
  readonly version: string;
  /**
   * The API: of the daemon, or of this process when no daemon runs and `need` is `alone`.
   * Throws DAEMON_UNREACHABLE, or what opening the repository throws.
   */
  api(need: "daemon" | "alone"): Promise<ApiClient>;
  /** Follows a job to its end with progress; Ctrl-C cancels it. Gives the finished job's result. */
  follow<T>(api: ApiClient, job: JobDocument): Promise<T>;
}

export interface ArgumentSpec {
  readonly name: string;
  readonly description: string;
  readonly isOptional?: boolean;
  /** The last one may stand many times. */
  readonly isMany?: boolean;
}

export interface OptionSpec {
  /** As commander writes it: `--filter <text>`. */
  readonly flags: string;
  readonly description: string;
  readonly choices?: readonly string[];
}

export type Options = Readonly<Record<string, unknown>>;

export interface CommandSpec {
  /** One word, or two for a family: `incidents show`. */
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** What a person should know before running it; whole sentences. */
  readonly details?: string;
  readonly arguments?: readonly ArgumentSpec[];
  readonly options?: readonly OptionSpec[];
  readonly examples: readonly string[];
  /** True: runs when only the family's name was given. */
  readonly isDefault?: boolean;
  /** Gives the exit code; undefined is 0. */
  readonly run: (context: CommandContext, args: readonly string[], options: Options) => Promise<number | undefined>;
}

/** A text option, or undefined. */
export function textOption(options: Options, name: string): string | undefined {
  const value = options[name];
  return typeof value === "string" ? value : undefined;
}

/** A text option that must be there. Throws USAGE. */
export function requiredOption(options: Options, name: string, flag: string): string {
  const value = textOption(options, name);
  if (value === undefined) throw new HoldfastError("USAGE", `${flag} is missing`);
  return value;
}

/** A comma list, empty when it was not given. */
export function listOption(options: Options, name: string): string[] {
  return (textOption(options, name) ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

/** True when a switch was given. */
export function isSet(options: Options, name: string): boolean {
  return options[name] === true;
}

/** An argument that the parser has seen to be there. */
export function argument(args: readonly string[], index: number): string {
  return args[index] ?? "";
}

/** `?a=1&b=2` of what is set, or "". */
export function queryText(fields: Readonly<Record<string, string | number | boolean | undefined>>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value));
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}
