/** Commands that bring data back and prove it: restore, verify, check, gc, cleanup. */
import type { CheckReport, CleanupReport, JobDocument, RestoreReport, VerifyReport } from "../../api/services.js";
import { VERIFY_LEVELS } from "../../api/services.js";
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError } from "../../base/errors.js";
import { pathFromText, pathText } from "../../base/paths.js";
import { counted, formatDuration, formatSize, parseShare } from "../../base/units.js";
import {
  type CommandContext,
  type CommandSpec,
  type Options,
  isSet,
  listOption,
  requiredOption,
  textOption,
} from "../command.js";
import { printable } from "../output.js";
import { parseTime } from "../time.js";

const OVERWRITE = ["always", "if-changed", "never"] as const;
const LISTED_MAX = 20;

export const restoreCommands: readonly CommandSpec[] = [
  {
    name: "restore",
    summary: "Bring back a backup, some files of it, or the state at a time.",
    details: [
      "Without --target it restores to the original places: files that differ from the backup are replaced there, newer",
      "ones as well. What was written since it was last stored is stored first, as a version (`holdfast versions PATH`);",
      "a file that cannot be stored, or is written meanwhile, is left alone and listed. Files that are in no backup stay,",
      "unless --delete is given. With --target, files of the same name below it are replaced and not stored first.",
      "Look with --dry-run before you restore.",
    ].join("\n"),
    options: [
      {
        flags: "--backup-id <id>",
        description: "id, unique prefix or latest (default: each source from the newest backup that holds it)",
      },
      { flags: "--at <time>", description: 'the state at a time instead: ISO time, "10m ago", "yesterday 14:00"' },
      {
        flags: "--files <globs>",
        description: "only these: paths (a folder means all below it) or globs, joined by commas",
      },
      { flags: "--sources <names>", description: "only these sources, joined by commas" },
      { flags: "--target <dir>", description: "restore below this folder (default: the original places)" },
      { flags: "--in-place", description: "change only the blocks that differ" },
      {
        flags: "--overwrite <when>",
        description:
          "what to do with files that exist (default: if-changed); always also replaces what could not be stored before",
        choices: OVERWRITE,
      },
      {
        flags: "--delete",
        description: "remove what is not in the backup (at the original places it is stored first)",
      },
      { flags: "--dry-run", description: "only show the plan" },
      { flags: "--no-verify", description: "do not read back what was written" },
      { flags: "--verify", description: "read back what was written (default)" },
      { flags: "--sparse", description: "write runs of zeros as holes also where the file had none" },
    ],
    examples: [
      "holdfast restore --target /tmp/back",
      'holdfast restore --at "2h ago" --files /srv/app/config.json --target /tmp/back',
      "holdfast restore --backup-id backup_20260115 --files '/srv/app/**' --dry-run",
    ],
    run: restore,
  },
  {
    name: "verify",
    summary: "Verify a backup.",
    options: [
      { flags: "--backup-id <id>", description: "id, unique prefix or latest (default: latest)" },
      { flags: "--level <level>", description: "how deep (default: checksum)", choices: VERIFY_LEVELS },
      { flags: "--sample <count>", description: "number of files; only with --level restore" },
    ],
    examples: ["holdfast verify", "holdfast verify --backup-id latest --level restore --sample 20"],
    run: async (context, _args, options) => await verify(context, options, textOption(options, "level") ?? "checksum"),
  },
  {
    name: "verify-checksum",
    summary: "Verify the checksums of a backup (verify --level checksum).",
    options: [{ flags: "--backup-id <id>", description: "id, unique prefix or latest" }],
    examples: ["holdfast verify-checksum --backup-id latest"],
    run: async (context, _args, options) => {
      requiredOption(options, "backupId", "--backup-id");
      return await verify(context, options, "checksum");
    },
  },
  {
    name: "check",
    summary: "Check the repository: structure, and with --read-data every stored byte.",
    options: [
      { flags: "--read-data", description: "read everything" },
      { flags: "--read-data-subset <share>", description: "read a share, such as 10%: what was not read for longest" },
      { flags: "--resume", description: "go on with a --read-data that was cut short" },
    ],
    examples: ["holdfast check", "holdfast check --read-data-subset 10%", "holdfast check --read-data --resume"],
    run: check,
  },
  {
    name: "gc",
    summary: "Remove stored chunks that nothing needs any more.",
    options: [
      { flags: "--dry-run", description: "only tell what would be removed" },
      { flags: "--allow <share>", description: "share of the store that may go at once (default: 30%)" },
    ],
    examples: ["holdfast gc --dry-run", "holdfast gc", "holdfast gc --allow 80%"],
    run: async (context, _args, options) => {
      const api = await context.api("alone");
      const allow = textOption(options, "allow");
      const body = {
        dry_run: isSet(options, "dryRun"),
        ...(allow === undefined ? {} : { allow_share: parseShare(allow) }),
      };
      const result = await context.follow(api, await api.post<JobDocument>("/repository/gc", body, context.signal));
      printFacts(context, isSet(options, "dryRun") ? "garbage that would be removed" : "garbage removed", result);
      return EXIT.ok;
    },
  },
  {
    name: "cleanup",
    summary: "Remove the backups that rotation does not keep.",
    options: [
      { flags: "--dry-run", description: "only show what would be kept and removed" },
      { flags: "--force", description: "remove even a large share of the backups at once" },
    ],
    examples: ["holdfast cleanup --dry-run", "holdfast cleanup", "holdfast cleanup --force"],
    run: cleanup,
  },
];

