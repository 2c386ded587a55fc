/** Completion scripts for bash, zsh and fish, made of the rows of the commands. */
import type { CommandSpec } from "./command.js";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** Global options by their long names, for every command. */
export const GLOBAL_FLAGS = [
  "--config",
  "--socket",
  "--state-dir",
  "--store",
  "--password-file",
  "--json",
  "--format",
  "--no-input",
  "--quiet",
  "--verbose",
  "--help",
] as const;

/** The script that a person puts where the shell looks for it. */
export function completionScript(shell: Shell, specs: readonly CommandSpec[]): string {
  const words = topWords(specs);
  if (shell === "fish") return fishScript(specs, words);
  const script = bashScript(specs, words);
  return shell === "bash" ? script : `#compdef holdfast\nautoload -U +X bashcompinit && bashcompinit\n${script}`;
}

function topWords(specs: readonly CommandSpec[]): string[] {
  const words = specs.flatMap((spec) => [spec.name.split(" ")[0] ?? "", ...(spec.aliases ?? [])]);
  return [...new Set([...words, "completion", "help"])].sort();
}

function flagsOf(spec: CommandSpec): string[] {
  return (spec.options ?? []).flatMap((option) => option.flags.split(/[ ,|]+/).filter((word) => word.startsWith("--")));
}

function bashScript(specs: readonly CommandSpec[], words: readonly string[]): string {
  const byTop = new Map<string, { flags: Set<string>; children: Set<string> }>();
  for (const spec of specs) {
    const [top, child] = spec.name.split(" ");
    for (const name of [top ?? "", ...(spec.aliases ?? [])]) {
      const entry = byTop.get(name) ?? { flags: new Set<string>(), children: new Set<string>() };
      for (const flag of flagsOf(spec)) entry.flags.add(flag);
      if (child !== undefined) entry.children.add(child);
      byTop.set(name, entry);
    }
  }
  const cases = [...byTop].map(([name, { flags, children }]) => {
    return `    ${name}) flags="${[...flags].join(" ")}"; children="${[...children].join(" ")}" ;;`;
  });
  return `# holdfast completion
_holdfast() {
  local current="\${COMP_WORDS[COMP_CWORD]}" command="" flags="" children="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) command="$word"; break ;; esac
  done
  case "$command" in
${cases.join("\n")}
    completion) children="${SHELLS.join(" ")}" ;;
    "") children="${words.join(" ")}" ;;
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags ${GLOBAL_FLAGS.join(" ")}" -- "$current"))
  else
    COMPREPLY=($(compgen -W "$children" -- "$current") $(compgen -f -- "$current"))
  fi
}
complete -o filenames -F _holdfast holdfast
`;
}

function fishScript(specs: readonly CommandSpec[], words: readonly string[]): string {
  const lines = ["# holdfast completion"];
  for (const word of words) {
    const spec = specs.find((each) => each.name === word || (each.aliases ?? []).includes(word));
    const about = spec === undefined ? "" : ` -d ${quoted(spec.summary)}`;
    lines.push(`complete -c holdfast -n __fish_use_subcommand -a ${word}${about}`);
  }
  for (const spec of specs) {
    const [top, child] = spec.name.split(" ");
    const under = `-n '__fish_seen_subcommand_from ${top ?? ""}'`;
    if (child !== undefined) lines.push(`complete -c holdfast ${under} -a ${child} -d ${quoted(spec.summary)}`);
    for (const flag of flagsOf(spec)) lines.push(`complete -c holdfast ${under} -l ${flag.slice(2)}`);
  }
  for (const flag of GLOBAL_FLAGS) lines.push(`complete -c holdfast -l ${flag.slice(2)}`);
  return `${lines.join("\n")}\n`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
