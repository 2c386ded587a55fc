/** How an error ends a command: one line that says what failed, why, and what to do; or its JSON form; and the exit code. */
import { EXIT } from "../base/error-codes.js";
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import { type Output, printable } from "./output.js";

/** Tells the error and gives the exit code. */
export function tellError(output: Output, thrown: unknown): number {
  const error = asHoldfastError(thrown);
  if (output.json) output.document({ error: error.toDocument() });
  else output.insist(errorText(error));
  if (output.verbose && error.stack !== undefined) output.detail(error.stack);
  return error.exitCode;
}

/** `holdfast: what failed: why (CODE). What was done. Fix: what to do.` */
export function errorText(error: HoldfastError): string {
  // A message of several lines (all faults of a configuration) keeps them; names in it are made harmless.
  const message = error.message.split("\n").map(printable).join("\n  ");
  const done = typeof error.details["done"] === "string" ? ` ${printable(error.details["done"])}` : "";
  const hint = error.hint === "" ? "" : ` Fix: ${sentence(printable(error.hint))}`;
  return `holdfast: ${message.replace(/[.\s]+$/, "")} (${error.code}).${done}${hint}`;
}

function sentence(text: string): string {
  return /[.!?`]$/.test(text) ? text : `${text}.`;
}

/** Commands of the whole design that this version does not have. */
export const LATER_COMMANDS: ReadonlySet<string> = new Set([
  "dr-test",
  "dr",
  "kit",
  "anomalies",
  "train",
  "forecast",
  "estimate",
  "token",
  "tiers",
  "replicate",
  "hold",
  "record-verification",
]);

interface CommanderFailure {
  readonly code: string;
  readonly message: string;
  readonly exitCode: number;
}

/** A fault of the command parser as ours; `undefined` when it only means that help or the version was shown. */
export function parserError(failure: CommanderFailure, args: readonly string[]): HoldfastError | undefined {
  if (failure.exitCode === EXIT.ok) return undefined;
  const named = args.find((arg) => !arg.startsWith("-")) ?? "";
  if (failure.code === "commander.unknownCommand" && LATER_COMMANDS.has(named)) {
    return new HoldfastError("USAGE", `\`${named}\` is not part of this version`, {
      hint: "`holdfast help` lists what is.",
    });
  }
  if (failure.code === "commander.help") {
    const wanted =
      named === "help"
        ? args
            .filter((arg) => !arg.startsWith("-"))
            .slice(1)
            .join(" ")
        : "";
    const message = wanted === "" ? `${named} needs a command` : `unknown command '${wanted}'`;
    return new HoldfastError("USAGE", message, { hint: `See \`holdfast help${wanted === "" ? ` ${named}` : ""}\`.` });
  }
  const [first, ...others] = failure.message.replace(/^error: /, "").split("\n");
  const suggestion = /\(Did you mean (.+)\?\)/.exec(others.join(" "))?.[1];
  const hint = suggestion === undefined ? "See `holdfast help`." : `Did you mean ${suggestion}?`;
  return new HoldfastError("USAGE", first ?? "wrong usage", { hint });
}
