/** Commands about lost and damaged files: scan, recover, incidents. */
import type { ApiClient } from "../../api/client.js";
import type { Page } from "../../api/paging.js";
import type { BatchReport, IncidentDocument, JobDocument, RecoverReport, ScanReport } from "../../api/services.js";
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError } from "../../base/errors.js";
import { pathFromText, pathText } from "../../base/paths.js";
import { counted, formatDuration } from "../../base/units.js";
import {
  type CommandContext,
  type CommandSpec,
  type Options,
  argument,
  isSet,
  queryText,
  textOption,
} from "../command.js";
import { printable } from "../output.js";
import { reportOf, shownPath } from "../recovery-document.js";
import { checkReportName, writeReport } from "../recovery-report.js";
import { printBatch, printManual, printPutBack, printRecovery, printSearch } from "../recovery-screen.js";
import { parseTime, timeText } from "../time.js";

const LISTED_MAX = 20;
const REPORT_OPTION = {
  flags: "--report <file>",
  description: "also write a report there; the ending .json, .md or .html says which",
} as const;

export const recoveryCommands: readonly CommandSpec[] = [
  {
    name: "scan",
    summary: "Look for missing and damaged files now; exit code 4 when there are any.",
    options: [{ flags: "--path <path>", description: "only this path and what is below it" }],
    examples: ["holdfast scan", "holdfast scan --path /srv/app --json"],
    run: scan,
  },
  {
    name: "recover",
    summary: "Recover a file, or everything that is missing or damaged.",
    arguments: [{ name: "path", description: "the file", isOptional: true }],
    options: [
      { flags: "--file <path>", description: "the same as the argument" },
      { flags: "--all", description: "everything that is missing or damaged now" },
      { flags: "--strategy <name>", description: "auto (default) or one strategy, such as git_history" },
      { flags: "--at <time>", description: 'the state of that time, such as "10m ago"' },
      { flags: "--to <file>", description: "write the result here instead" },
      { flags: "--explain", description: "only show what was found where, how it was judged and what would be taken" },
      REPORT_OPTION,
    ],
    examples: [
      "holdfast recover notes/todo.md",
      "holdfast recover --explain notes/todo.md",
      "holdfast recover --all --report recovery.html",
    ],
    run: recover,
  },
  {
    name: "incidents list",
    isDefault: true,
    summary: "List what was lost or damaged and what was done.",
    options: [{ flags: "--open", description: "only those that are not closed" }],
    examples: ["holdfast incidents", "holdfast incidents list --open --json"],
    run: listIncidents,
  },
  {
    name: "incidents show",
    summary: "Show an incident: what was tried, what was taken, what a person can do.",
    arguments: [{ name: "id", description: "id of the incident, or a unique prefix" }],
    examples: ["holdfast incidents show inc_01kabc"],
    run: async (context, args) => {
      const api = await context.api("alone");
      printIncident(context, await api.get<IncidentDocument>(incidentPath(args), context.signal));
      return EXIT.ok;
    },
  },
  {
    name: "incidents approve",
    summary: "Bring back everything that an incident holds.",
    arguments: [{ name: "id", description: "id of the incident, or a unique prefix" }],
    options: [REPORT_OPTION],
    examples: ["holdfast incidents approve inc_01kabc", "holdfast incidents approve inc_01kabc --report recovery.md"],
    run: async (context, args, options) => {
      const reportFile = textOption(options, "report");
      checkReportName(reportFile);
      const api = await context.api("alone");
      const job = await api.post<JobDocument>(`${incidentPath(args)}/approve`, {}, context.signal);
      return await followBatch(context, api, job, reportFile);
    },
  },
  {
    name: "incidents deny",
    summary: "Accept the loss; all versions stay.",
    arguments: [{ name: "id", description: "id of the incident, or a unique prefix" }],
    examples: ["holdfast incidents deny inc_01kabc"],
    run: async (context, args) => await decide(context, `${incidentPath(args)}/deny`),
  },
  {
    name: "incidents restore-quarantined",
    summary: "Undo a heal: put back what was in the file's place.",
    arguments: [{ name: "id", description: "id of the incident, or a unique prefix" }],
    examples: ["holdfast incidents restore-quarantined inc_01kabc"],
    run: async (context, args) => {
      const api = await context.api("alone");
      const url = `${incidentPath(args)}/restore-quarantined`;
      const incident = await api.post<IncidentDocument>(url, {}, context.signal);
      if (context.output.json) context.output.document(incident);
      else printPutBack(context.output, incident);
      return EXIT.ok;
    },
  },
];

function incidentPath(args: readonly string[]): string {
  return `/incidents/${encodeURIComponent(argument(args, 0))}`;
}

async function scan(context: CommandContext, _args: readonly string[], options: Options): Promise<number | undefined> {
  const api = await context.api("alone");
  const given = textOption(options, "path");
  const body = given === undefined ? {} : { path: pathText(pathFromText(given)) };
  const job = await api.post<JobDocument>("/recovery/scan", body, context.signal);
  const report = await context.follow<ScanReport>(api, job);
  const { output } = context;
  if (output.json) output.document(report);
  else {
    const took = formatDuration(report.duration_seconds * 1000);
    output.print(
      `${counted(report.files_checked, "file")} checked in ${took}: ${report.missing} missing, ${report.damaged} damaged`,
    );
    for (const finding of report.findings.slice(0, LISTED_MAX)) {
      output.print(`  ${finding.kind}  ${printable(finding.path)}  ${printable(finding.detail)}`);
    }
    if (report.findings.length > LISTED_MAX)
      output.print(`  and ${report.findings.length - LISTED_MAX} more; see --json`);
    if (report.findings.length > 0) output.say("Bring them back: holdfast recover --all");
  }
  return report.findings.length > 0 ? EXIT.damage : EXIT.ok;
}

