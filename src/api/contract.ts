/**
 * The shapes of requests, once: from these come the checks at the door, the types in the routes and `/openapi.json`.
 * Answers are the documents of `services.ts`. The seeds' field names (`target_path`, `file_path`, `target_timestamp`,
 * `encryption`) stand beside the canonical ones.
 */
import type { Static, TSchema } from "typebox";
import * as Type from "typebox/type";
import { CONDITIONS } from "../alerts/rules.js";
import { BACKUP_TYPES } from "../base/ids.js";
import { VERIFY_LEVELS } from "./services.js";

/** Named limits of one request. */
export const API_LIMITS = {
  bodyBytesMax: 1_048_576,
  headerBytesMax: 16_384,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 5_000,
  /** A connection on which nothing moves; event streams beat every 15 s. */
  idleTimeoutMs: 120_000,
  connectionsMax: 256,
  eventStreamsMax: 32,
  pageMax: 1000,
  jobWaitMsMax: 30_000,
  pageDefault: 100,
  pathCharsMax: 16_384,
  idempotencyKeysMax: 1000,
} as const;

const oneOf = <const V extends readonly string[]>(values: V, description: string) =>
  Type.Unsafe<V[number]>({ type: "string", enum: [...values], description });
const text = (description: string) =>
  Type.String({ description, minLength: 1, maxLength: API_LIMITS.pathCharsMax, pattern: "^[^\\u0000]*$" });
const texts = (description: string) => Type.Array(text(""), { description, maxItems: 10_000 });
const flag = (description: string) => Type.Boolean({ description });
const time = (description: string) => Type.String({ description, format: "date-time", maxLength: 64 });
const body = <P extends Parameters<typeof Type.Object>[0]>(properties: P) =>
  Type.Object(properties, { additionalProperties: false });
