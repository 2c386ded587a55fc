/** Commands about what is protected: status, health, protect, unprotect, pause, resume, schedule. */
import type { Page } from "../../api/paging.js";
import type { HealthCheck, HealthDocument } from "../../api/health-document.js";
import type { ScheduleDocument, StatusDocument } from "../../api/services.js";
import type { PauseDocument, SourceDocument } from "../../api/watch-service.js";
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError, hasCode } from "../../base/errors.js";
import { pathFromText, pathText } from "../../base/paths.js";
import { counted, formatDuration, formatSize, parseDurationMs } from "../../base/units.js";
import { type CommandContext, type CommandSpec, type Options, argument, isSet, textOption } from "../command.js";
import { daemonOptions } from "../foreground.js";
import { type Output, printable } from "../output.js";
import { ageText, dueText, timeText } from "../time.js";

const ON_DELETE = ["heal", "hold", "allow"] as const;

export const watchCommands: readonly CommandSpec[] = [
  {
    name: "protect",
    summary: "Protect paths: with a running daemon they are added; else a daemon starts in the foreground.",
    arguments: [{ name: "path", description: "folders, files or globs", isMany: true }],
    options: [
      { flags: "--name <name>", description: "name of the source" },
      { flags: "--on-delete <what>", description: "what a loss leads to (default: heal)", choices: ON_DELETE },
      { flags: "--foreground", description: "always run here, as `npm start` does" },
      { flags: "--no-encrypt", description: "make an unencrypted repository when there is none" },
    ],
    examples: ["holdfast protect ~/notes", "holdfast protect /srv/app --name app --on-delete hold"],
    run: protect,
  },
  {
    name: "unprotect",
    summary: "Stop protecting a source; its backups stay.",
    arguments: [{ name: "source", description: "name of the source, or one of its paths" }],
    examples: ["holdfast unprotect notes", "holdfast unprotect /srv/app"],
    run: unprotect,
  },
  {
    name: "status",
    summary: "Show on one screen how everything stands.",
    examples: ["holdfast status", "holdfast status --json"],
    run: async (context) => {
      const api = await context.api("alone");
      const status = await api.get<StatusDocument>("/status", context.signal);
      if (context.output.json) context.output.document(status);
      else printStatus(context.output, status, context.clock.nowMs());
      return EXIT.ok;
    },
  },
  {
    name: "health",
    summary:
      "For machines: exit 0 healthy (also with a WARN, at which a person should look), 5 a target is breached, 1 failing.",
    examples: ["holdfast health", "holdfast health --json"],
    run: async (context) => {
      const api = await context.api("daemon");
      const health = await api.get<HealthDocument>("/health", context.signal);
      if (context.output.json) context.output.document(health);
      else printHealth(context.output, health);
      return health.exit_code;
    },
  },
  {
    name: "pause",
    summary: "Maintenance window: changes are recorded, nothing is healed.",
    arguments: [{ name: "path", description: "only this path and what is below it", isOptional: true }],
    options: [
      { flags: "--for <duration>", description: "how long, such as 10m (default: 10m, at most 7d)" },
      { flags: "--reason <text>", description: "why, for the record" },
    ],
    examples: ["holdfast pause --for 10m --reason deploy", "holdfast pause /srv/app --for 1h"],
    run: pause,
  },
  {
    name: "resume",
    summary: "End a maintenance window.",
    arguments: [{ name: "path", description: "the path that was paused", isOptional: true }],
    examples: ["holdfast resume", "holdfast resume /srv/app"],
    run: async (context, args) => {
      const api = await context.api("daemon");
      const ended = await api.post<Page>("/resume", pathField(args[0]), context.signal);
      const pauses = ended.items as readonly PauseDocument[];
      if (context.output.json) context.output.document(pauses);
      else
        context.output.print(
          pauses.length === 0 ? "nothing was paused" : `resumed ${pauses.map(pauseName).join(", ")}`,
        );
      return EXIT.ok;
    },
  },
  {
    name: "schedule",
    summary: "Show what is due when.",
    examples: ["holdfast schedule"],
    run: listSchedules,
  },
];

