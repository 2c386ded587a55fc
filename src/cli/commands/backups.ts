/** Commands that make, list and compare backups, and look inside them. */
import { once } from "node:events";
import type { Page } from "../../api/paging.js";
import type { BackupReport, DiffDocument, EntryDocument, JobDocument, VersionDocument } from "../../api/services.js";
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError } from "../../base/errors.js";
import { BACKUP_TYPES } from "../../base/ids.js";
import { pathFromText, pathText } from "../../base/paths.js";
import { counted, formatDuration, formatSize } from "../../base/units.js";
import type { Manifest, SourceManifest } from "../../engine/types.js";
import {
  type CommandContext,
  type CommandSpec,
  type Options,
  argument,
  isSet,
  listOption,
  queryText,
  textOption,
} from "../command.js";
import { type Output, printable } from "../output.js";
import { parseTime, timeText } from "../time.js";

/** Paths that are named of each sort that is told below a manifest; `--json` names more. */
const ODD_PATHS_MAX = 5;
/** Names of sources in one line of `list`. */
const SOURCES_SHOWN = 3;

export const backupCommands: readonly CommandSpec[] = [
  {
    name: "create",
    aliases: ["backup"],
    summary: "Make a backup now, follow it and print its manifest.",
    options: [
      { flags: "--type <type>", description: "type of the backup (default: incremental)", choices: BACKUP_TYPES },
      { flags: "--sources <names>", description: "only these sources, joined by commas" },
      { flags: "--tag <tags>", description: "words to find it by, joined by commas" },
      { flags: "--no-compression", description: "store as it is" },
      { flags: "--encryption", description: "refuse when the repository is not encrypted" },
      { flags: "--rescan", description: "look at every file, also when the daemon knows what changed" },
    ],
    examples: ["holdfast create --type full", "holdfast backup --sources etc,app --tag before-upgrade"],
    run: createBackup,
  },
  {
    name: "list",
    summary: "List backups, newest first.",
    options: [
      { flags: "--latest", description: "only the newest" },
      {
        flags: "--filter <filter>",
        description: "last_7_days, today, type=full, source=S, tag=T, contains_file=PATH; joined by commas",
      },
      { flags: "--sort <key>", description: "timestamp, size, stored, files, duration or type; with _asc or _desc" },
    ],
    examples: ["holdfast list", "holdfast list --filter last_7_days,type=full", "holdfast list --latest --json"],
    run: listBackups,
  },
  {
    name: "show",
    summary: "Show the manifest of a backup.",
    arguments: [{ name: "id", description: "id, unique prefix or latest" }],
    examples: ["holdfast show latest", "holdfast show backup_20260115 --json"],
    run: async (context, args) => {
      const api = await context.api("alone");
      const manifest = await api.get<Manifest>(`/backups/${encodeURIComponent(argument(args, 0))}`, context.signal);
      printManifest(context, manifest);
      return EXIT.ok;
    },
  },
  {
    name: "ls",
    summary: "List what a backup holds.",
    arguments: [
      { name: "id", description: "id, unique prefix or latest" },
      { name: "path", description: "only below this folder", isOptional: true },
    ],
    examples: ["holdfast ls latest", "holdfast ls latest /srv/app"],
    run: async (context, args) => {
      const under = args[1] === undefined ? undefined : pathText(pathFromText(args[1]));
      await printEntries(context, `/backups/${encodeURIComponent(argument(args, 0))}/files${queryText({ under })}`);
      return EXIT.ok;
    },
  },
  {
    name: "find",
    summary: "Find protected and stored files by a glob.",
    arguments: [{ name: "pattern", description: "glob on names, or on absolute paths when it has a slash" }],
    examples: ["holdfast find '*.conf'", "holdfast find '/srv/app/**/*.json'"],
    run: async (context, args) => {
      await printEntries(context, `/find${queryText({ pattern: argument(args, 0) })}`);
      return EXIT.ok;
    },
  },
  {
    name: "versions",
    summary: "List every stored version of a file, also those between backups.",
    arguments: [{ name: "path", description: "the file" }],
    examples: ["holdfast versions notes/todo.md"],
    run: listVersions,
  },
  {
    name: "diff",
    summary: "Tell what differs between two backups.",
    arguments: [
      { name: "a", description: "the earlier backup" },
      { name: "b", description: "the later backup" },
    ],
    examples: ["holdfast diff backup_20260114 latest"],
    run: async (context, args) => {
      const api = await context.api("alone");
      const query = queryText({ a: argument(args, 0), b: argument(args, 1) });
      let count = 0;
      for await (const line of api.lines<DiffDocument>(`/diff${query}`, context.signal)) {
        count += 1;
        if (context.output.json) context.output.jsonLine(line);
        else context.output.print(`${DIFF_SIGNS[line.change]} ${printable(line.path)}`);
      }
      if (count === 0) context.output.say("nothing differs");
      return EXIT.ok;
    },
  },
  {
    name: "cat",
    summary: "Write the content of a stored file to stdout.",
    arguments: [
      { name: "id", description: "id, unique prefix or latest; or only the path together with --at" },
      { name: "path", description: "the file", isOptional: true },
    ],
    options: [{ flags: "--at <time>", description: 'the version of that time, such as "10m ago"' }],
    examples: ["holdfast cat latest /etc/hosts", 'holdfast cat --at "2h ago" /etc/hosts'],
    run: printContent,
  },
  {
    name: "pin",
    summary: "Keep a backup whatever rotation says.",
    arguments: [{ name: "id", description: "id, unique prefix or latest" }],
    examples: ["holdfast pin latest"],
    run: async (context, args) => await setPinned(context, argument(args, 0), true),
  },
  {
    name: "unpin",
    summary: "Leave a backup to rotation again.",
    arguments: [{ name: "id", description: "id, unique prefix or latest" }],
    examples: ["holdfast unpin backup_20260115_020000_full"],
    run: async (context, args) => await setPinned(context, argument(args, 0), false),
  },
];