/** The file, by argument or by option; undefined: all. Throws USAGE. */
function fileToRecover(args: readonly string[], options: Options): string | undefined {
  const [named] = args;
  const given = textOption(options, "file");
  if (named !== undefined && given !== undefined)
    throw new HoldfastError("USAGE", "name the file once: as an argument or with --file");
  const file = named ?? given;
  if ((file === undefined) !== isSet(options, "all"))
    throw new HoldfastError("USAGE", "either a file or --all is needed", { hint: "holdfast recover PATH" });
  const ofOne = ["strategy", "at", "to", "explain"].find((name) => options[name] !== undefined);
  if (file === undefined && ofOne !== undefined)
    throw new HoldfastError("USAGE", `--${ofOne} goes with one file, not with --all`, {
      hint: "`holdfast restore --at TIME --target DIR` brings back everything as it was at a time.",
    });
  return file;
}

async function recover(
  context: CommandContext,
  args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const file = fileToRecover(args, options);
  const reportFile = textOption(options, "report");
  checkReportName(reportFile);
  const api = await context.api("alone");
  if (file === undefined) {
    const batch = await api.post<JobDocument>("/recovery/batch", {}, context.signal);
    return await followBatch(context, api, batch, reportFile);
  }
  const at = textOption(options, "at");
  const to = textOption(options, "to");
  const request = {
    file: pathText(pathFromText(file)),
    strategy: textOption(options, "strategy") ?? "auto",
    at: at === undefined ? undefined : parseTime(at, context.clock.nowMs()),
    to: to === undefined ? undefined : pathText(pathFromText(to)),
    explain: isSet(options, "explain"),
  };
  const job = await api.post<JobDocument>("/recovery/recover", request, context.signal);
  const report = await context.follow<RecoverReport>(api, job);
  if (context.output.json) context.output.document(report);
  else printRecovery(context.output, report);
  await keepReport(context, report, reportFile);
  return report.outcome === "failed" ? EXIT.failed : EXIT.ok;
}

async function followBatch(
  context: CommandContext,
  api: ApiClient,
  job: JobDocument,
  reportFile?: string,
): Promise<number | undefined> {
  const report = await context.follow<BatchReport>(api, job);
  if (context.output.json) context.output.document(report);
  else printBatch(context.output, report);
  await keepReport(context, report, reportFile);
  if (report.failed === 0) return EXIT.ok;
  return report.healed > 0 ? EXIT.partial : EXIT.failed;
}

async function keepReport(
  context: CommandContext,
  outcome: RecoverReport | BatchReport,
  file: string | undefined,
): Promise<void> {
  if (file === undefined) return;
  await writeReport(file, reportOf(outcome, { version: context.version, nowMs: context.clock.nowMs() }));
  context.output.say(`The report is in ${printable(file)}`);
}

async function listIncidents(
  context: CommandContext,
  _args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const api = await context.api("alone");
  const query = queryText({ open: isSet(options, "open") ? true : undefined, limit: 1000 });
  const page = await api.get<Page>(`/incidents${query}`, context.signal);
  const incidents = page.items as readonly IncidentDocument[];
  const { output } = context;
  if (output.json) {
    output.document(incidents);
    return EXIT.ok;
  }
  const columns = [
    { title: "INCIDENT" },
    { title: "OPENED" },
    { title: "STATE" },
    { title: "KIND" },
    { title: "WHAT" },
  ];
  const rows = incidents.map((incident) => [
    incident.id,
    timeText(incident.opened_at),
    incident.state,
    incident.kind,
    whatOf(incident),
  ]);
  output.table(columns, rows);
  const waiting = incidents.find((incident) => incident.state === "waiting");
  if (waiting !== undefined) output.say(`One waits for you: holdfast incidents show ${waiting.id}`);
  return EXIT.ok;
}

function whatOf({ kind, paths_total: total, paths, source, detail }: IncidentDocument): string {
  if (kind === "expected_missing") return detail.split(";")[0] ?? detail;
  const [first] = paths;
  return total === 1 ? (first === undefined ? "" : shownPath(first)) : `${counted(total, "file")} of ${source}`;
}

function printIncident(context: CommandContext, incident: IncidentDocument): void {
  const { output } = context;
  if (output.json) {
    output.document(incident);
    return;
  }
  output.print(`${output.bold(incident.id)}  ${incident.state}`);
  output.print(`  what      ${incident.kind} in ${printable(incident.source)}: ${printable(incident.detail)}`);
  output.print(`  noticed   ${timeText(incident.opened_at)} by ${incident.noticed_by}`);
  if (incident.closed_at !== null) output.print(`  closed    ${timeText(incident.closed_at)}`);
  if (incident.strategy !== null) output.print(`  taken     ${incident.strategy}: ${printable(incident.origin ?? "")}`);
  if (incident.quarantined) output.print(`  kept      the damaged bytes are in quarantine`);
  if (incident.paths_total > 0) output.print(`  files     ${incident.paths_total}`);
  for (const { path, last_good_at: goodAt } of incident.paths.slice(0, LISTED_MAX))
    output.print(`    ${printable(path)}${typeof goodAt === "string" ? `   last good version ${goodAt}` : ""}`);
  if (incident.paths_total > LISTED_MAX) output.print(`    and ${incident.paths_total - LISTED_MAX} more`);
  printSearch(output, incident);
  printManual(output, incident.manual_commands);
  if (incident.next_step !== null) output.say(`Next: ${printable(incident.next_step)}`);
}

async function decide(context: CommandContext, path: string): Promise<number | undefined> {
  const api = await context.api("alone");
  printIncident(context, await api.post<IncidentDocument>(path, {}, context.signal));
  return EXIT.ok;
}