async function protect(
  context: CommandContext,
  args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const onDelete = textOption(options, "onDelete");
  const isForeground = isSet(options, "foreground");
  if (!isForeground) {
    const added = await addToDaemon(context, args, { name: textOption(options, "name"), on_delete: onDelete });
    if (added !== undefined) return added;
    if (!context.mayAsk) {
      throw new HoldfastError("DAEMON_UNREACHABLE", "no daemon runs that could protect it", {
        hint: "Start it with `holdfast daemon`, or protect in this terminal: holdfast protect --foreground PATH.",
      });
    }
  }
  const { runDaemon } = await import("../../daemon/main.js");
  return await runDaemon(daemonOptions(context, options, args));
}

/** The exit code; undefined when no daemon answers. */
async function addToDaemon(
  context: CommandContext,
  args: readonly string[],
  fields: Readonly<Record<string, string | undefined>>,
): Promise<number | undefined> {
  try {
    const api = await context.api("daemon");
    sayWhatIsAwaited(context.output, args);
    const body = { paths: args.map((path) => pathText(pathFromText(path))), ...fields };
    const added = await api.post<Page>("/sources", body, context.signal);
    const sources = added.items as readonly SourceDocument[];
    if (context.output.json) context.output.document(sources);
    else for (const source of sources) context.output.print(sourceLine(context.output, source, context.clock.nowMs()));
    for (const { name, state } of sources) {
      if (state === "root_gone")
        context.output.say(`It waits until that is there. If the path was mistyped: holdfast unprotect ${name}`);
    }
    const unreadable = sources.reduce((total, source) => total + source.files_unreadable, 0);
    if (unreadable === 0) return EXIT.ok;
    context.output.say(
      `${counted(unreadable, "file")} could not be read; nothing of it is protected. See: holdfast status`,
    );
    return EXIT.partial;
  } catch (error) {
    if (hasCode(error, "DAEMON_UNREACHABLE")) return undefined;
    throw error;
  }
}

/** The daemon answers when the first backup is there, which may take minutes. */
function sayWhatIsAwaited(output: Output, paths: readonly string[]): void {
  if (output.json) return;
  const [first = "", ...others] = paths;
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  output.say(`Protecting ${printable(first)}${more}: waiting for the first backup. Meanwhile: holdfast status`);
}

async function unprotect(context: CommandContext, args: readonly string[]): Promise<number | undefined> {
  const api = await context.api("daemon");
  const given = argument(args, 0);
  const sources = (await api.get<Page>("/sources?limit=1000", context.signal)).items as readonly SourceDocument[];
  const isName = sources.some((source) => source.name === given);
  const key = isName ? given : pathText(pathFromText(given));
  const removed = await api.delete<SourceDocument>(`/sources/${encodeURIComponent(key)}`, context.signal);
  if (context.output.json) context.output.document(removed);
  else context.output.print(`${removed.name} is not protected any more; its backups stay`);
  return EXIT.ok;
}

/** One screen: the verdict, the sources, the store, what happened last, what is next. */
function printStatus(output: Output, status: StatusDocument, nowMs: number): void {
  const { store, incidents } = status;
  output.print(`${verdict(output, status)}  ${headline(status)}`);
  for (const reason of status.reasons.slice(0, 5)) output.print(`  ${output.careful("!")} ${printable(reason)}`);
  for (const source of status.sources.slice(0, 15)) output.print(sourceLine(output, source, nowMs));
  if (status.sources.length > 15) output.print(`  and ${status.sources.length - 15} more sources`);
  const free = store.free_bytes === null ? "" : `, ${formatSize(store.free_bytes)} free`;
  const sealed = store.encrypted ? "encrypted" : "NOT encrypted";
  output.print(
    `  store      ${printable(store.url)}  ${formatSize(store.stored_bytes)} for ${formatSize(store.logical_bytes)}, ${sealed}${free}`,
  );
  const last = status.last_backup;
  output.print(
    `  backups    ${store.backups}, the newest ${last === null ? "never" : `${ageText(last.at, nowMs)} (${last.backup_id})`}`,
  );
  const next = status.next_runs[0];
  if (typeof next?.next_at === "string")
    output.print(`  next run   ${next.name} (${next.type}) ${dueText(next.next_at, nowMs)}`);
  output.print(
    `  incidents  ${incidents.waiting} waiting, ${incidents.failed} failed, ${incidents.healed_today} healed today`,
  );
  const heal = status.last_heal;
  if (heal !== null) {
    const by = heal.strategy === "" ? "" : ` by ${heal.strategy}`;
    const how = `recovered${by} in ${formatDuration(heal.duration_ms)}`;
    output.print(`  last heal  ${printable(heal.path)}  ${how}, ${ageText(heal.at, nowMs)}`);
  }
  for (const pause of status.paused.slice(0, 5))
    output.print(`  paused     ${pauseName(pause)} until ${timeText(pause.until)}`);
  if (status.alerts_active > 0) {
    output.print(`  alerts     ${status.alerts_active} active, ${status.alerts_undelivered} not delivered yet`);
  }
  output.print(`Next: ${printable(status.next_step ?? "holdfast versions FILE, to see what can come back")}`);
}

