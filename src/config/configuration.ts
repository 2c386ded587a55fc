/**
 * The loaded configuration: what `daemon/` and `cli/` work with. Everything is resolved (durations in ms, sizes in
 * bytes, defaults applied, paths absolute); nothing is left to guess. `schema.ts` describes the file it comes from,
 * `resolve.ts` makes the one out of the other.
 */
import type { BackupType } from "../base/ids.js";
import type { BytePath } from "../base/paths.js";

export interface Configuration {
  /** The file it came from, absolute; undefined: embedded defaults. */
  readonly file: string | undefined;
  /** Where the repository is: an absolute path or a URL. */
  readonly storeUrl: string;
  /** Absolute folder of everything the daemon keeps besides the store. */
  readonly stateDir: string;
  readonly sources: readonly SourceConfiguration[];
  /** What a source gets that is added at run time; its name and paths mean nothing. */
  readonly sourceDefaults: SourceConfiguration;
  readonly schedule: readonly ScheduleConfiguration[];
  /** IANA name; undefined: the system's. */
  readonly timeZone: string | undefined;
  readonly rotation: RotationConfiguration;
  readonly mass: MassConfiguration;
  readonly watch: WatchConfiguration;
  readonly pins: PinsConfiguration;
  readonly verify: VerifyConfiguration;
  readonly alerts: AlertsConfiguration;
  readonly encryption: EncryptionConfiguration;
  readonly socket: SocketConfiguration;
  readonly metrics: MetricsConfiguration;
  readonly limits: LimitsConfiguration;
  readonly log: LogConfiguration;
  /** Changes of a path between backups are all kept this long, ms (`tiers.hot.keep`). */
  readonly versionsKeptMs: number;
  /** Parity that collections keep beside the packs: so many packs more for every so many; undefined: none. */
  readonly parity: { readonly dataPacks: number; readonly parityPacks: number } | undefined;
  /** Recompression while the machine is idle; undefined: none. */
  readonly recompress: RecompressConfiguration | undefined;
  /** What was doubtful but not wrong (a world-readable secret, a path that is covered twice), for people. */
  readonly warnings: readonly string[];
}

export interface RecompressConfiguration {
  readonly to: `zstd:${number}`;
  /** Minutes of the day, local time; undefined: at any hour. */
  readonly between: { readonly fromMinute: number; readonly toMinute: number } | undefined;
  readonly bytesPerDay: number;
}

export const PRIORITIES = ["critical", "high", "medium", "low"] as const;
export type Priority = (typeof PRIORITIES)[number];

export const ON_DELETE = ["heal", "hold", "allow"] as const;
/** What a loss leads to: healed after grace; held for a person; allowed, all versions kept. */
export type OnDelete = (typeof ON_DELETE)[number];

export const RULE_MODES = ["protect", "ask", "mirror", "append-only", "growing", "alert", "ignore"] as const;
export type RuleMode = (typeof RULE_MODES)[number];

export const STRATEGIES = [
  "latest_backup",
  "git_history",
  "temp_files",
  "pinned",
  "pinned_links",
  "open_files",
  "same_content",
  "fs_snapshots",
  "package_manager",
  "sqlite_wal",
  "reconstruct_from_logs",
  "regenerate",
  "manual_recovery",
] as const;
export type StrategyName = (typeof STRATEGIES)[number];

export const COMPRESSION_KINDS = ["auto", "lz4", "zstd", "none"] as const;
export interface CompressionConfiguration {
  readonly kind: (typeof COMPRESSION_KINDS)[number];
  /** 1 to 22, for zstd. */
  readonly level: number | undefined;
}

export interface SourceConfiguration {
  /** Unique; letters, digits, `.`, `_`, `-`. */
  readonly name: string;
  /** Files, folders or globs, absolute. */
  readonly paths: readonly BytePath[];
  readonly priority: Priority;
  /** Scheduled backups of this source besides the on-change stream; undefined: `on_change` only. */
  readonly frequency: When | undefined;
  /** Targets in ms; the recovery point (age of the newest copy) and the recovery time. */
  readonly rpoMs: number;
  readonly rtoMs: number;
  readonly encryptionRequired: boolean;
  readonly compression: CompressionConfiguration;
  /** Undefined: not set, so that git work trees get `allow` for tracked files and all else `heal`. */
  readonly onDelete: OnDelete | undefined;
  /** How long a path must be missing or broken before it counts as a loss, ms (`settle`). */
  readonly graceMs: number;
  /** How long a changed file must rest before it is read, ms (`rest`). */
  readonly restMs: number;
  /** gitignore-like patterns. */
  readonly exclude: readonly string[];
  /** Files outside these bounds are not protected, bytes; undefined: no bound. */
  readonly sizeBytesMin: number | undefined;
  readonly sizeBytesMax: number | undefined;
  readonly oneFileSystem: boolean;
  readonly rules: readonly RuleConfiguration[];
  readonly validate: readonly ValidateConfiguration[];
  /** Patterns of files that nobody should ever touch. */
  readonly canaries: readonly string[];
  readonly expect: readonly ExpectConfiguration[];
  /** Patterns of files that go together or not at all. */
  readonly groups: readonly string[];
  readonly recover: readonly RecoverConfiguration[];
}