const DIFF_SIGNS: Readonly<Record<DiffDocument["change"], string>> = {
  added: "+",
  removed: "-",
  modified: "M",
  metadata: "m",
};

async function createBackup(
  context: CommandContext,
  _args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const api = await context.api("alone");
  const request = {
    type: textOption(options, "type") ?? "incremental",
    sources: listOption(options, "sources"),
    tags: listOption(options, "tag"),
    compression: options["compression"] !== false,
    encryption: isSet(options, "encryption"),
    rescan: isSet(options, "rescan"),
  };
  const job = await api.post<JobDocument>("/backups", request, context.signal);
  const manifest = await context.follow<BackupReport>(api, job);
  printManifest(context, manifest);
  for (const { source, code, message } of manifest.left_out)
    context.output.say(`${printable(source)} is not in it: ${printable(message)} (${code})`);
  const unreadable = manifest.sources.reduce((total, source) => total + source.files_unreadable, 0);
  if (unreadable === 0) return manifest.left_out.length === 0 ? EXIT.ok : EXIT.partial;
  context.output.say(
    `${counted(unreadable, "file")} could not be read; their last good versions are kept. See: holdfast doctor`,
  );
  return EXIT.partial;
}

async function listBackups(
  context: CommandContext,
  _args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const api = await context.api("alone");
  const query = queryText({
    filter: filterWithAbsolutePath(textOption(options, "filter")),
    sort: textOption(options, "sort"),
    latest: isSet(options, "latest") ? true : undefined,
  });
  const manifests: Manifest[] = [];
  for await (const manifest of api.lines<Manifest>(`/backups${query}`, context.signal)) manifests.push(manifest);
  if (context.output.json) {
    context.output.document(manifests);
    return EXIT.ok;
  }
  const columns = [
    { title: "BACKUP" },
    { title: "TIME" },
    { title: "FILES", align: "right" },
    { title: "SIZE", align: "right" },
    { title: "NEW", align: "right" },
    { title: "TOOK", align: "right" },
    { title: "SOURCES" },
    { title: "KEPT BY" },
  ] as const;
  context.output.table(columns, manifests.map(manifestRow));
  if (manifests.length === 0) {
    const isFiltered = textOption(options, "filter") !== undefined;
    context.output.say(
      isFiltered ? "No backup fits the filter." : "No backups yet. Make one: holdfast create --type full",
    );
  }
  return EXIT.ok;
}

