/** Builds the command parser out of the rows, runs what was asked, and turns every outcome into an exit code. */
import { Command, CommanderError, Option } from "commander";
import { EXIT } from "../base/error-codes.js";
import { HoldfastError } from "../base/errors.js";
import { type CommandContext, type CommandSpec, type Options, argument } from "./command.js";
import { backupCommands } from "./commands/backups.js";
import { browseCommands } from "./commands/browse.js";
import { auditCommands } from "./commands/audit.js";
import { operateCommands } from "./commands/operate.js";
import { upkeepCommands } from "./commands/upkeep.js";
import { recoveryCommands } from "./commands/recovery.js";
import { restoreCommands } from "./commands/restore.js";
import { watchCommands } from "./commands/watch.js";
import { SHELLS, completionScript } from "./completion.js";
import { CliContext, type CliSurroundings } from "./context.js";
import { parserError, tellError } from "./errors.js";
import { Output } from "./output.js";

const FAMILIES: Readonly<Record<string, string>> = {
  incidents: "What was lost or damaged, what was done, what waits for a person.",
  keys: "What opens the repository.",
  alerts: "Alerts and channels.",
  audit: "Who did what.",
  config: "The configuration.",
  serve: "Backups for programs that cannot mount.",
};

const completionCommand: CommandSpec = {
  name: "completion",
  summary: "Print the completion script of a shell.",
  arguments: [{ name: "shell", description: "bash, zsh or fish" }],
  examples: ["holdfast completion bash > /etc/bash_completion.d/holdfast", "holdfast completion fish | source"],
  run: (context, args) => {
    const shell = SHELLS.find((name) => name === argument(args, 0));
    if (shell === undefined) throw new HoldfastError("USAGE", "completion is for bash, zsh or fish");
    context.output.print(completionScript(shell, allCommands).trimEnd());
    return Promise.resolve(EXIT.ok);
  },
};

/** Every command of this version, in the order of the help. */
export const allCommands: readonly CommandSpec[] = [
  ...watchCommands,
  ...backupCommands,
  ...browseCommands,
  ...restoreCommands,
  ...recoveryCommands,
  ...operateCommands,
  ...auditCommands,
  ...upkeepCommands,
  completionCommand,
];

/** Options of every command that are followed by a value. */
const VALUE_FLAGS: ReadonlySet<string> = new Set([
  "--config",
  "--socket",
  "--state-dir",
  "--store",
  "--password-file",
  "--format",
]);

/** The command that was asked for, known before anything is parsed; "" when there is none. */
export function commandWord(args: readonly string[]): string {
  return args.find((arg, index) => !arg.startsWith("-") && !VALUE_FLAGS.has(args[index - 1] ?? "")) ?? "";
}

/** Runs one command line; gives its exit code. Never throws. */
export async function runCommandLine(args: readonly string[], around: CliSurroundings): Promise<number> {
  let output = outputFor(args, around);
  let exitCode: number = EXIT.ok;
  const program = buildProgram(around, async (spec, words, options) => {
    output = outputFor(args, around, options);
    await using context = new CliContext(output, options, around);
    exitCode = (await spec.run(context satisfies CommandContext, words, options)) ?? EXIT.ok;
  });
  try {
    if (args.length === 0) {
      program.outputHelp({ error: true });
      return EXIT.usage;
    }
    await program.parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) return tellError(output, error);
    const wrongUsage = unknownInFamily(args) ?? parserError(error, args);
    return wrongUsage === undefined ? EXIT.ok : tellError(output, wrongUsage);
  }
}

/** A family's first command is taken where none is named; a word that names none must not pass for its argument. */
function unknownInFamily(args: readonly string[]): HoldfastError | undefined {
  const [family = "", word] = args.filter((arg) => !arg.startsWith("-"));
  const names = allCommands.map(({ name }) => name.split(" ")).filter(([first, second]) => first === family && second);
  const isKnown = names.some(([, second]) => second === word) || word === "help";
  if (names.length === 0 || word === undefined || isKnown) return undefined;
  const known = names.map(([, second]) => second).join(", ");
  return new HoldfastError("USAGE", `unknown command '${word}' of ${family}`, { hint: `One of ${known}.` });
}

/** Before the options are parsed an error must already know whether JSON was asked for. */
function outputFor(args: readonly string[], around: CliSurroundings, options: Options = {}): Output {
  const has = (flag: string): boolean => args.includes(flag);
  const isJson = has("--json") || options["format"] === "json" || has("--format=json");
  return new Output({
    stdout: around.stdout,
    stderr: around.stderr,
    env: around.env,
    json: isJson,
    quiet: has("--quiet") || has("-q"),
    verbose: has("--verbose"),
  });
}

type Runner = (spec: CommandSpec, args: readonly string[], options: Options) => Promise<void>;

function buildProgram(around: CliSurroundings, run: Runner): Command {
  const program = new Command("holdfast")
    .description("Files that come back: watches folders, keeps every change, puts lost or damaged files back.")
    .version(around.version, "--version", "print the version")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void around.stdout.write(text),
      writeErr: (text) => {
        if (!text.startsWith("error:")) around.stderr.write(text);
      },
    })
    .option("--config <file>", "configuration file")
    .option("--socket <path>", "control socket of the daemon")
    .option("--state-dir <dir>", "folder of holdfast's own state")
    .option("--store <place>", "repository, instead of the configured one")
    .option("--password-file <file>", "file with the repository's password")
    .option("--json", "one JSON document, or JSON lines while it streams")
    .addOption(new Option("--format <form>", "json or table").choices(["json", "table"]))
    .option("--no-input", "never ask")
    .option("-q, --quiet", "print results and errors only")
    .option("--verbose", "say more")
    .addHelpText(
      "after",
      "\nExamples:\n  holdfast protect ~/notes\n  holdfast status\n  holdfast restore --backup-id latest --target /tmp/back\n\nExit codes and errors: holdfast explain CODE",
    );
  const families = new Map<string, Command>();
  for (const spec of allCommands) addCommand(program, families, spec, run);
  return program;
}

function addCommand(program: Command, families: Map<string, Command>, spec: CommandSpec, run: Runner): void {
  const [first = "", second] = spec.name.split(" ");
  const parent = second === undefined ? program : familyOf(program, families, first);
  const command = parent.command(second ?? first, { isDefault: second !== undefined && spec.isDefault === true });
  command.description(spec.summary);
  if (spec.aliases !== undefined) command.aliases([...spec.aliases]);
  for (const each of spec.arguments ?? []) {
    const name = each.isMany === true ? `${each.name}...` : each.name;
    command.argument(each.isOptional === true ? `[${name}]` : `<${name}>`, each.description);
  }
  for (const each of spec.options ?? []) {
    const option = new Option(each.flags, each.description);
    command.addOption(each.choices === undefined ? option : option.choices([...each.choices]));
  }
  if (spec.details !== undefined) command.addHelpText("after", `\n${spec.details}`);
  command.addHelpText("after", `\nExamples:\n${spec.examples.map((example) => `  ${example}`).join("\n")}`);
  command.action(async () => {
    const words = command.processedArgs.flat().filter((word): word is string => typeof word === "string");
    await run(spec, words, command.optsWithGlobals<Options>());
  });
}

function familyOf(program: Command, families: Map<string, Command>, name: string): Command {
  const known = families.get(name);
  if (known !== undefined) return known;
  const family = program.command(name).description(FAMILIES[name] ?? "");
  families.set(name, family);
  return family;
}