async function restore(
  context: CommandContext,
  _args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const at = textOption(options, "at");
  const target = textOption(options, "target");
  const request = {
    backup_id: textOption(options, "backupId"),
    at: at === undefined ? undefined : parseTime(at, context.clock.nowMs()),
    files: listOption(options, "files").map(fileGlob),
    sources: listOption(options, "sources"),
    target: target === undefined ? undefined : pathText(pathFromText(target)),
    in_place: isSet(options, "inPlace"),
    overwrite: textOption(options, "overwrite") ?? "if-changed",
    delete: isSet(options, "delete"),
    dry_run: isSet(options, "dryRun"),
    verify: options["verify"] !== false,
    sparse: isSet(options, "sparse"),
  };
  const api = await context.api("alone");
  const report = await context.follow<RestoreReport>(
    api,
    await api.post<JobDocument>("/restore", request, context.signal),
  );
  if (context.output.json) context.output.document(report);
  else printRestore(context, report, request.target);
  return report.failed.length > 0 ? EXIT.partial : EXIT.ok;
}

/** A plain relative path counts from the current folder; a bare glob such as `*.json` matches names anywhere. */
function fileGlob(text: string): string {
  if (text.startsWith("/")) return text;
  const isGlob = /[*?[{]/.test(text);
  return isGlob && !text.startsWith("./") ? text : pathText(pathFromText(text));
}

function printRestore(context: CommandContext, report: RestoreReport, target: string | undefined): void {
  const { output } = context;
  if (report.dry_run) {
    for (const step of report.plan) output.print(`${step.action}  ${printable(step.path)}`);
    printOrigins(context, report);
    output.say(
      `${counted(report.restored, "file")}, ${formatSize(report.bytes)} would be written. Nothing was changed.`,
    );
    return;
  }
  const place = target === undefined ? "their places" : printable(target);
  const verified = report.verified ? ", verified" : "";
  output.print(`restored ${counted(report.restored, "file")} (${formatSize(report.bytes)}) to ${place}${verified}`);
  if (report.skipped > 0) output.print(`skipped ${report.skipped} that are there already`);
  if (report.kept > 0) {
    output.print(`stored ${counted(report.kept, "changed file")} before they were replaced or removed`);
    output.say("Each is its path's version now: holdfast versions PATH");
  }
  if (report.deleted > 0) output.print(`removed ${report.deleted} that are not in the backup`);
  printOrigins(context, report);
  for (const failure of report.failed.slice(0, LISTED_MAX)) {
    output.say(`not restored: ${printable(failure.path)}: ${printable(failure.message)} (${failure.code})`);
  }
  if (report.failed.length > LISTED_MAX) output.say(`and ${report.failed.length - LISTED_MAX} more; see --json`);
}

/** Where more than one backup was needed, which; and what there is to warn of. */
function printOrigins({ output }: CommandContext, { from, warnings }: RestoreReport): void {
  if (new Set(from.map(({ backup_id: id }) => id)).size > 1)
    for (const { source, backup_id: id } of from) output.print(`  ${printable(source)}  from ${id}`);
  for (const warning of warnings) output.say(`warning: ${printable(warning)}`);
}

async function verify(context: CommandContext, options: Options, level: string): Promise<number | undefined> {
  const given = textOption(options, "sample");
  const sample = given === undefined ? undefined : wholeNumber(given, "--sample");
  if (sample !== undefined && level !== "restore")
    throw new HoldfastError("USAGE", `--sample goes with --level restore: ${level} looks at all files`, {
      hint: `holdfast verify --level restore --sample ${sample}.`,
    });
  const api = await context.api("alone");
  const request = { backup_id: textOption(options, "backupId") ?? "latest", level, sample };
  const job = await api.post<JobDocument>("/verifications", request, context.signal);
  const report = await context.follow<VerifyReport>(api, job);
  if (context.output.json) context.output.document(report);
  else printVerify(context, report);
  return report.status === "passed" ? EXIT.ok : EXIT.damage;
}

function printVerify(context: CommandContext, report: VerifyReport): void {
  const { output } = context;
  const verdict = report.status === "passed" ? output.good("passed") : output.bad("FAILED");
  const took = formatDuration(report.duration_seconds * 1000);
  const amount = `${counted(report.files_checked, "file")}, ${formatSize(report.bytes_checked)}`;
  output.print(`${report.backup_id} ${report.level}: ${verdict} (${amount} in ${took})`);
  for (const problem of report.problems.slice(0, LISTED_MAX)) {
    output.print(`  ${printable(problem.path)}: ${printable(problem.problem)}`);
  }
  if (report.problems.length > LISTED_MAX) output.print(`  and ${report.problems.length - LISTED_MAX} more`);
}

async function check(context: CommandContext, _args: readonly string[], options: Options): Promise<number | undefined> {
  const subset = textOption(options, "readDataSubset");
  if (isSet(options, "resume") && !isSet(options, "readData")) {
    const hint = "holdfast check --read-data --resume.";
    throw new HoldfastError("USAGE", "--resume goes on with a --read-data, which is not given", { hint });
  }
  const body = isSet(options, "readData")
    ? { level: "full", resume: isSet(options, "resume") }
    : subset === undefined
      ? { level: "structure" }
      : { level: "sample", share: parseShare(subset) };
  const api = await context.api("alone");
  const job = await api.post<JobDocument>("/repository/check", body, context.signal);
  const report = await context.follow<CheckReport>(api, job);
  if (context.output.json) context.output.document(report);
  else printCheck(context, report);
  return report.problems.length > 0 ? EXIT.damage : EXIT.ok;
}

function printCheck(context: CommandContext, report: CheckReport): void {
  const { output } = context;
  const isGood = report.problems.length === 0;
  output.print(isGood ? output.good(report.summary) : output.bad(report.summary));
  const read = `${report.records_checked} records, ${formatSize(report.bytes_checked)} read`;
  const skipped = report.packs_skipped === 0 ? "" : `, ${report.packs_skipped} packs read before`;
  output.print(`  ${report.packs_checked} packs, ${read}${skipped}`);
  for (const problem of report.problems.slice(0, LISTED_MAX)) {
    output.print(`  ${problem.kind}  ${printable(problem.detail)}`);
    for (const path of problem.paths.slice(0, 3)) output.print(`    hits ${printable(path.path)}`);
  }
  if (report.problems.length > LISTED_MAX)
    output.print(`  and ${report.problems.length - LISTED_MAX} more; see --json`);
}

async function cleanup(
  context: CommandContext,
  _args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const api = await context.api("alone");
  const body = { dry_run: isSet(options, "dryRun"), force: isSet(options, "force") };
  const job = await api.post<JobDocument>("/retention/cleanup", body, context.signal);
  const report = await context.follow<CleanupReport>(api, job);
  const { output } = context;
  if (output.json) {
    output.document(report);
    return EXIT.ok;
  }
  const rows = [
    ...report.kept.map((kept) => ["keep", kept.backup_id, kept.kept_by.join(" ")]),
    ...report.removed.map((id) => [report.dry_run ? "would remove" : "removed", id, ""]),
  ];
  output.table([{ title: "ACTION" }, { title: "BACKUP" }, { title: "KEPT BY" }], rows);
  const freed = `${report.chunks_removed} chunks, ${formatSize(report.bytes_freed)}`;
  if (report.refused_because !== null) output.say(`Nothing was removed: ${printable(report.refused_because)}`);
  output.say(report.dry_run ? `Nothing was changed. Would free ${freed}.` : `Freed ${freed}.`);
  return EXIT.ok;
}

function printFacts(context: CommandContext, title: string, facts: unknown): void {
  if (context.output.json) {
    context.output.document(facts);
    return;
  }
  context.output.print(title);
  for (const [name, value] of Object.entries(typeof facts === "object" && facts !== null ? facts : {})) {
    const text = typeof value === "number" && name.includes("bytes") ? formatSize(value) : JSON.stringify(value);
    context.output.print(`  ${name.replaceAll("_", " ")}: ${text}`);
  }
}

/** A count, 1 or more. */
function wholeNumber(text: string, flag: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new HoldfastError("USAGE", `${flag}: "${text}" is no whole number from 1 on`);
  return Number(text);
}
