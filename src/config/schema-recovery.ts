/** The part of the configuration's schema that says how lost files are recovered: chains of strategies. */
import * as Type from "typebox/type";
import { ACCEPT, STRATEGIES } from "./configuration.js";
import { choice, count, duration, flag, mapping, match, optional, path, paths, text, texts } from "./schema-parts.js";

const maxAgeHours = optional(
  Type.Number({
    description: "What is older than this is only offered, not put back without asking.",
    exclusiveMinimum: 0,
  }),
);
const latestBackup = mapping("The newest good version in the repository.", {
  strategy: Type.Literal("latest_backup"),
  max_age_hours: maxAgeHours,
  max_versions: optional(
    count("How many versions to look at, newest first.", { minimum: 1, maximum: 1_000, default: 20 }),
  ),
  at: optional(text("Only the version of this time, ISO 8601.")),
});
const gitHistory = mapping("Index, branches, stash, reflog and dangling objects of the git work tree.", {
  strategy: Type.Literal("git_history"),
  max_commits: optional(count("How far back to look.", { minimum: 1, maximum: 100_000, default: 100 })),
  max_age_hours: maxAgeHours,
});
const tempFiles = mapping("Editor swap and backup files, and deleted files that a process still holds open.", {
  strategy: Type.Literal("temp_files"),
  homes: optional(paths("Home folders whose editor files are looked at; those of the likely users unless told.")),
  swap_dirs: optional(paths("More folders with swap files, absolute.")),
  max_age_hours: maxAgeHours,
});
const openFiles = mapping("Only deleted files that a process still holds open.", {
  strategy: Type.Literal("open_files"),
  max_age_hours: maxAgeHours,
});
const sameContent = mapping("The same bytes at another protected path.", {
  strategy: Type.Literal("same_content"),
  max_age_hours: maxAgeHours,
});
const pinned = mapping("The file itself, which the daemon holds open because its source is critical.", {
  strategy: Type.Literal("pinned"),
});
const pinnedLinks = mapping(
  "The link that the daemon keeps on the file's own file system because its source is critical.",
  {
    strategy: Type.Literal("pinned_links"),
  },
);
const fsSnapshots = mapping("Snapshots of the file's own file system: btrfs (snapper), ZFS, or mounted ones.", {
  strategy: Type.Literal("fs_snapshots"),
  roots: optional(paths("More snapshots: folders, `*` for a part of a name, each an image of the folder `of`.")),
  of: optional(path("The folder that `roots` are images of; / unless told.")),
  max_age_hours: maxAgeHours,
});
const packageManager = mapping("The same version of the package (dpkg, rpm) that installed the file, checked.", {
  strategy: Type.Literal("package_manager"),
  archives: optional(
    paths("More folders with package files, absolute; the caches of apt, dnf, yum and zypper are always looked into."),
  ),
  download: optional(flag("Let apt download the package when it is not on this machine.", false)),
  root: optional(path("Top of the system that dpkg or rpm manages; / unless told.")),
  max_age_hours: maxAgeHours,
});
const sqliteWal = mapping("An SQLite database out of its write-ahead log.", {
  strategy: Type.Literal("sqlite_wal"),
  max_age_hours: maxAgeHours,
});
const logMatch = Type.Record(
  Type.String(),
  Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Array(Type.String())]),
  {
    description:
      "Fields that a record must have with this value (or one of these); `{name}`, `{stem}` and `{path}` stand for the lost file's.",
  },
);
const logOutput = mapping("How the records become the file.", {
  mode: optional(
    choice("Every record in turn; the last of each key; or all of each key merged.", ["append", "last_wins", "merge"]),
  ),
  key: optional(text("Field that identifies an entry; needed for last_wins and merge.")),
  sort_by: optional(text("Field to sort the entries by.")),
  shape: optional(choice("Form of the file.", ["array", "object", "lines", "record"])),
  template: optional(
    Type.Unknown({
      description:
        "JSON around the result: `{records}` stands for it, `{count}` for its length, `{first.FIELD}` and `{last.FIELD}` for a field.",
    }),
  ),
});
const fromLogs = mapping(
  "Rebuild the file from JSON lines by a declared recipe; the result is partial: offered, or applied with `accept: partial`.",
  {
    strategy: Type.Literal("reconstruct_from_logs"),
    log_dir: path("Folder of the logs, absolute."),
    files: optional(texts("Names of the log files, as globs; *.jsonl, *.ndjson and *.log unless told.")),
    match: optional(logMatch),
    record: optional(text("Field that holds the entry; the whole record unless told.")),
    time_field: optional(text("Field with the record's time; the order of the lines unless told.")),
    since: optional(text("Only records from this time on, ISO 8601.")),
    until: optional(text("Only records up to this time, ISO 8601.")),
    pick: optional(texts("Only these fields of an entry are kept.")),
    output: optional(logOutput),
    max_age_hours: maxAgeHours,
  },
);
const regenerate = mapping("Run a program that makes the file anew; the result is validated like any candidate.", {
  strategy: Type.Literal("regenerate"),
  script: texts("Program and arguments, no shell; `{output}` is the file to write, `{path}` the lost one.", {
    minItems: 1,
  }),
  timeout: optional(duration("Time limit.", "2m")),
  user: optional(text("Account it runs as; only a daemon running as root can change it.")),
  cwd: optional(path("Folder it runs in; a private one unless told.")),
  max_age_hours: maxAgeHours,
});
const manualRecovery = mapping("Nothing is written; a person is told the exact commands to try.", {
  strategy: Type.Literal("manual_recovery"),
  alert: optional(flag("Send an alert.", true)),
});

/** A strategy in a chain: its name, or a mapping with its parameters. */
export const strategyStep = Type.Union(
  [
    choice("Name of a strategy.", STRATEGIES),
    latestBackup,
    gitHistory,
    tempFiles,
    pinned,
    pinnedLinks,
    openFiles,
    sameContent,
    fsSnapshots,
    packageManager,
    sqliteWal,
    fromLogs,
    regenerate,
    manualRecovery,
  ],
  {
    description: "A strategy by name, or a mapping with `strategy` and its parameters.",
    "x-later": ["mongodb_export", "database_export"],
  },
);

/** A chain of strategies for the paths that a pattern matches. */
export const recoverRule = Type.Union(
  [
    choice("Name of a strategy.", STRATEGIES),
    mapping("A chain for the paths that match.", {
      match,
      accept: optional(choice("How good a candidate must be to be put back without asking.", ACCEPT, "newer_valid")),
      chain: Type.Array(strategyStep, { description: "Tried in this order.", minItems: 1, maxItems: 20 }),
    }),
  ],
  { description: "A mapping with `match` and `chain`, or names of strategies as one chain for everything." },
);

/** What is kept at hand of the files of critical sources, besides their open descriptors. */
export const pins = mapping(
  "What is kept of the files of critical sources on their own file system, beside the store.",
  {
    reflinks: optional(flag("Copies that share their blocks with the file, where there are such (btrfs, xfs).", true)),
    hard_links: optional(
      flag(
        "Second names of the files, elsewhere. They show in the link count, and some editors then save in place.",
        false,
      ),
    ),
  },
);
