/** Runs the command line in this process with its output caught, as if it had been typed. */
import { systemClock } from "../../src/base/clock.js";
import { runCommandLine } from "../../src/cli/program.js";

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly isTerminal?: boolean;
  readonly signal?: AbortSignal;
  /** Hears what goes to stderr while the command runs. */
  readonly onWords?: (words: string) => unknown;
}

/** Runs `holdfast ...args`. */
export async function runCli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const out: string[] = [];
  const err: string[] = [];
  const hear = (words: string): void => {
    err.push(words);
    options.onWords?.(words);
  };
  const isTTY = options.isTerminal ?? false;
  const exitCode = await runCommandLine(args, {
    stdout: { write: (data) => out.push(Buffer.from(data).toString("utf8")), isTTY },
    stderr: { write: (data) => hear(Buffer.from(data).toString("utf8")), isTTY },
    env: options.env ?? {},
    clock: systemClock,
    signal: options.signal ?? new AbortController().signal,
    isTerminal: isTTY,
    version: "0.1.0",
  });
  return { exitCode, stdout: out.join(""), stderr: err.join("") };
}