/** `contains_file=notes.md` counts from the current folder. */
function filterWithAbsolutePath(filter: string | undefined): string | undefined {
  return filter
    ?.split(",")
    .map((part) => {
      if (!part.startsWith("contains_file=")) return part;
      return `contains_file=${pathText(pathFromText(part.slice("contains_file=".length)))}`;
    })
    .join(",");
}

function manifestRow(manifest: Manifest): string[] {
  const sum = (field: "files_total" | "total_size_bytes" | "stored_size_bytes"): number =>
    manifest.sources.reduce((total, source) => total + source[field], 0);
  const kept = new Set([...(manifest.retention.pinned ? ["pinned"] : []), ...manifest.retention.kept_by]);
  return [
    manifest.backup_id,
    timeText(manifest.timestamp),
    String(sum("files_total")),
    formatSize(sum("total_size_bytes")),
    formatSize(sum("stored_size_bytes")),
    formatDuration(manifest.metadata.backup_duration_seconds * 1000),
    sourcesText(manifest.sources),
    [...kept].join(" "),
  ];
}

/** `app, web, mail +2`. */
function sourcesText(sources: readonly SourceManifest[]): string {
  const shown = sources.slice(0, SOURCES_SHOWN).map(({ source }) => printable(source));
  const more = sources.length - shown.length;
  return `${shown.join(", ")}${more > 0 ? ` +${String(more)}` : ""}`;
}

function printManifest(context: CommandContext, manifest: Manifest): void {
  const { output } = context;
  if (output.json) {
    output.document(manifest);
    return;
  }
  const { metadata, validation, retention } = manifest;
  output.print(output.bold(manifest.backup_id));
  output.print(
    `  made      ${timeText(manifest.timestamp)} on ${printable(metadata.hostname)}, took ${formatDuration(metadata.backup_duration_seconds * 1000)}`,
  );
  output.print(`  parent    ${manifest.parent ?? "none"}`);
  output.print(`  verified  integrity ${validation.integrity_check}, restore ${validation.restore_test}`);
  output.print(`  kept      ${retention.pinned ? "pinned" : retention.kept_by.join(", ") || "until rotation"}`);
  if (metadata.tags.length > 0) output.print(`  tags      ${metadata.tags.map(printable).join(", ")}`);
  output.print();
  const columns = [
    { title: "SOURCE" },
    { title: "FILES", align: "right" },
    { title: "CHANGED", align: "right" },
    { title: "UNREADABLE", align: "right" },
    { title: "SIZE", align: "right" },
    { title: "NEW", align: "right" },
    { title: "LOOKED AT" },
  ] as const;
  const rows = manifest.sources.map((source) => [
    source.source,
    String(source.files_total),
    String(source.files_changed),
    String(source.files_unreadable),
    formatSize(source.total_size_bytes),
    formatSize(source.stored_size_bytes),
    lookedAt(source),
  ]);
  output.table(columns, rows);
  for (const source of manifest.sources) printOdd(output, source);
}

/** What is not kept, or will not be set again: no failure, and good to know. */
function printOdd(output: Output, source: SourceManifest): void {
  const line = (count = 0, what: string, paths: readonly string[] = []): void => {
    if (count === 0) return;
    const rest = count > ODD_PATHS_MAX ? ", …" : "";
    output.print(
      `${printable(source.source)}: ${what}: ${paths.slice(0, ODD_PATHS_MAX).map(printable).join(", ")}${rest}`,
    );
  };
  const { sockets_skipped: sockets = 0, immutable_files: immutable = 0 } = source;
  line(sockets, `${counted(sockets, "socket")} skipped, nothing of them can be kept`, source.socket_paths);
  line(
    immutable,
    `immutable or append-only, which a restore does not set: ${String(immutable)}`,
    source.immutable_paths,
  );
}

