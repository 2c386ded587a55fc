/**
 * The table of every error code: what it means, the exit code the command line ends with, and what a person can do.
 * Codes are permanent: scripts and alert rules name them. `docs/errors.md` is made from this table.
 */

/** Exit codes of the command line; stable, documented in `docs/errors.md`. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  partial: 3,
  damage: 4,
  targetBreached: 5,
  noRepository: 10,
  locked: 11,
  wrongKey: 12,
  notPermitted: 13,
  daemonUnreachable: 20,
  configWrong: 78,
  interrupted: 130,
} as const;

/** What each means, for `docs/errors.md` and `holdfast explain`. */
export const EXIT_MEANINGS = {
  ok: "done",
  failed: "failed",
  usage: "wrong usage",
  partial: "partly done: some files could not be read; the backup exists",
  damage: "damage or loss was found",
  targetBreached: "a target (RPO, RTO, overdue) is breached",
  noRepository: "no repository",
  locked: "locked by another process",
  wrongKey: "wrong key",
  notPermitted: "not permitted",
  daemonUnreachable: "the daemon cannot be reached, and the command needs it",
  configWrong: "the configuration is wrong",
  interrupted: "interrupted",
} as const satisfies Record<keyof typeof EXIT, string>;

interface CodeEntry {
  /** Exit code of a command that ends with this error. */
  readonly exit: number;
  /** What happened, in one sentence, for `docs/errors.md` and `holdfast explain`. */
  readonly meaning: string;
  /** What a person does about it; used when the thrower gave no better hint. */
  readonly hint: string;
}

