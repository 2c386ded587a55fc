/**
 * The one schema of the configuration file: from it come the file's TypeScript type, its validation (`check.ts`), the
 * JSON Schema for editors (`config/holdfast.schema.json`) and the reference page (`docs/configuration.md`). Every key
 * carries a description. What is loaded from it is in `configuration.ts`.
 */
import type { Static } from "typebox";
import * as Type from "typebox/type";
import { BACKUP_TYPES } from "../base/ids.js";
import {
  ALERT_CONDITIONS,
  ON_DELETE,
  PRIORITIES,
  RULE_MODES,
  SEVERITIES,
  VALIDATE_FORMATS,
  WEEKDAYS,
} from "./configuration.js";
import { recoverRule, pins } from "./schema-recovery.js";
import {
  CONFIG_LIMITS,
  choice,
  count,
  duration,
  flag,
  mapping,
  match,
  optional,
  path,
  paths,
  secret,
  share,
  size,
  text,
  texts,
} from "./schema-parts.js";

const priority = choice("Order of work and loudness of alerts.", PRIORITIES, "medium");
const onDelete = choice(
  "What a loss leads to: `heal` (put back after `settle`), `hold` (ask first), `allow` (accept, keep all versions). Not set: `allow` for files that git tracks, `heal` for all others.",
  ON_DELETE,
);
const compress = text("`auto` (lz4 on the on-change path, zstd in packs), `lz4`, `zstd:1` to `zstd:22`, or `none`.", {
  pattern: "^(auto|lz4|none|zstd(:([1-9]|1[0-9]|2[0-2]))?)$",
  default: "auto",
});
const exclude = texts("Patterns of what is not protected, as in .gitignore (`.cache/`, `*.tmp`, `/build`).");
const settle = duration("How long a path must be missing or broken before it counts as a loss.", "500ms");
const rest = duration("How long a changed file must rest before it is read (5 s at most).", "250ms");
const recover = Type.Array(recoverRule, {
  description: "How lost or damaged files come back; the first match decides.",
  maxItems: 100,
});
const clockTime = (description: string, fallback: string) =>
  text(description, { pattern: "^([01]\\d|2[0-3]):[0-5]\\d$", default: fallback, "x-quote": true });

const validation = mapping(
  "A check of the paths that match.",
  {
    match,
    json: optional(flag("The file must be JSON.", false)),
    yaml: optional(flag("The file must be YAML.", false)),
    text: optional(flag("The file must be UTF-8 text without NUL bytes.", false)),
    format: optional(
      choice(
        "The structure that the file must have; `magic`: what the ending of its name says, by its first bytes.",
        VALIDATE_FORMATS,
      ),
    ),
    min_size: optional(size("The file must not be smaller.")),
    max_size: optional(size("The file must not be larger.")),
    schema: optional(path("JSON Schema file that the content must fit.")),
    rules: optional(
      mapping("Deep checks of JSON documents.", {
        required: optional(texts("Fields that must be there.")),
        unique: optional(texts("Fields that must not repeat between documents of the list.")),
        unique_across_files: optional(
          texts("Fields that no two files that match may share, such as the id of what a file holds."),
        ),
        timestamps: optional(texts("Fields that must hold valid times in ascending order.")),
        items: optional(
          mapping("Checks of each item of a list.", {
            path: text("Field that holds the list."),
            required: optional(texts("Fields that each item must have.")),
          }),
        ),
      }),
    ),
    command: optional(
      texts("Program and arguments that end with 0 when the file is good; `{file}` is its path.", { minItems: 1 }),
    ),
    timeout: optional(duration("Time limit of the check.", "10s")),
  },
  { minProperties: 2 },
);