/** What the backup looked at, and why at all of it though a daemon watches. */
function lookedAt({ walked, walked_because: because }: SourceManifest): string {
  if (walked === false) return "what changed";
  return because === undefined ? "everything" : `everything: ${printable(because)}`;
}

async function printEntries(context: CommandContext, path: string): Promise<void> {
  const api = await context.api("alone");
  for await (const entry of api.lines<EntryDocument>(path, context.signal)) {
    if (context.output.json) context.output.jsonLine(entry);
    else context.output.print(entryLine(entry));
  }
}

function entryLine(entry: EntryDocument): string {
  const kind = KIND_LETTERS[entry.kind] ?? "?";
  const owner = `${entry.uid}:${entry.gid}`.padEnd(11);
  const size = formatSize(entry.size_bytes).padStart(10);
  const link = entry.link_target === null ? "" : ` -> ${printable(entry.link_target)}`;
  return `${kind} ${entry.mode} ${owner} ${size} ${timeText(entry.modified_at)} ${printable(entry.path)}${link}`;
}

const KIND_LETTERS: Readonly<Record<string, string>> = {
  file: "-",
  folder: "d",
  symlink: "l",
  fifo: "p",
  char_device: "c",
  block_device: "b",
};

async function listVersions(context: CommandContext, args: readonly string[]): Promise<number | undefined> {
  const api = await context.api("alone");
  const path = pathText(pathFromText(argument(args, 0)));
  const page = await api.get<Page>(`/versions${queryText({ path })}`, context.signal);
  const versions = page.items as readonly VersionDocument[];
  if (versions.length === 0) {
    throw new HoldfastError("VERSION_NOT_FOUND", `no version of ${path} is stored`, {
      hint: "See `holdfast find NAME`, or `holdfast status` for what is protected.",
    });
  }
  if (context.output.json) {
    context.output.document(versions);
    return EXIT.ok;
  }
  const columns = [
    { title: "TIME" },
    { title: "CHANGE" },
    { title: "SIZE", align: "right" },
    { title: "MODE" },
    { title: "SHA-256" },
  ] as const;
  const rows = versions.map((version) => [
    version.time,
    version.change,
    version.size_bytes === null ? "" : formatSize(version.size_bytes),
    version.mode ?? "",
    version.sha256?.slice(0, 16) ?? "",
  ]);
  context.output.table(columns, rows);
  context.output.say(`Bring one back: holdfast restore --at TIME --files '${printable(path)}' --target DIR`);
  return EXIT.ok;
}

async function printContent(
  context: CommandContext,
  args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const at = textOption(options, "at");
  const [first, second] = args;
  const isOnlyPath = at !== undefined && second === undefined;
  const file = isOnlyPath ? first : second;
  if (file === undefined) throw new HoldfastError("USAGE", "no file was named", { hint: "holdfast cat latest PATH" });
  const query = queryText({
    path: pathText(pathFromText(file)),
    ...(at === undefined ? { id: first } : { at: parseTime(at, context.clock.nowMs()) }),
  });
  const api = await context.api("alone");
  for await (const part of await api.bytes(`/content${query}`, context.signal)) await writeBytes(context, part);
  return EXIT.ok;
}

async function writeBytes(context: CommandContext, part: Buffer): Promise<void> {
  if (context.output.writeBytes(part)) return;
  await once(process.stdout, "drain", { signal: context.signal });
}

async function setPinned(context: CommandContext, id: string, pinned: boolean): Promise<number | undefined> {
  const api = await context.api("alone");
  const manifest = await api.patch<Manifest>(`/backups/${encodeURIComponent(id)}`, { pinned }, context.signal);
  if (context.output.json) context.output.document(manifest);
  else context.output.print(`${manifest.backup_id} is ${pinned ? "pinned" : "left to rotation"}`);
  return EXIT.ok;
}
