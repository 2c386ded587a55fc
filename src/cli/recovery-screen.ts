/** How a recovery looks in a terminal: what was found where, how old it is, what was checked, and why one was taken. */
import type {
  BatchReport,
  CandidateDocument,
  IncidentDocument,
  RecoverReport,
  SearchedDocument,
} from "../api/services.js";
import { counted, formatDuration, formatSize } from "../base/units.js";
import { shownPath } from "./recovery-document.js";
import { type Output, printable } from "./output.js";
import { timeText } from "./time.js";

/** Files that did not come back which are named; `--report` and `--json` have more. */
const LISTED_MAX = 20;

/** One file's recovery, or what `--explain` found. */
export function printRecovery(output: Output, report: RecoverReport): void {
  const path = printable(shownPath(report));
  if (report.outcome === "explained") output.print(`${output.bold(path)}: ${printable(report.message)}`);
  else if (report.outcome === "healed") {
    const age = report.age_seconds === null ? "" : `, as it was ${formatDuration(report.age_seconds * 1000)} before`;
    const from = `${report.strategy ?? "?"} (${printable(report.origin ?? "?")})`;
    output.print(`${output.good("recovered")} ${path} from ${from}${age}, in ${formatDuration(report.duration_ms)}`);
  } else output.print(`${OUTCOMES[report.outcome]} ${path}: ${printable(report.message)}`);
  printSearch(output, report);
  printManual(output, report.manual_commands);
}

/** The sums of many, and which did not come back. */
export function printBatch(output: Output, report: BatchReport): void {
  const took = formatDuration(report.duration_ms);
  output.print(`${report.healed} of ${counted(report.paths_total, "file")} came back in ${took}`);
  if (report.returned > 0) output.print(`${report.returned} had come back by themselves`);
  for (const result of report.results.filter(isNotBack).slice(0, LISTED_MAX))
    output.print(`  not recovered: ${printable(shownPath(result))}: ${printable(result.message)}`);
  if (report.failed > 0) output.say("See what was tried: holdfast incidents list --open");
}

/** What went from quarantine back to its place, and how that is undone. */
export function printPutBack(output: Output, { put_back: files = [], quarantined, id }: IncidentDocument): void {
  for (const file of files.slice(0, LISTED_MAX)) {
    const what = `${formatSize(file.size_bytes)}, written ${timeText(file.modified_at)}`;
    output.print(
      `${output.good("put back")} ${printable(shownPath(file))}: ${what}, in quarantine since ${timeText(file.quarantined_at)}`,
    );
  }
  if (files.length > LISTED_MAX) output.print(`and ${files.length - LISTED_MAX} more; see --json`);
  if (quarantined)
    output.say(`What stood there is in quarantine now. To undo: holdfast incidents restore-quarantined ${id}`);
}

const OUTCOMES: Readonly<Record<Exclude<RecoverReport["outcome"], "explained" | "healed">, string>> = {
  failed: "not recovered:",
  returned: "already there:",
  waiting: "waiting for approval:",
};

function isNotBack({ outcome }: RecoverReport): boolean {
  return outcome === "failed" || outcome === "waiting";
}

/** What was looked at: the candidates as a table with the reasons below it, and the strategies that had none. */
export function printSearch(
  output: Output,
  search: {
    readonly candidates: readonly CandidateDocument[];
    readonly searched: readonly SearchedDocument[];
    readonly notes: readonly string[];
  },
): void {
  if (search.candidates.length > 0) {
    output.table(COLUMNS, search.candidates.map(cells));
    for (const [index, candidate] of search.candidates.entries()) printReasons(output, index + 1, candidate);
  }
  const empty = search.searched.filter(({ found }) => found === 0);
  if (empty.length > 0) output.print(`nothing in: ${empty.map(searchedText).join(", ")}`);
  for (const note of search.notes) output.print(`note: ${printable(note)}`);
}

const COLUMNS = [
  { title: "#", align: "right" },
  { title: "VERDICT" },
  { title: "SCORE", align: "right" },
  { title: "STRATEGY" },
  { title: "WHERE FROM" },
  { title: "LAST CHANGED" },
  { title: "AGE", align: "right" },
  { title: "SIZE", align: "right" },
] as const;

function cells(candidate: CandidateDocument, index: number): readonly string[] {
  return [
    String(index + 1),
    candidate.verdict,
    candidate.score === null ? "?" : String(candidate.score),
    candidate.strategy,
    candidate.origin,
    candidate.modified_at === null ? "?" : timeText(candidate.modified_at),
    candidate.age_seconds === null ? "?" : formatDuration(candidate.age_seconds * 1000),
    candidate.size_bytes === null ? "?" : formatSize(candidate.size_bytes),
  ];
}

function printReasons(output: Output, number: number, candidate: CandidateDocument): void {
  output.print(`${String(number).padStart(3)}  ${candidate.verdict}: ${printable(candidate.why)}`);
  for (const check of candidate.checks) output.print(`       ${printable(check)}`);
  const points = scoreText(candidate);
  if (points !== "") output.print(`       points: ${points}`);
  if (candidate.verdict === "offered" && candidate.command !== null)
    output.print(`       to get it: ${printable(candidate.command)}`);
}

/** The points that make up a score, such as `validity 60, freshness 24`; "" when none are known. */
export function scoreText({ score_parts: parts }: CandidateDocument): string {
  if (parts === null) return "";
  const given = Object.entries(parts).filter(([, points]) => points > 0);
  return given.length === 0 ? "none" : given.map(([name, points]) => `${name} ${points}`).join(", ");
}

/** `git_history`, with what is special about it. */
export function searchedText({ strategy, outcome }: SearchedDocument): string {
  if (outcome === "failed") return `${strategy} (could not look)`;
  return outcome === "skipped" ? `${strategy} (not asked)` : strategy;
}

/** Commands that are left to a person. */
export function printManual(output: Output, commands: readonly string[]): void {
  if (commands.length === 0) return;
  output.print("What you can try:");
  for (const command of commands) output.print(`  ${printable(command)}`);
}