function verdict(output: Output, status: StatusDocument): string {
  if (!status.daemon) return output.careful("NOT WATCHING");
  if (status.state === "healthy") return output.good("PROTECTED");
  return status.state === "failing" ? output.bad("FAILING") : output.careful("ATTENTION");
}

function headline(status: StatusDocument): string {
  const files = status.sources.reduce((total, source) => total + source.files, 0);
  const who = status.daemon
    ? `holdfast ${status.version}, pid ${status.pid}`
    : "no daemon runs; nothing is healed until one does";
  return `${counted(files, "file")} of ${counted(status.sources.length, "source")}  (${who})`;
}

function sourceLine(output: Output, source: SourceDocument, nowMs: number): string {
  const state = source.state === "protected" ? output.good("protected") : output.careful(source.state);
  const pending = source.pending_changes > 0 ? `, ${counted(source.pending_changes, "change")} pending` : "";
  const newest = source.newest_commit_at === null ? "" : `, newest copy ${ageText(source.newest_commit_at, nowMs)}`;
  const why = source.reason === null ? "" : `: ${printable(source.reason)}`;
  const size = `${counted(source.files, "file")}, ${formatSize(source.bytes)}`;
  return `  ${printable(source.name).padEnd(10)} ${state}  ${size}${newest}${pending}${why}`;
}

function printHealth(output: Output, health: HealthDocument): void {
  output.print(health.state);
  for (const check of health.checks) {
    output.print(`  ${markOf(output, check)}  ${check.name}  ${printable(check.detail)}`);
  }
}

/** FAIL is what the exit code tells, too. */
function markOf(output: Output, { ok, level }: HealthCheck): string {
  if (ok) return output.good("ok  ");
  return level === "attention" ? output.careful("WARN") : output.bad("FAIL");
}

async function pause(context: CommandContext, args: readonly string[], options: Options): Promise<number | undefined> {
  const body = {
    ...pathField(args[0]),
    duration_seconds: parseDurationMs(textOption(options, "for") ?? "10m") / 1000,
    reason: textOption(options, "reason") ?? "",
  };
  const api = await context.api("daemon");
  const paused = await api.post<PauseDocument>("/pause", body, context.signal);
  if (context.output.json) context.output.document(paused);
  else {
    context.output.print(
      `${pauseName(paused)} paused until ${timeText(paused.until)}: changes are recorded, nothing is healed`,
    );
    context.output.say("End it earlier: holdfast resume");
  }
  return EXIT.ok;
}

function pathField(given: string | undefined): { readonly path?: string } {
  return given === undefined ? {} : { path: pathText(pathFromText(given)) };
}

function pauseName(pause: PauseDocument): string {
  return pause.path === null ? "everything" : printable(pause.path);
}

async function listSchedules(context: CommandContext): Promise<number | undefined> {
  const api = await context.api("alone");
  const page = await api.get<Page>("/schedules?limit=1000", context.signal);
  const schedules = page.items as readonly ScheduleDocument[];
  if (context.output.json) {
    context.output.document(schedules);
    return EXIT.ok;
  }
  const nowMs = context.clock.nowMs();
  const columns = [
    { title: "NAME" },
    { title: "TYPE" },
    { title: "WHEN" },
    { title: "NEXT" },
    { title: "LAST" },
    { title: "OUTCOME" },
  ];
  const rows = schedules.map((entry) => [
    entry.name,
    entry.type,
    entry.when,
    dueText(entry.next_at, nowMs),
    ageText(entry.last_at, nowMs),
    entry.last_outcome ?? "",
  ]);
  context.output.table(columns, rows);
  return EXIT.ok;
}
