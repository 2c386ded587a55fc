/**
 * The report of a recovery as a file: JSON for programs, Markdown for a ticket, HTML for people to read and print. The
 * ending of the file's name says which. Names of any bytes are shown, never interpreted.
 */
import { extname } from "node:path";
import type { CandidateDocument, RecoverReport } from "../api/services.js";
import { writeFileDurably } from "../base/atomic-file.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import { formatDuration, formatSize } from "../base/units.js";
import { printable } from "./output.js";
import { type RecoveryReportDocument, shownPath, summaryText } from "./recovery-document.js";
import { recoveryHtml } from "./recovery-html.js";
import { scoreText, searchedText } from "./recovery-screen.js";

type Form = (report: RecoveryReportDocument) => string;

const FORMS: Readonly<Record<string, Form>> = {
  ".json": (report) => `${JSON.stringify(report, undefined, 2)}\n`,
  ".md": recoveryMarkdown,
  ".html": recoveryHtml,
};

/** Throws USAGE when the name's ending is none that a report has; so that it is said before any work begins. */
export function checkReportName(file: string | undefined): void {
  if (file !== undefined && FORMS[extname(file).toLowerCase()] === undefined)
    throw new HoldfastError("USAGE", `a report's name ends with ${Object.keys(FORMS).join(", ")}: ${file}`, {
      hint: "holdfast recover --all --report recovery.html",
    });
}

/** Writes the report so that the old file or the whole new one is there, readable by its owner only. Throws USAGE. */
export async function writeReport(file: string, report: RecoveryReportDocument): Promise<void> {
  checkReportName(file);
  const text = FORMS[extname(file).toLowerCase()]?.(report) ?? "";
  try {
    await writeFileDurably(file, text);
  } catch (error) {
    throw new HoldfastError("USAGE", `the report cannot be written to ${file}: ${messageOf(error)}`, { cause: error });
  }
}

function recoveryMarkdown(report: RecoveryReportDocument): string {
  const lines = [
    `# Recovery on ${markdown(report.hostname)}, ${report.started_at}`,
    "",
    summaryText(report),
    "",
    "| file | outcome | from | age at the loss | time | why |",
    "|---|---|---|---|---|---|",
    ...report.results.map(fileRow),
  ];
  const unlisted = report.paths_total - report.results.length;
  if (unlisted > 0) lines.push("", `${unlisted} more are not listed.`);
  for (const result of report.results) if (result.candidates.length > 0) lines.push(...candidateSection(result));
  lines.push("", `Written by holdfast ${markdown(report.holdfast)} at ${report.created_at}.`);
  return `${lines.join("\n")}\n`;
}

function fileRow(result: RecoverReport): string {
  const age = result.age_seconds === null ? "" : formatDuration(Math.max(0, result.age_seconds * 1000));
  const from = result.strategy === null ? "" : `${result.strategy}: ${result.origin ?? ""}`;
  return row([
    shownPath(result),
    result.outcome,
    from,
    age,
    formatDuration(result.duration_ms),
    [result.message, ...result.gaps].join("; "),
  ]);
}

function candidateSection(result: RecoverReport): readonly string[] {
  const empty = result.searched.filter(({ found }) => found === 0).map(searchedText);
  return [
    "",
    `## ${markdown(shownPath(result))}`,
    "",
    "| verdict | score | strategy | where from | last changed | size | checks | why |",
    "|---|---|---|---|---|---|---|---|",
    ...result.candidates.map(candidateRow),
    ...(empty.length === 0 ? [] : ["", `Nothing in: ${markdown(empty.join(", "))}.`]),
    ...result.notes.flatMap((note) => ["", `Note: ${markdown(note)}`]),
    ...result.manual_commands.flatMap((command, index) => [
      ...(index === 0 ? ["", "To try:", ""] : []),
      `    ${printable(command)}`,
    ]),
  ];
}

function candidateRow(candidate: CandidateDocument): string {
  return row([
    candidate.verdict,
    candidate.score === null ? "?" : `${candidate.score} (${scoreText(candidate)})`,
    candidate.strategy,
    candidate.origin,
    candidate.modified_at ?? "?",
    candidate.size_bytes === null ? "?" : formatSize(candidate.size_bytes),
    candidate.checks.join("; "),
    candidate.why,
  ]);
}

function row(cells: readonly string[]): string {
  return `| ${cells.map(markdown).join(" | ")} |`;
}

/** Text that Markdown shows as it is: neither markup nor HTML nor the end of a cell. */
function markdown(text: string): string {
  return printable(text).replace(/[\\`*_{}[\]<>()#+!|&~-]/g, (character) =>
    character === "<"
      ? "&lt;"
      : character === "&"
        ? "&amp;"
        : /[-()+#!]/.test(character)
          ? character
          : `\\${character}`,
  );
}