const sourceMapping = mapping(
  "One protected thing.",
  {
    name: optional(
      text("Unique name; made from the path unless told.", { pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$", maxLength: 100 }),
    ),
    path: optional(path("A file, folder or glob.")),
    paths: optional(paths("Files, folders or globs.", { minItems: 1 })),
    priority: optional(priority),
    backup_frequency: optional(
      text(
        "`on_change` (default), or also a scheduled backup: `hourly`, `daily`, `weekly`, `monthly` or a cron line. Every change is made durable in any case.",
        { default: "on_change" },
      ),
    ),
    rpo: optional(duration("How old the newest copy may be.", "15m")),
    rto: optional(duration("How long bringing it back may take.", "10m")),
    encryption_required: optional(flag("Refuse to store this source in an unencrypted repository.", false)),
    compress: optional(compress),
    on_delete: optional(onDelete),
    settle: optional(settle),
    grace: optional(duration("Another name for `settle`.")),
    rest: optional(rest),
    exclude: optional(exclude),
    min_size: optional(size("Smaller files are not protected.")),
    max_size: optional(size("Larger files are not protected.")),
    one_file_system: optional(flag("Do not go into other file systems mounted below.", true)),
    rules: optional(
      Type.Array(mapping("A mode for the paths that match.", { match, mode: choice("What happens.", RULE_MODES) }), {
        description: "Modes by pattern, before `on_delete`; the first match decides.",
        maxItems: 1000,
      }),
    ),
    validate: optional(
      Type.Array(validation, { description: "What damaged means here, by pattern; all that match.", maxItems: 1000 }),
    ),
    canaries: optional(
      texts("Patterns of files that nobody should ever touch: whoever changes one is taken for an attacker at once."),
    ),
    expect: optional(
      Type.Array(
        mapping("Files that must be there, counted at each look at all files.", {
          match,
          min_files: optional(count("At least so many files.", { minimum: 1, default: 1 })),
          max_age: optional(duration("How long ago the newest of them may have been changed.")),
        }),
        { description: "Files that must be there; an alert tells when they are not.", maxItems: 1000 },
      ),
    ),
    groups: optional(
      texts(
        "Patterns of files that go together or not at all: when a part of them goes, it is a loss also where deletions are allowed.",
      ),
    ),
    recover: optional(recover),
  },
  { "x-later": ["encrypt", "watch", "schedule", "bandwidth", "hooks", "before", "after"] },
);

const scheduled = (type: (typeof BACKUP_TYPES)[number]) => ({
  enabled: optional(flag("Whether it runs.", true)),
  type: optional(choice("Type of the backup.", BACKUP_TYPES, type)),
  sources: optional(texts("Names of sources; all unless told.")),
});
const schedule = mapping("When backups are made, besides the on-change stream.", {
  hourly: optional(
    mapping("Every hour.", {
      ...scheduled("incremental"),
      minute: optional(count("Minute of the hour.", { maximum: 59, default: 0 })),
    }),
  ),
  daily: optional(mapping("Every day.", { ...scheduled("full"), time: optional(clockTime("Time of day.", "02:00")) })),
  weekly: optional(
    mapping("Every week.", {
      ...scheduled("full"),
      day: optional(choice("Day of the week.", WEEKDAYS, "sunday")),
      time: optional(clockTime("Time of day.", "03:00")),
    }),
  ),
  monthly: optional(
    mapping("Every month.", {
      ...scheduled("full"),
      day: optional(
        count("Day of the month; a shorter month runs on its last.", { minimum: 1, maximum: 31, default: 1 }),
      ),
      time: optional(clockTime("Time of day.", "04:00")),
    }),
  ),
  before_deployment: optional(mapping("Only when asked for.", scheduled("snapshot"))),
  cron: optional(
    Type.Array(
      mapping("A schedule of your own.", {
        name: text("Unique name.", { pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$", maxLength: 100 }),
        line: text("Minute, hour, day of month, month, day of week; such as `*/30 * * * *`."),
        ...scheduled("incremental"),
      }),
      { description: "Schedules by cron lines.", maxItems: 100 },
    ),
  ),
  time_zone: optional(text("IANA name, such as `Europe/Berlin`; the system's unless told.")),
});

const rotation = mapping("How many backups stay: the newest of each of so many periods.", {
  last: optional(count("The newest ones, whatever their time.", { default: 0 })),
  hourly: optional(count("Hours.", { default: 24 })),
  daily: optional(count("Days.", { default: 7 })),
  weekly: optional(count("Weeks.", { default: 4 })),
  monthly: optional(count("Months.", { default: 12 })),
  yearly: optional(count("Years.", { default: 5 })),
  min_copies: optional(count("Never fewer than this stay.", { minimum: 1, default: 2 })),
  within: optional(duration("All backups younger than this stay.")),
});

const channel = mapping(
  "One way to reach people: exactly one of the kinds.",
  {
    email: optional(
      mapping("Email by SMTP.", {
        smtp: text("Server, such as `smtps://mail.example.org` or `smtp://localhost:25`; no user or password here.", {
          pattern: "^smtps?://[^/@]+/?$",
          "x-hide": true,
        }),
        from: text("Sender."),
        to: texts("Recipients.", { minItems: 1, maxItems: 100 }),
        user: optional(text("Account on the server.")),
        password: optional(secret("Its password.")),
        require_tls: optional(flag("Refuse to send without encryption (STARTTLS) on `smtp://`.", false)),
        ca: optional(path("File with the certificates to trust instead of the system's.")),
      }),
    ),
    slack: optional(mapping("A Slack channel by incoming webhook.", { webhook: secret("The webhook's URL.") })),
  },
  {
    minProperties: 1,
    maxProperties: 1,
    "x-later": ["discord", "sms", "webhook", "pagerduty", "telegram", "digest"],
  },
);

const alertRule = mapping(
  "What to do when a condition holds.",
  {
    when: choice("The condition.", ALERT_CONDITIONS),
    severity: optional(choice("How loud; the condition's own unless told.", SEVERITIES)),
    threshold: optional(
      Type.Union([count("From how many on.", { minimum: 1 }), share("From which share of the space in use on.")], {
        description: "A count, or for `storage_full` a share such as `90%`.",
      }),
    ),
    actions: optional(texts("Names of channels; all unless told.")),
    auto_retry: optional(
      mapping("Try the failed backup again.", {
        times: count("How often.", { minimum: 1, maximum: 20 }),
        backoff: optional(duration("Wait before the first; doubled each time.", "30s")),
      }),
    ),
    auto_cleanup: optional(flag("Run the rotation when the store fills.", false)),
  },
  { "x-later": ["escalate", "for", "auto_recreate_backup"] },
);

/** A key service wraps the repository's key, so that no password is needed; its answer lies in the store. */
const keyService = mapping(
  "A service that wraps the key in place of a password; the recovery key opens without it.",
  {
    vault: optional(
      mapping("HashiCorp Vault's transit engine.", {
        address: text("Such as https://vault.example.org:8200."),
        key: text("Name of the transit key."),
        mount: optional(text("Where the engine is mounted; `transit` unless told.")),
        namespace: optional(text("Vault namespace.")),
        token: secret("Token that may encrypt and decrypt with the key."),
        ca: optional(path("PEM file of an authority of one's own.")),
      }),
    ),
    aws_kms: optional(
      mapping("AWS KMS.", {
        key_id: text("Key id, ARN or alias/name."),
        region: text("Such as eu-central-1."),
        endpoint: optional(text("Address, where it is not that of the region.")),
        access_key_id: secret("Access key that may use Encrypt and Decrypt."),
        secret_access_key: secret("Its secret."),
        session_token: optional(secret("Token of temporary credentials.")),
        ca: optional(path("PEM file of an authority of one's own.")),
      }),
    ),
  },
  { minProperties: 1, maxProperties: 1 },
);

/** The configuration file. */
export const configFileSchema = mapping(
  "holdfast.yaml",
  {
    store: optional(path("Where the repository is: a folder. Relative paths count from this file.")),
    parity: optional(
      text(
        "Parity beside the packs, such as `10+2`: of any 10 packs 2 may be lost. Made by `gc`; `none` unless told.",
        {
          pattern: "^(none|[1-9]\\d{0,2}\\+[1-9]\\d?)$",
        },
      ),
    ),
    recompress: optional(
      mapping("Packs are written anew at a higher level while the machine is idle; never unless told.", {
        to: text("The level, such as `zstd:12`.", { pattern: "^zstd:([1-9]|1[0-9]|2[0-2])$" }),
        between: optional(
          text("Only in these hours, local time, such as `01:00-06:00`; at any hour unless told.", {
            pattern: "^([01]\\d|2[0-3]):[0-5]\\d-([01]\\d|2[0-3]):[0-5]\\d$",
          }),
        ),
        per_day: optional(size("So much is read for it in a day.", "50GiB")),
      }),
    ),
    state_dir: optional(path("Folder of the daemon's own state (index, registry, quarantine, key).")),
    include: optional(
      paths("More files of this form, as globs; lists are joined, mappings merged.", {
        maxItems: CONFIG_LIMITS.includesMax,
      }),
    ),
    defaults: optional(
      mapping("What holds for every source that does not say otherwise.", {
        every: optional(duration("An incremental backup this often.", "6h")),
        rpo: optional(duration("How old the newest copy may be.", "15m")),
        rto: optional(duration("How long bringing it back may take.", "10m")),
        encrypt: optional(flag("Whether a new repository is encrypted.", true)),
        compress: optional(compress),
        priority: optional(priority),
        on_delete: optional(onDelete),
        settle: optional(settle),
        rest: optional(rest),
        exclude: optional(exclude),
        recover: optional(recover),
      }),
    ),
    sources: optional(
      Type.Array(Type.Union([path("A file, folder or glob; takes the defaults."), sourceMapping]), {
        description: "What is protected: paths, or mappings with settings.",
        maxItems: CONFIG_LIMITS.sourcesMax,
      }),
    ),
    mass: optional(
      mapping("When many losses at once are one incident.", {
        files: optional(count("More files than this.", { minimum: 1, default: 50 })),
        share: optional(share("Or more than this share of a source.", "20%")),
        min_files: optional(count("The share counts from so many files on.", { minimum: 1, default: 10 })),
        within: optional(duration("Lost within this time.", "60s")),
        then: optional(choice("`hold`: wait for approval; `heal`: bring all back at once.", ["hold", "heal"], "hold")),
      }),
    ),
    watch: optional(
      mapping("How all sources are watched.", {
        actors: optional(
          flag("As root, or with CAP_SYS_ADMIN: ask the system who changed or removed a file (fanotify).", true),
        ),
        stop_attacker: optional(
          flag(
            "Stop a process (SIGSTOP) that is seen to attack files; needs `actors`. The incident says how to let it go on or end it.",
            false,
          ),
        ),
      }),
    ),
    pins: optional(pins),
    schedule: optional(schedule),
    rotation: optional(rotation),
    tiers: optional(
      mapping(
        "Where data lies.",
        {
          hot: optional(
            mapping("The store itself.", {
              keep: optional(duration("Every change of a file between backups is kept this long.", "7d")),
            }),
          ),
        },
        { "x-later": ["warm", "cold", "offsite"] },
      ),
    ),
    verify: optional(
      mapping(
        "Proofs that run by themselves.",
        {
          checksums: optional(
            mapping("Protected files are read again and compared.", {
              every: duration("Each file at least this often.", "7d"),
            }),
          ),
          blocks: optional(
            mapping(
              "Everything stored is read again and checked.",
              { every: duration("All of it at least this often.", "30d") },
              { "x-later": ["parallel"] },
            ),
          ),
        },
        { "x-later": ["restore"] },
      ),
    ),
    alerts: optional(
      mapping(
        "Who hears of what.",
        {
          channels: optional(
            Type.Record(Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9._-]*$" }), channel, {
              description: "Channels by name.",
            }),
          ),
          rules: optional(
            Type.Array(alertRule, {
              description: "Rules; without any, every condition is told to all channels.",
              maxItems: 1000,
            }),
          ),
        },
        { "x-later": ["quiet", "heartbeat"] },
      ),
    ),
    encryption: optional(
      mapping(
        "How a new repository is encrypted, and the key that opens it.",
        {
          cipher: optional(choice("Cipher.", ["aes-256-gcm"], "aes-256-gcm")),
          kdf: optional(choice("How a password becomes a key.", ["pbkdf2-sha256", "scrypt"], "pbkdf2-sha256")),
          key: optional(secret("Password; a random key beside the state unless told.")),
          key_service: optional(keyService),
        },
        { "x-later": ["recovery_key"] },
      ),
    ),
    access: optional(
      mapping(
        "Who may use the control socket.",
        {
          socket: optional(
            mapping("The Unix socket.", {
              path: optional(path("Where it is.")),
              group: optional(text("Group of `/etc/group` whose members may operate backups and recovery.")),
              mode: optional(
                text("Permission bits in quotes; `0660` with a group and `0600` without unless told.", {
                  pattern: "^0?[0-7]{3}$",
                  "x-quote": true,
                }),
              ),
              others: optional(
                choice("What users outside the group may do when they can open it.", ["viewer", "refuse"], "refuse"),
              ),
            }),
          ),
        },
        { "x-later": ["http", "roles", "tokens"] },
      ),
    ),
    metrics: optional(
      mapping(
        "Metrics for Prometheus. They are always on the socket; `listen` adds a port.",
        {
          listen: optional(
            text("Loopback address and port, such as `127.0.0.1:9876`, for `/metrics`, `/healthz` and `/readyz`.", {
              pattern: "^(127\\.\\d+\\.\\d+\\.\\d+|localhost|\\[::1\\]):\\d{1,5}$",
            }),
          ),
          token: optional(secret("Bearer token that a scrape must bring; needed with `listen`.")),
        },
        { "x-later": ["path", "max_series"] },
      ),
    ),
    limits: optional(
      mapping(
        "What the daemon may use.",
        {
          memory: optional(
            size(
              "What work may use: bounds the worker threads and the changes that are remembered while they cannot be stored.",
              "1GiB",
            ),
          ),
          workers: optional(
            Type.Union(
              [
                choice("By the number of processors.", ["auto"]),
                Type.Integer({ description: "So many.", minimum: 1, maximum: 64 }),
              ],
              {
                description: "Worker threads: `auto` or a number.",
                default: "auto",
              },
            ),
          ),
        },
        { "x-later": ["upload", "uploads", "download", "cpu", "io"] },
      ),
    ),
    log: optional(
      mapping("Logs.", { level: optional(choice("From which level on.", ["error", "warn", "info", "debug"], "info")) }),
    ),
  },
  { "x-later": ["databases", "anomaly", "dashboard", "audit", "disaster", "replicate", "hooks"] },
);

/** The file as it is written. */
export type ConfigFile = Static<typeof configFileSchema>;