/** How all sources are watched. */
export interface WatchConfiguration {
  /** As root: who changed or removed a file is asked of the system (fanotify). */
  readonly actors: boolean;
  /** A process that is seen to attack is stopped until a person decides; needs `actors`. */
  readonly stopAttacker: boolean;
}

/** What is kept of the files of critical sources on their own file systems. */
export interface PinsConfiguration {
  readonly reflinks: boolean;
  readonly hardLinks: boolean;
}

/** Files that must be there. */
export interface ExpectConfiguration {
  readonly match: string;
  readonly filesMin: number;
  readonly ageMaxMs: number | undefined;
}

/** First match decides the mode. */
export interface RuleConfiguration {
  readonly match: string;
  readonly mode: RuleMode;
}

/** Structures that `format` checks; `magic`: the content is what the name's ending says. */
export const VALIDATE_FORMATS = [
  "json",
  "yaml",
  "text",
  "toml",
  "xml",
  "csv",
  "ini",
  "env",
  "sqlite",
  "gzip",
  "zip",
  "tar",
  "png",
  "jpeg",
  "gif",
  "pdf",
  "elf",
  "magic",
] as const;
export type ValidateFormat = (typeof VALIDATE_FORMATS)[number];

export interface ValidateConfiguration {
  readonly match: string;
  readonly json: boolean;
  readonly yaml: boolean;
  readonly text: boolean;
  readonly format: ValidateFormat | undefined;
  /** Bounds of the size; undefined: none. */
  readonly sizeBytesMin: number | undefined;
  readonly sizeBytesMax: number | undefined;
  /** JSON Schema file, absolute. */
  readonly schemaFile: string | undefined;
  readonly rules: ValidateRules | undefined;
  /** argv; `{file}` is the path of the bytes to check. */
  readonly command: readonly string[] | undefined;
  readonly timeoutMs: number;
}
export interface ValidateRules {
  readonly required: readonly string[];
  readonly unique: readonly string[];
  readonly uniqueAcrossFiles: readonly string[];
  readonly timestamps: readonly string[];
  readonly items: { readonly path: string; readonly required: readonly string[] } | undefined;
}

/** First match decides the chain; in the chain the first acceptable candidate wins. */
export interface RecoverConfiguration {
  readonly match: string;
  /** How good a candidate must be to be put back without asking. */
  readonly accept: (typeof ACCEPT)[number];
  readonly chain: readonly StrategyStep[];
}
export const ACCEPT = ["identical", "newer_valid", "any_valid", "partial"] as const;
export interface StrategyStep {
  readonly strategy: StrategyName;
  /** The step's other keys as written, names unchanged, durations under `*_ms` (`timeout` -> `timeout_ms`). */
  readonly parameters: Readonly<Record<string, unknown>>;
}

export const WEEKDAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"] as const;

/** When something is due. Hours 0-23, minutes 0-59, in the configured time zone. */
export type When =
  | { readonly kind: "every"; readonly everyMs: number }
  | { readonly kind: "hourly"; readonly minute: number }
  | { readonly kind: "daily"; readonly hour: number; readonly minute: number }
  /** Sunday is 0. */
  | { readonly kind: "weekly"; readonly day: number; readonly hour: number; readonly minute: number }
  /** 1 to 31; a month without that day runs on its last. */
  | { readonly kind: "monthly"; readonly date: number; readonly hour: number; readonly minute: number }
  | { readonly kind: "cron"; readonly line: string }
  /** Only when asked for, such as `before_deployment`. */
  | { readonly kind: "manual" };

export interface ScheduleConfiguration {
  readonly name: string;
  readonly type: BackupType;
  readonly when: When;
  /** Source names; empty: all. */
  readonly sources: readonly string[];
}

/** How many newest periods keep one backup each; 0: that rule keeps nothing. */
export interface RotationConfiguration {
  readonly last: number;
  readonly hourly: number;
  readonly daily: number;
  readonly weekly: number;
  readonly monthly: number;
  readonly yearly: number;
  /** Never fewer than this many backups stay. */
  readonly minCopies: number;
  /** All backups younger than this stay, ms; 0: no such rule. */
  readonly withinMs: number;
}