export const ERROR_CODES = {
  USAGE: {
    exit: EXIT.usage,
    meaning: "The command was called in a way it does not understand.",
    hint: "See `holdfast help`.",
  },
  CONFIG_INVALID: {
    exit: EXIT.configWrong,
    meaning: "The configuration has a wrong key or value.",
    hint: "Correct the line named in the message, then run `holdfast config check`.",
  },
  CONFIG_UNREADABLE: {
    exit: EXIT.configWrong,
    meaning: "The configuration file cannot be read.",
    hint: "Check the path given with --config or HOLDFAST_CONFIG, and its permissions.",
  },
  SECRET_UNREADABLE: {
    exit: EXIT.configWrong,
    meaning: "A secret named in the configuration cannot be read.",
    hint: "Check the file, environment variable, credential or command that the configuration names.",
  },
  REPO_NOT_FOUND: {
    exit: EXIT.noRepository,
    meaning: "There is no repository at the given place.",
    hint: "Protect something (`holdfast protect PATH`) or run `holdfast init`; or check the store path.",
  },
  REPO_EXISTS: {
    exit: EXIT.failed,
    meaning: "A repository exists already at the given place.",
    hint: "Use it as it is, or choose an empty folder.",
  },
  REPO_NOT_EMPTY: {
    exit: EXIT.failed,
    meaning: "The folder is not empty and is not a repository.",
    hint: "Choose an empty folder for the store.",
  },
  REPO_LOCKED: {
    exit: EXIT.locked,
    meaning: "Another process is writing to this repository.",
    hint: "Wait for it, or talk to the running daemon through its socket.",
  },
  REPO_KEY_WRONG: {
    exit: EXIT.wrongKey,
    meaning: "The key or password does not open this repository.",
    hint: "Give the right password file or key, or use the recovery key.",
  },
  KEY_SERVICE_FAILED: {
    exit: EXIT.wrongKey,
    meaning: "The key service (AWS KMS, Vault) did not answer, or refused.",
    hint: "See the message; check `encryption.key_service`, or open with another key such as the recovery key.",
  },
  REPO_KEY_MISSING: {
    exit: EXIT.wrongKey,
    meaning: "The repository is encrypted and no key was given.",
    hint: "Give --password-file, or restore the key file beside the state.",
  },
  REPO_FORMAT_UNSUPPORTED: {
    exit: EXIT.failed,
    meaning: "The repository was written in a format that this version does not know.",
    hint: "Use a newer holdfast.",
  },
  REPO_CONFIG_DAMAGED: {
    exit: EXIT.damage,
    meaning: "Both copies of the repository's own configuration are damaged.",
    hint: "Restore the `config` folder of the store from a copy.",
  },
  INDEX_LOCKED: {
    exit: EXIT.locked,
    meaning: "Another holdfast process holds the local index.",
    hint: "Talk to the running daemon through its socket, or stop it first.",
  },
  INDEX_DAMAGED: {
    exit: EXIT.failed,
    meaning: "The local index cannot be read.",
    hint: "It is rebuilt from the store at the next start.",
  },
  STORE_FULL: {
    exit: EXIT.failed,
    meaning: "The store has no space left.",
    hint: "Free space on the store's file system; holdfast goes on by itself.",
  },
  STORE_READ_ONLY: {
    exit: EXIT.failed,
    meaning: "The store cannot be written.",
    hint: "Remount it writable, or check its permissions.",
  },
  STORE_IO: {
    exit: EXIT.failed,
    meaning: "The store's file system reported an input/output error.",
    hint: "Check the disk (`dmesg`), then run `holdfast check --read-data`.",
  },
  OBJECT_MISSING: {
    exit: EXIT.damage,
    meaning: "An object of the store is missing.",
    hint: "Run `holdfast check`; restore the store from a copy if it is not healed.",
  },
  OBJECT_EXISTS: {
    exit: EXIT.failed,
    meaning: "An object of that name exists already and is never overwritten.",
    hint: "Run `holdfast check`.",
  },
  OBJECT_DAMAGED: {
    exit: EXIT.damage,
    meaning: "An object of the store is damaged.",
    hint: "Run `holdfast check --read-data` to see what it touches.",
  },
  RECORD_DAMAGED: {
    exit: EXIT.damage,
    meaning: "A stored record failed its checksum or its seal.",
    hint: "Run `holdfast check --read-data` to see what it touches.",
  },
  CHUNK_MISSING: {
    exit: EXIT.damage,
    meaning: "A chunk that a version needs is not in the store.",
    hint: "Run `holdfast check`; the next backup stores it again if the live file still has it.",
  },
  BACKUP_NOT_FOUND: { exit: EXIT.failed, meaning: "No backup has that id.", hint: "See `holdfast list`." },
  BACKUP_AMBIGUOUS: {
    exit: EXIT.usage,
    meaning: "Several backups start with that prefix.",
    hint: "Give more of the id; see `holdfast list`.",
  },
  BACKUP_PINNED: { exit: EXIT.failed, meaning: "The backup is pinned and cannot be removed.", hint: "Unpin it first." },
  VERSION_NOT_FOUND: {
    exit: EXIT.failed,
    meaning: "No stored version of that path fits the request.",
    hint: "See `holdfast versions PATH`.",
  },
  SOURCE_NOT_FOUND: {
    exit: EXIT.failed,
    meaning: "No source has that name.",
    hint: "See `holdfast status` for the sources.",
  },
  SOURCE_EXISTS: {
    exit: EXIT.failed,
    meaning: "A source of that name exists already.",
    hint: "Choose another name with --name.",
  },
  POLICY_NOT_FOUND: {
    exit: EXIT.failed,
    meaning: "No retention policy has that name.",
    hint: "See `GET retention/policies`.",
  },
  POLICY_EXISTS: {
    exit: EXIT.failed,
    meaning: "A retention policy has that name already, or is for one of the sources already.",
    hint: "Replace that policy (`PUT`), or choose another name and other sources.",
  },
  SOURCE_UNREADABLE: {
    exit: EXIT.partial,
    meaning: "Some files could not be read; their last good versions are kept.",
    hint: "Check their permissions, or exclude them.",
  },
  SOURCE_ROOT_GONE: {
    exit: EXIT.failed,
    meaning: "The folder of a source is gone or its file system is not mounted.",
    hint: "Mount it, or remove the source with `holdfast unprotect`.",
  },
  PARTLY_DONE: {
    exit: EXIT.partial,
    meaning: "The work was done in part.",
    hint: "See the list of what was left out.",
  },
  FILE_DAMAGED: { exit: EXIT.damage, meaning: "A protected file is damaged.", hint: "See `holdfast incidents`." },
  FILE_LOST: { exit: EXIT.damage, meaning: "A protected file is missing.", hint: "See `holdfast incidents`." },
  RECOVERY_FAILED: {
    exit: EXIT.failed,
    meaning: "No strategy brought the file back.",
    hint: "See `holdfast incidents show ID` for what was tried and the commands to try by hand.",
  },
  INCIDENT_NOT_FOUND: { exit: EXIT.failed, meaning: "No incident has that id.", hint: "See `holdfast incidents`." },
  INCIDENT_AMBIGUOUS: {
    exit: EXIT.usage,
    meaning: "Several incidents start with that prefix.",
    hint: "Give more of the id; see `holdfast incidents`.",
  },
  INCIDENT_STATE: {
    exit: EXIT.failed,
    meaning: "The incident is not waiting for that decision.",
    hint: "See `holdfast incidents show ID`.",
  },
  QUARANTINE_MISSING: {
    exit: EXIT.failed,
    meaning: "The incident has no bytes in quarantine.",
    hint: "See `holdfast incidents show ID`.",
  },
  TARGET_EXISTS: {
    exit: EXIT.failed,
    meaning: "The target exists and may not be overwritten.",
    hint: "Choose another target, or --overwrite always.",
  },
  TARGET_UNSAFE: {
    exit: EXIT.failed,
    meaning: "A symbolic link or a foreign folder stands in the way of the target path; nothing was written.",
    hint: "Look at the named folder; if it is a link that is meant to be there, restore to another folder with --target.",
  },
  TARGET_IO: {
    exit: EXIT.failed,
    meaning: "Writing the target failed.",
    hint: "Check space and permissions of the target's file system.",
  },
  PERMISSION_DENIED: {
    exit: EXIT.notPermitted,
    meaning: "The caller may not do this.",
    hint: "Use an account that may; see `access` in the configuration.",
  },
  DAEMON_UNREACHABLE: {
    exit: EXIT.daemonUnreachable,
    meaning: "No daemon answers on the control socket.",
    hint: "Start it with `holdfast daemon`, or check --socket.",
  },
  DAEMON_RUNNING: {
    exit: EXIT.locked,
    meaning: "A daemon runs already with this state folder.",
    hint: "Use it through its socket, or stop it first.",
  },
  ENCRYPTION_REQUIRED: {
    exit: EXIT.configWrong,
    meaning: "A source demands encryption and the repository has none.",
    hint: "Use an encrypted repository for this source.",
  },
  CHANNEL_FAILED: {
    exit: EXIT.failed,
    meaning: "A message could not be delivered; it stays in the outbox.",
    hint: "Check the channel's settings with `holdfast alerts test CHANNEL`.",
  },
  CHANNEL_NOT_FOUND: {
    exit: EXIT.failed,
    meaning: "No alert channel has that name.",
    hint: "See `alerts.channels` in the configuration.",
  },
  JOB_NOT_FOUND: { exit: EXIT.failed, meaning: "No job has that id.", hint: "See `holdfast status`." },
  NOT_FOUND: { exit: EXIT.failed, meaning: "There is no such thing.", hint: "Check the name." },
  WATCH_FAILED: {
    exit: EXIT.failed,
    meaning: "A folder cannot be watched; it is swept instead.",
    hint: "See `holdfast status`; raise fs.inotify limits if the message names them.",
  },
  SPAWN_FAILED: {
    exit: EXIT.failed,
    meaning: "A program could not be started.",
    hint: "Check that it is installed and may be executed.",
  },
  TIMEOUT: {
    exit: EXIT.failed,
    meaning: "Something took longer than its limit.",
    hint: "Try again; raise the limit if it is configured.",
  },
  LIMIT_REACHED: { exit: EXIT.failed, meaning: "A limit was reached.", hint: "See the message for the limit." },
  MOUNT_POINT_INVALID: {
    exit: EXIT.failed,
    meaning: "The folder to mount on is missing, is no folder, is not empty, or something is mounted there.",
    hint: "Make an empty folder and name it: `mkdir DIR && holdfast mount DIR`.",
  },
  LISTEN_FAILED: {
    exit: EXIT.failed,
    meaning: "A server cannot listen on the given address.",
    hint: "Choose another with --listen; port 0 takes any free one.",
  },
  MOUNT_UNAVAILABLE: {
    exit: EXIT.failed,
    meaning: "This system or account cannot mount: no /dev/fuse, no koffi, no fusermount3, or not permitted.",
    hint: "Use `holdfast serve webdav`, which needs none of them.",
  },
  UNSUPPORTED: {
    exit: EXIT.failed,
    meaning: "This cannot be done on this system or by this version.",
    hint: "See the message.",
  },
  INTERRUPTED: {
    exit: EXIT.interrupted,
    meaning: "The work was interrupted.",
    hint: "Start it again; what was done is kept.",
  },
  INTERNAL: { exit: EXIT.failed, meaning: "A fault in holdfast itself.", hint: "Please report it with the log." },
} as const satisfies Record<string, CodeEntry>;

/** A permanent error code. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** Mistakes of whoever asked, such as a wrong id or path. They are told so, and nobody else has anything to mend. */
export const CALLERS_MISTAKES: ReadonlySet<ErrorCode> = new Set([
  "USAGE",
  "BACKUP_NOT_FOUND",
  "BACKUP_AMBIGUOUS",
  "BACKUP_PINNED",
  "VERSION_NOT_FOUND",
  "SOURCE_NOT_FOUND",
  "INCIDENT_NOT_FOUND",
  "INCIDENT_AMBIGUOUS",
  "INCIDENT_STATE",
  "QUARANTINE_MISSING",
  "TARGET_EXISTS",
  "NOT_FOUND",
]);
