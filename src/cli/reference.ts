/** The reference page of the commands (`docs/commands.md`), made of their rows. */
import type { ArgumentSpec, CommandSpec } from "./command.js";

/** Every command with its arguments, options and examples, as Markdown. */
export function commandReference(specs: readonly CommandSpec[]): string {
  return `${[INTRODUCTION, ...specs.map(chapter)].join("\n\n")}\n`;
}

const INTRODUCTION = `# Commands

Made from the commands themselves by \`node scripts/reference.mjs\`; do not edit. \`holdfast help COMMAND\` shows the same.

Data goes to stdout, words to stderr. Every command takes these options:

- \`--json\` (or \`--format json\`): one JSON document on stdout, or JSON lines for \`ls\`, \`find\` and \`diff\`; an error is
  \`{"error":{"code","message","hint","details"}}\`
- \`--config FILE\`, \`--state-dir DIR\`, \`--socket PATH\`, \`--store PLACE\`, \`--password-file FILE\`: instead of the configured
  or default ones
- \`--quiet\`, \`--verbose\`, \`--no-input\`; \`NO_COLOR\` turns colours off

With a running daemon a command speaks to it over its socket. Without one, most commands open the repository themselves;
those that cannot (\`health\`, \`unprotect\`, \`pause\`, \`resume\`, \`alerts\`, \`config reload\`) end with exit code 20. Exit
codes and errors are listed in [errors.md](errors.md); \`holdfast explain CODE\` shows them too.

Times (\`--at\`) are written \`2026-01-31T12:00:00Z\`, \`"2026-01-31 12:00"\` (local), \`"10m ago"\`, \`2h\` or
\`"yesterday 14:00"\`.`;

function chapter(spec: CommandSpec): string {
  const words = (spec.arguments ?? []).map(argumentText);
  const aliases = (spec.aliases ?? []).map((alias) => ` (also \`holdfast ${alias}\`)`).join("");
  const shortForm = spec.isDefault === true ? ` (also \`holdfast ${spec.name.split(" ")[0] ?? ""}\`)` : "";
  const parts = [
    `## holdfast ${[spec.name, ...words].join(" ")}`,
    `${spec.summary}${aliases}${shortForm}`,
    ...(spec.details === undefined ? [] : [spec.details.replaceAll("\n", " ")]),
    ...listOf((spec.arguments ?? []).map((each) => `- \`${each.name.toUpperCase()}\`: ${each.description}`)),
    ...listOf((spec.options ?? []).map((each) => `- \`${each.flags}\`: ${each.description}${choices(each.choices)}`)),
    `\`\`\`sh\n${spec.examples.join("\n")}\n\`\`\``,
  ];
  return parts.join("\n\n");
}

function listOf(lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [lines.join("\n")];
}

function argumentText(argument: ArgumentSpec): string {
  const name = argument.isMany === true ? `${argument.name.toUpperCase()}...` : argument.name.toUpperCase();
  return argument.isOptional === true ? `[${name}]` : name;
}

function choices(values: readonly string[] | undefined): string {
  return values === undefined ? "" : ` (${values.join(", ")})`;
}
