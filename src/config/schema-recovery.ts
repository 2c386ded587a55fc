/** The part of the configuration's schema that says how lost files are recovered: chains of strategies. */
import { Type } from "typebox";
import { ACCEPT, STRATEGIES } from "./configuration.js";
import { choice, count, duration, flag, mapping, match, optional, text, texts } from "./schema-parts.js";

const latestBackup = mapping("The newest good version in the repository.", {
  strategy: Type.Literal("latest_backup"),
  max_age_hours: optional(Type.Number({ description: "Older versions are only offered.", exclusiveMinimum: 0 })),
});
const gitHistory = mapping("Index, branches, stash, reflog and dangling objects of the git work tree.", {
  strategy: Type.Literal("git_history"),
  max_commits: optional(count("How far back to look.", { minimum: 1, maximum: 100_000, default: 100 })),
});
const tempFiles = mapping("Editor swap and backup files, and deleted files that a process still holds open.", {
  strategy: Type.Literal("temp_files"),
});
const openFiles = mapping("Only deleted files that a process still holds open.", {
  strategy: Type.Literal("open_files"),
});
const sameContent = mapping("The same bytes at another protected path.", { strategy: Type.Literal("same_content") });
const fromLogs = mapping(
  "Rebuild the file from JSON lines by a declared recipe; the result is partial and offered, not applied.",
  {
    strategy: Type.Literal("reconstruct_from_logs"),
    log_dir: text("Folder of the logs."),
    files: optional(text("Names of the log files.", { default: "*.{jsonl,ndjson,log}" })),
    match: optional(
      Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()]), {
        description: "Fields that a record must have with these values; `{name}` is the lost file's name.",
      }),
    ),
    key: optional(text("Field that identifies an entry; the last record with the same key wins.")),
    value: optional(text("Field that holds the entry; the whole record unless told.")),
    time: optional(text("Field with the record's time; the order of the lines unless told.")),
    output: optional(choice("Form of the rebuilt file.", ["array", "object", "lines", "last"], "array")),
    template: optional(
      Type.Record(Type.String(), Type.Unknown(), {
        description: "JSON object around the entries; the text `{entries}` stands for them.",
      }),
    ),
  },
);
const regenerate = mapping("Run a program that makes the file anew; the result is validated like any candidate.", {
  strategy: Type.Literal("regenerate"),
  script: texts("Program and arguments, no shell; `{output}` is the file to write, `{path}` the lost one.", {
    minItems: 1,
  }),
  timeout: optional(duration("Time limit.", "2m")),
  user: optional(text("Account it runs as; only a daemon running as root can change it.")),
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
    openFiles,
    sameContent,
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