const optional = Type.Optional;
const name = (description: string) => Type.String({ description, pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$" });

const page = {
  limit: optional(
    Type.Integer({ description: "Entries at most.", minimum: 1, maximum: API_LIMITS.pageMax, default: 100 }),
  ),
  cursor: optional(Type.String({ description: "`next_cursor` of the page before.", maxLength: 512 })),
};
const path = {
  path: optional(text("Absolute path.")),
  path_b64: optional(Type.String({ description: "The same as base64 of its bytes.", maxLength: 32_768 })),
};

export const pageQuery = body(page);
export type PageQuery = Static<typeof pageQuery>;

export const jobQuery = body({
  wait_ms: optional(
    Type.Integer({
      description: "Answer when the job has ended, or after this time.",
      minimum: 0,
      maximum: API_LIMITS.jobWaitMsMax,
    }),
  ),
});
export type JobQuery = Static<typeof jobQuery>;

export const listBackupsQuery = body({
  ...page,
  filter: optional(
    text(
      "`last_7_days`, `last_24_hours`, `today`, `type=T`, `source=S`, `tag=T`, `contains_file=PATH`; joined by commas.",
    ),
  ),
  sort: optional(text("`timestamp`, `size`, `duration`, `files`, `type`; with `_asc` or `_desc` (default).")),
  latest: optional(flag("Only the newest.")),
});
export type ListBackupsQuery = Static<typeof listBackupsQuery>;

export const createBackupBody = body({
  type: optional(oneOf(BACKUP_TYPES, "Type; `incremental` unless told.")),
  sources: optional(texts("Names of sources; all unless told.")),
  tags: optional(texts("Words to find it by.")),
  compression: optional(flag("Compress; true unless told.")),
  encryption: optional(flag("True: refuse when the repository is not encrypted.")),
  rescan: optional(flag("True: walk every source, also when the daemon knows what changed.")),
});
export type CreateBackupBody = Static<typeof createBackupBody>;

export const pinBody = body({ pinned: flag("Whether rotation must keep it.") });
export type PinBody = Static<typeof pinBody>;

export const entriesQuery = body({ ...page, under: optional(text("Only below this folder.")) });
export type EntriesQuery = Static<typeof entriesQuery>;

const nameB64 = Type.String({ description: "From this name on, base64 of its bytes.", maxLength: 1024 });
export const folderQuery = body({ ...page, ...path });
export type FolderQuery = Static<typeof folderQuery>;

export const contentsQuery = body({
  ...path,
  from_b64: nameB64,
  source: text("Source of the files."),
  count: Type.Integer({ description: "Names to look at.", minimum: 1, maximum: API_LIMITS.pageMax }),
});
export type ContentsQuery = Static<typeof contentsQuery>;

export const rangeQuery = body({
  ...path,
  offset: Type.Integer({ description: "First byte.", minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  length: Type.Integer({ description: "Bytes at most.", minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
});
export type RangeQuery = Static<typeof rangeQuery>;

export const findQuery = body({ ...page, pattern: text("Glob on absolute paths, or on names when it has no slash.") });
export type FindQuery = Static<typeof findQuery>;

export const versionsQuery = body(path);
export type PathQuery = Static<typeof versionsQuery>;

export const diffQuery = body({ ...page, a: text("The earlier backup."), b: text("The later backup.") });
export type DiffQuery = Static<typeof diffQuery>;

export const contentQuery = body({
  ...path,
  id: optional(text("Backup id, prefix or `latest`.")),
  at: optional(time("The version of that time, instead of a backup.")),
});
export type ContentQuery = Static<typeof contentQuery>;

export const verifyBody = body({
  backup_id: optional(text("Backup id, prefix or `latest`; `latest` unless told.")),
  level: optional(oneOf(VERIFY_LEVELS, "How deep; `checksum` unless told.")),
  sample: optional(
    Type.Integer({
      description: "Number of files; only with `restore`: the others look at all.",
      minimum: 1,
      maximum: 1_000_000,
    }),
  ),
});
export type VerifyBody = Static<typeof verifyBody>;

export const restoreBody = body({
  backup_id: optional(text("Backup id, prefix or `latest`; each source from the newest that holds it unless told.")),
  at: optional(time("State of all sources at that time, instead of a backup.")),
  files: optional(texts("Paths (a folder means all below it) or globs; empty: everything.")),
  sources: optional(texts("Names of sources; all unless told.")),
  target: optional(text("Folder to restore below; the original places unless told.")),
  target_path: optional(Type.Union([text("The same, as the short form has it."), Type.Null()])),
  in_place: optional(flag("Change only the blocks that differ.")),
  overwrite: optional(oneOf(["always", "if-changed", "never"], "What to do with files that exist.")),
  delete: optional(flag("Remove what is not in the backup.")),
  dry_run: optional(flag("Only tell the plan.")),
  verify: optional(flag("Read back what was written; true unless told.")),
  sparse: optional(flag("Write runs of zeros as holes also where the file had none.")),
});
export type RestoreBody = Static<typeof restoreBody>;

export const checkBody = body({
  level: optional(oneOf(["structure", "sample", "full"], "How deep; `structure` unless told.")),
  share: optional(Type.Number({ description: "Share of the data to read for `sample`.", minimum: 0, maximum: 1 })),
  resume: optional(flag("Go on with a `full` check that was cut short.")),
});
export type CheckBody = Static<typeof checkBody>;

const periods = (what: string) => optional(Type.Integer({ description: what, minimum: 0, maximum: 100_000 }));
const policy = {
  sources: Type.Array(name("Name of a source."), {
    description: "The sources that it is for.",
    minItems: 1,
    maxItems: 1000,
    uniqueItems: true,
  }),
  last: periods("The newest ones, whatever their time."),
  hourly: periods("The newest of each of so many hours."),
  daily: periods("The newest of each of so many days."),
  weekly: periods("The newest of each of so many weeks."),
  monthly: periods("The newest of each of so many months."),
  yearly: periods("The newest of each of so many years."),
  min_copies: optional(Type.Integer({ description: "Never fewer than this stay.", minimum: 1, maximum: 100_000 })),
  within_seconds: optional(
    Type.Number({ description: "All that are younger stay.", minimum: 0, maximum: 100 * 366 * 86_400 }),
  ),
};
export const policyBody = body(policy);
export const newPolicyBody = body({ id: name("Name of the policy."), ...policy });
export type NewPolicyBody = Static<typeof newPolicyBody>;

export const garbageBody = body({
  dry_run: optional(flag("Only tell what would be done.")),
  allow_share: optional(
    Type.Number({ description: "Share of the store that may go at once; 0.3 unless told.", minimum: 0, maximum: 1 }),
  ),
});
export type GarbageBody = Static<typeof garbageBody>;
export const repairBody = body({
  dry_run: optional(flag("Only tell what could be repaired.")),
  read_data: optional(flag("Read and prove everything stored first.")),
  from: optional(text("Folder with another copy of the repository.")),
});
export type RepairBody = Static<typeof repairBody>;
export const addKeyBody = body({ password: text("The new password.") });
export type AddKeyBody = Static<typeof addKeyBody>;
export const rotateKeysBody = body({
  new_password: optional(text("Opens the repository from now on; the key in use unless told.")),
});
export type RotateKeysBody = Static<typeof rotateKeysBody>;

export const cleanupBody = body({
  dry_run: optional(flag("Only tell what would be done.")),
  force: optional(flag("Remove even a large share of the backups at once.")),
});
export type CleanupBody = Static<typeof cleanupBody>;

const onDelete = oneOf(["heal", "hold", "allow"], "What a loss leads to.");
const priority = oneOf(["critical", "high", "medium", "low"], "Order of work and loudness of alerts.");
const target = (description: string) => Type.Number({ description, exclusiveMinimum: 0, maximum: 366 * 86_400 });
const rpo = target("How old the newest copy may be, seconds.");
const rto = target("How long bringing it back may take, seconds.");
const exclude = texts("Patterns of what is not protected, as in .gitignore, beside the configured ones.");

export const protectBody = body({
  path: optional(text("Absolute path or glob.")),
  paths: optional(texts("Absolute paths or globs.")),
  name: optional(name("Name of the source.")),
  on_delete: optional(onDelete),
  priority: optional(priority),
  rpo_seconds: optional(rpo),
  rto_seconds: optional(rto),
  exclude: optional(exclude),
});
export type ProtectBody = Static<typeof protectBody>;

const orDefault = <S extends TSchema>(schema: S) => optional(Type.Union([schema, Type.Null()]));
/** Null takes a setting back to the configured default; what is left out stays. */
export const changeSourceBody = Type.Object(
  {
    paths: optional(Type.Array(text("Absolute path or glob."), { minItems: 1, maxItems: 10_000 })),
    on_delete: orDefault(onDelete),
    priority: orDefault(priority),
    rpo_seconds: orDefault(rpo),
    rto_seconds: orDefault(rto),
    exclude: orDefault(exclude),
  },
  { additionalProperties: false, minProperties: 1 },
);
export type ChangeSourceBody = Static<typeof changeSourceBody>;

export const pauseBody = body({
  path: optional(text("Only this path and what is below it; all unless told.")),
  duration_seconds: Type.Number({ description: "How long.", exclusiveMinimum: 0, maximum: 7 * 86_400 }),
  reason: optional(Type.String({ description: "Why, for the record.", maxLength: 1000 })),
});
export type PauseBody = Static<typeof pauseBody>;

export const pathBody = body({ path: optional(text("Absolute path; all unless told.")) });
export type PathBody = Static<typeof pathBody>;

export const recoverBody = body({
  file: optional(text("Absolute path of the file.")),
  file_path: optional(text("The same, as the short form has it.")),
  strategy: optional(text("`auto` (default) or the name of a strategy.")),
  at: optional(time("The state of that time.")),
  target_timestamp: optional(Type.Union([time("The same, as the short form has it."), Type.Null()])),
  to: optional(text("Write the result here instead.")),
  explain: optional(flag("Only tell what was found and what would be taken.")),
});
export type RecoverBody = Static<typeof recoverBody>;

export const incidentsQuery = body({
  open: optional(flag("Only those that are not closed.")),
  limit: optional(Type.Integer({ description: "Entries at most.", minimum: 1, maximum: API_LIMITS.pageMax })),
});
export type IncidentsQuery = Static<typeof incidentsQuery>;

export const alertsQuery = body({ all: optional(flag("Also the resolved ones.")) });
export type AlertsQuery = Static<typeof alertsQuery>;

export const silenceBody = body({
  condition: oneOf(Object.keys(CONDITIONS), "Name of the condition."),
  duration_seconds: Type.Number({ description: "How long.", exclusiveMinimum: 0, maximum: 90 * 86_400 }),
});
export type SilenceBody = Static<typeof silenceBody>;
