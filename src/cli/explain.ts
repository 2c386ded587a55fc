/** `holdfast explain`: what an error code or an exit code means, or why a path is treated as it is. */
import type { ExplainDocument } from "../api/watch-service.js";
import { ERROR_CODES, EXIT, EXIT_MEANINGS } from "../base/error-codes.js";
import type { ErrorCode } from "../base/errors.js";
import { pathFromText, pathText } from "../base/paths.js";
import { type CommandContext, queryText } from "./command.js";
import { printable } from "./output.js";

const EXIT_NAMES = Object.keys(EXIT) as readonly (keyof typeof EXIT)[];

/** Prints meaning, fix and exit code of a code that is in the table. */
export function explainCode(context: CommandContext, code: string): void {
  const entry = ERROR_CODES[code as ErrorCode];
  const { output } = context;
  if (output.json) {
    output.document({ code, meaning: entry.meaning, hint: entry.hint, exit_code: entry.exit });
    return;
  }
  output.print(`${output.bold(code)}: ${entry.meaning}`);
  output.print(`  Fix: ${entry.hint}`);
  output.print(`  Exit code: ${entry.exit}`);
}

/** Prints what an exit code means and which errors end with it; false: there is no such exit code. */
export function explainExit({ output }: CommandContext, what: string): boolean {
  const [name] = EXIT_NAMES.filter((known) => String(EXIT[known]) === what);
  if (name === undefined) return false;
  const meaning = EXIT_MEANINGS[name];
  const codes = Object.entries(ERROR_CODES).filter(([, { exit }]) => exit === EXIT[name]);
  const named = codes.map(([code]) => code);
  if (output.json) {
    output.document({ exit_code: EXIT[name], meaning, codes: named });
    return true;
  }
  output.print(`${output.bold(`Exit code ${what}`)}: ${meaning}`);
  if (named.length > 0) output.print(`  Errors: ${named.join(", ")}`);
  return true;
}

/** Prints which rule decides about a path. */
export async function explainPath(context: CommandContext, what: string): Promise<void> {
  const api = await context.api("alone");
  const path = pathText(pathFromText(what));
  const found = await api.get<ExplainDocument>(`/explain${queryText({ path })}`, context.signal);
  const { output } = context;
  if (output.json) {
    output.document(found);
    return;
  }
  output.print(
    `${output.bold(printable(found.path))}: ${found.protected ? `protected, mode ${found.mode}` : "not protected"}`,
  );
  output.print(`  source      ${found.source === null ? "none" : printable(found.source)}`);
  output.print(`  rule        ${printable(found.rule)}`);
  output.print(`  why         ${printable(found.why)}`);
  output.print(`  validators  ${found.validators.map(printable).join(", ") || "none"}`);
  printRecovery(context, found);
}

/** The chain, what of it has nothing, and how to see what the rest has. */
function printRecovery({ output }: CommandContext, found: ExplainDocument): void {
  const chain = found.recovery_chain.map(printable).join(" -> ");
  const more = chain === "" ? [] : [`what each of them has: holdfast recover --explain ${printable(found.path)}`];
  const [first = "none", ...others] = [...(chain === "" ? [] : [chain]), ...found.recovery_notes, ...more];
  output.print(`  recovery    ${first}`);
  for (const line of others) output.print(`              ${line}`);
}