/** When many losses are one incident that waits for a person. */
export interface MassConfiguration {
  readonly files: number;
  /** Share of a source, 0 to 1. */
  readonly share: number;
  /** The share counts only from this many files on. */
  readonly minFiles: number;
  readonly withinMs: number;
  /** `hold`: one incident waits for approval; `heal`: it is healed at once. */
  readonly then: "hold" | "heal";
}

export interface VerifyConfiguration {
  /** Every protected live file is re-read within this time, ms. */
  readonly checksumsEveryMs: number;
  /** Every stored byte is re-read within this time, ms; undefined: never. */
  readonly blocksEveryMs: number | undefined;
}

/** Where a secret is; `secrets.ts` reads it when it is used. */
export type SecretReference =
  /** Absolute, once the configuration is resolved. */
  | { readonly file: string }
  | { readonly env: string }
  | { readonly credential: string }
  | { readonly command: readonly string[] };

export interface EmailChannelConfiguration {
  readonly kind: "email";
  /** `smtp://host:port` or `smtps://…`, without user and password. */
  readonly smtp: string;
  readonly user: string | undefined;
  readonly password: SecretReference | undefined;
  readonly from: string;
  readonly to: readonly string[];
  /** False: plain SMTP is allowed when the server offers no STARTTLS. */
  readonly requireTls: boolean;
  readonly caFile: string | undefined;
}
export interface SlackChannelConfiguration {
  readonly kind: "slack";
  readonly webhook: SecretReference;
}
export type ChannelConfiguration = { readonly name: string } & (EmailChannelConfiguration | SlackChannelConfiguration);

export const ALERT_CONDITIONS = [
  "file_lost",
  "file_recovered",
  "recovery_failed",
  "incident_waiting",
  "backup_failed",
  "backup_overdue",
  "storage_full",
  "integrity_check_failed",
  "watch_degraded",
  "expected_missing",
] as const;
export type AlertCondition = (typeof ALERT_CONDITIONS)[number];
export const SEVERITIES = ["info", "warning", "critical"] as const;

export interface AlertRuleConfiguration {
  readonly when: AlertCondition;
  /** Undefined: the condition's own. */
  readonly severity: (typeof SEVERITIES)[number] | undefined;
  /** A count (`1`), or a share 0-1 for `storage_full`; undefined: the condition's default. */
  readonly threshold: number | undefined;
  /** Channel names. */
  readonly actions: readonly string[];
  readonly autoRetry: { readonly times: number; readonly backoffMs: number } | undefined;
  readonly autoCleanup: boolean;
}
export interface AlertsConfiguration {
  readonly channels: readonly ChannelConfiguration[];
  /** Empty: every condition at its default severity to all channels. */
  readonly rules: readonly AlertRuleConfiguration[];
}

export interface EncryptionConfiguration {
  readonly enabled: boolean;
  readonly cipher: "aes-256-gcm";
  readonly kdf: "pbkdf2-sha256" | "scrypt";
  /** Undefined: a random key beside the state. */
  readonly key: SecretReference | undefined;
  /** Wraps the key in place of a password. */
  readonly keyService: KeyServiceConfiguration | undefined;
}
export type KeyServiceConfiguration =
  | {
      readonly service: "vault-transit";
      readonly address: string;
      readonly key: string;
      readonly mount: string | undefined;
      readonly namespace: string | undefined;
      readonly token: SecretReference;
      /** PEM file, absolute. */
      readonly caFile: string | undefined;
    }
  | {
      readonly service: "aws-kms";
      readonly keyId: string;
      readonly region: string;
      readonly endpoint: string | undefined;
      readonly accessKeyId: SecretReference;
      readonly secretAccessKey: SecretReference;
      readonly sessionToken: SecretReference | undefined;
      readonly caFile: string | undefined;
    };

export interface SocketConfiguration {
  readonly path: string;
  /** Group that may use it as `backup_operator`; undefined: none. */
  readonly group: string | undefined;
  /** Permission bits, such as 0o660. */
  readonly mode: number;
  /** What a local user outside the group may do. */
  readonly others: "viewer" | "refuse";
}

export interface MetricsConfiguration {
  /** Loopback `host:port` for `/metrics` besides the socket; undefined: socket only. */
  readonly listen: string | undefined;
  /** Bearer token that a scrape over TCP must bring; always set when `listen` is. */
  readonly token: SecretReference | undefined;
}

export interface LimitsConfiguration {
  /** Bounds worker threads and remembered changes, bytes. */
  readonly memoryBytes: number;
  /** Worker threads; undefined: chosen by the number of processors. */
  readonly workers: number | undefined;
}

export interface LogConfiguration {
  readonly level: "error" | "warn" | "info" | "debug";
}
