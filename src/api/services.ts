/**
 * What the API can ask of the daemon: one small port per subject, and the documents they exchange. `daemon/compose`
 * implements them over the parts; routes only translate HTTP to these calls. Documents are plain JSON with
 * snake_case names (a contract with scripts); times are ISO 8601 UTC; paths are text, with `path_b64` beside them
 * when the name is no UTF-8. Long work returns a job.
 */
import type { BackupType } from "../base/ids.js";
import type { AuditService } from "./audit-service.js";
import type { BytePath } from "../base/paths.js";
import type { Manifest } from "../engine/types.js";
import type { BrowseService } from "./browse-service.js";
import type { HealthDocument } from "./health-document.js";
import type { PathDocument } from "./path-document.js";
import type { RetentionService } from "./retention-service.js";
import type { CbtService } from "./cbt-service.js";
import type { RepairRequest, UpkeepService } from "./upkeep-service.js";
import type { PauseDocument, SourceDocument, WatchService } from "./watch-service.js";

/** Who asks; decided by `access.ts` before a service is called. */
export interface Caller {
  readonly role: "admin" | "backup_operator" | "viewer";
  /** Such as `uid 0`, for logs. */
  readonly name: string;
}

export const JOB_STATES = ["queued", "running", "done", "failed", "cancelled"] as const;
export interface JobDocument {
  readonly id: string;
  /** Such as `backup`, `restore`, `verify`, `check`, `gc`, `cleanup`, `recover`. */
  readonly kind: string;
  readonly state: (typeof JOB_STATES)[number];
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly progress: JobProgress | null;
  /** The finished work's document; its shape depends on `kind`. */
  readonly result: unknown;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string } | null;
}
export interface JobProgress {
  readonly files_done: number;
  readonly files_total: number | null;
  readonly bytes_done: number;
  readonly bytes_total: number | null;
}

// --- backups ---------------------------------------------------------------------------------------------------------

export interface CreateBackupRequest {
  readonly type: BackupType;
  /** Source names; empty = all. */
  readonly sources: readonly string[];
  readonly tags: readonly string[];
  readonly compression: boolean;
  /** True: every source is walked, also when the daemon knows what changed. */
  readonly rescan?: boolean;
}
export interface BackupFilter {
  readonly since_ms?: number;
  readonly type?: BackupType;
  readonly source?: string;
  readonly tag?: string;
  readonly contains_file?: BytePath;
}
/** What a backup that was asked for came to: its manifest, and the sources that could not be in it. */
export interface BackupReport extends Manifest {
  readonly left_out: readonly { readonly source: string; readonly code: string; readonly message: string }[];
}
export interface EntryDocument extends PathDocument {
  readonly source: string;
  readonly kind: string;
  readonly size_bytes: number;
  /** Four octal digits, such as `0644`. */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly modified_at: string;
  readonly sha256: string | null;
  readonly link_target: string | null;
  /** `immutable`, `append_only`, `no_dump`; only where there are some. */
  readonly inode_flags?: readonly string[];
}
export interface VersionDocument extends PathDocument {
  readonly source: string;
  readonly time: string;
  readonly change: "stored" | "removed";
  readonly size_bytes: number | null;
  readonly sha256: string | null;
  readonly modified_at: string | null;
  readonly mode: string | null;
}
export interface RestoreRequest {
  /**
   * A backup id, unique prefix or `latest`; undefined with `at_ms` = state of all sources at that time; both undefined =
   * each source from the newest backup that holds it.
   */
  readonly backup_id?: string;
  readonly at_ms?: number;
  /** Globs on absolute paths, or plain paths (a folder means all below it); empty = everything. */
  readonly files: readonly string[];
  readonly sources: readonly string[];
  /** Folder to restore below (absolute paths are recreated under it); undefined = original places. */
  readonly target?: BytePath;
  readonly in_place: boolean;
  readonly overwrite: "always" | "if-changed" | "never";
  readonly delete: boolean;
  readonly dry_run: boolean;
  readonly verify: boolean;
  readonly sparse: boolean;
}
export interface RestoreReport {
  readonly restored: number;
  readonly skipped: number;
  readonly deleted: number;
  /** Changed since they were last stored, and stored as new versions before they were replaced or removed. */
  readonly kept: number;
  readonly bytes: number;
  readonly verified: boolean;
  readonly dry_run: boolean;
  readonly failed: readonly (PathDocument & { readonly code: string; readonly message: string })[];
  readonly warnings: readonly string[];
  /** The backup that each source came from; none where a time was asked for. */
  readonly from: readonly { readonly source: string; readonly backup_id: string }[];
  /** Paths that would be or were written, at most 1,000. */
  readonly plan: readonly (PathDocument & { readonly action: string })[];
}
export interface DiffDocument extends PathDocument {
  readonly change: "added" | "removed" | "modified" | "metadata";
}
export const VERIFY_LEVELS = ["manifest", "checksum", "blocks", "restore"] as const;
export interface VerifyRequest {
  readonly backup_id: string;
  readonly level: (typeof VERIFY_LEVELS)[number];
  /** Number of files for `restore`. */
  readonly sample?: number;
}
export interface VerifyReport {
  readonly backup_id: string;
  readonly level: string;
  readonly status: "passed" | "failed";
  readonly files_checked: number;
  readonly bytes_checked: number;
  readonly duration_seconds: number;
  readonly problems: readonly (PathDocument & { readonly problem: string })[];
}

/** The last verification of a backup. */
export type VerificationDocument = Manifest["validation"] & { readonly backup_id: string };

/** Backups: make, look, compare, remove. Errors: BACKUP_NOT_FOUND, BACKUP_AMBIGUOUS, SOURCE_NOT_FOUND. */
export interface BackupService {
  create(request: CreateBackupRequest): Promise<JobDocument>;
  list(filter: BackupFilter): Promise<readonly Manifest[]>;
  show(id: string): Promise<Manifest>;
  remove(ids: readonly string[]): Promise<JobDocument>;
  setPinned(id: string, pinned: boolean): Promise<Manifest>;
  entries(id: string, under: BytePath | undefined): AsyncIterable<EntryDocument>;
  /** Current and stored paths whose absolute path fits the glob. */
  find(glob: string): AsyncIterable<EntryDocument>;
  versions(path: BytePath): Promise<readonly VersionDocument[]>;
  diff(a: string, b: string): AsyncIterable<DiffDocument>;
  /** Content of a file in a backup, or `id` = "" and `at_ms` for a version. */
  content(id: string, path: BytePath, atMs: number | undefined, signal: AbortSignal): Promise<AsyncIterable<Buffer>>;
  restore(request: RestoreRequest): Promise<JobDocument>;
  verify(request: VerifyRequest): Promise<JobDocument>;
}

// --- the repository itself -------------------------------------------------------------------------------------------

export interface CheckRequest {
  readonly level: "structure" | "sample" | "full";
  /** 0 to 1, for `sample`: the packs that were not read for longest. */
  readonly share?: number;
  /** Go on with a `full` check that was cut short. */
  readonly resume?: boolean;
}
export interface CheckReport {
  readonly level: string;
  /** One sentence. */
  readonly summary: string;
  readonly packs_checked: number;
  /** Packs that a resumed check had read before. */
  readonly packs_skipped: number;
  readonly records_checked: number;
  readonly bytes_checked: number;
  /** At most 1,000, the worst first. */
  readonly problems: readonly {
    readonly kind: string;
    readonly detail: string;
    readonly paths: readonly PathDocument[];
  }[];
}
export interface CleanupRequest {
  readonly dry_run: boolean;
  /** Removes even a large share at once: a person has seen the plan. */
  readonly force?: boolean;
}
export interface CleanupReport {
  readonly dry_run: boolean;
  readonly kept: readonly { readonly backup_id: string; readonly kept_by: readonly string[] }[];
  readonly removed: readonly string[];
  readonly chunks_removed: number;
  readonly bytes_freed: number;
  /** Why nothing is removed though the rules would; null when nothing stands in the way. */
  readonly refused_because: string | null;
}
export interface RepositoryDocument {
  readonly id: string;
  readonly url: string;
  readonly encrypted: boolean;
  readonly chunks: number;
  readonly unique_bytes: number;
  readonly stored_bytes: number;
  readonly logical_bytes: number;
  readonly packs: number;
  readonly suspect_chunks: number;
  /** Objects that the start could not take in. */
  readonly unread_objects: number;
  readonly backups: number;
  readonly free_bytes: number | null;
  readonly total_bytes: number | null;
}
/** Where data lies; `hot` is the store itself. */
export interface TierDocument {
  readonly tier: "hot";
  readonly url: string;
  /** Bytes of its file system; null where it cannot be asked. */
  readonly used_bytes: number | null;
  readonly free_bytes: number | null;
  /** Every change of a file between backups stays this long. */
  readonly versions_kept_seconds: number;
}
export interface GarbageRequest {
  readonly dry_run: boolean;
  /** Share of the store's bytes that may go at once, 0 to 1; 0.3 unless told. */
  readonly allow_share?: number;
}
export interface RecoveryKeyDocument {
  readonly recovery_key: string;
  /** True: it was made just now. */
  readonly new: boolean;
}
export interface RepositoryService {
  describe(): Promise<RepositoryDocument>;
  tiers(): Promise<readonly TierDocument[]>;
  check(request: CheckRequest): Promise<JobDocument>;
  /** Ends in a `RepairDocument`. */
  repair(request: RepairRequest): Promise<JobDocument>;
  collectGarbage(request: GarbageRequest): Promise<JobDocument>;
  cleanup(request: CleanupRequest): Promise<JobDocument>;
  /** The recovery key again; a new one where none is kept, and then all given out before stay valid. */
  recoveryKey(): Promise<RecoveryKeyDocument>;
  listKeys(): Promise<readonly { readonly id: string; readonly kind: string; readonly created_at: string }[]>;
}

// --- healing ---------------------------------------------------------------------------------------------------------

export interface FindingDocument extends PathDocument {
  readonly source: string;
  readonly kind: string;
  readonly detail: string;
}
export interface ScanReport {
  readonly files_checked: number;
  readonly missing: number;
  readonly damaged: number;
  readonly duration_seconds: number;
  readonly findings: readonly FindingDocument[];
}
export interface RecoverRequest {
  readonly file: BytePath;
  /** `auto` or a strategy's name. */
  readonly strategy: string;
  readonly at_ms?: number;
  /** Write the result here instead of the file's own place. */
  readonly to?: BytePath;
  /** Only tell what was found and what would be taken. */
  readonly explain: boolean;
}
export interface CandidateDocument {
  readonly strategy: string;
  readonly origin: string;
  readonly fidelity: string;
  /** When the content was last changed; null when nobody knows. */
  readonly modified_at: string | null;
  readonly age_seconds: number | null;
  readonly size_bytes: number | null;
  readonly sha256: string | null;
  readonly checks: readonly string[];
  /** 0 to 100; null in incidents of earlier versions. */
  readonly score: number | null;
  readonly score_parts: ScoreDocument | null;
  readonly verdict: "taken" | "offered" | "refused";
  readonly why: string;
  /** What a person would run to get these bytes, or null. */
  readonly command: string | null;
}
export interface ScoreDocument {
  readonly identity: number;
  readonly validity: number;
  readonly freshness: number;
  readonly completeness: number;
  readonly provenance: number;
}
export interface SearchedDocument {
  readonly strategy: string;
  /** `skipped`: not asked, for something before it was taken. */
  readonly outcome: "taken" | "offered" | "nothing" | "failed" | "skipped";
  readonly found: number;
}
export interface RecoverReport extends PathDocument {
  readonly outcome: "healed" | "failed" | "explained" | "returned" | "waiting";
  /** Why it is so, for people. */
  readonly message: string;
  readonly incident_id: string | null;
  readonly strategy: string | null;
  readonly origin: string | null;
  /** True: the last good content, byte for byte; null when nothing was put back. */
  readonly identical: boolean | null;
  /** Age of the data that was put back, seconds before the loss. */
  readonly age_seconds: number | null;
  readonly duration_ms: number;
  readonly candidates: readonly CandidateDocument[];
  /** The strategies of the chain in its order, and what came of each. */
  readonly searched: readonly SearchedDocument[];
  /** What people should know of the search, such as what a strategy could not read. */
  readonly notes: readonly string[];
  /** What could not be given back, such as an owner. */
  readonly gaps: readonly string[];
  /** What a person can try when nothing was taken. */
  readonly manual_commands: readonly string[];
}
export const INCIDENT_STATES = [
  "open",
  "waiting",
  "healing",
  "healed",
  "failed",
  "denied",
  "returned",
  "respected",
  "noted",
] as const;
export interface IncidentDocument {
  readonly id: string;
  readonly source: string;
  readonly kind: string;
  readonly state: (typeof INCIDENT_STATES)[number];
  readonly opened_at: string;
  readonly closed_at: string | null;
  readonly noticed_by: string;
  readonly detail: string;
  readonly paths_total: number;
  /** At most 100 of them. */
  readonly paths: readonly (PathDocument & {
    /** When the last version that was good became durable; only in the document of one incident. */
    readonly last_good_at?: string | null;
  })[];
  readonly strategy: string | null;
  readonly origin: string | null;
  readonly age_seconds: number | null;
  readonly duration_ms: number | null;
  readonly quarantined: boolean;
  readonly candidates: readonly CandidateDocument[];
  readonly searched: readonly SearchedDocument[];
  readonly notes: readonly string[];
  readonly manual_commands: readonly string[];
  /** The next command for a person, or null. */
  readonly next_step: string | null;
  /** Only in the answer to `restore-quarantined`: what went back to its place, at most 1,000 of them. */
  readonly put_back?: readonly (PathDocument & {
    readonly size_bytes: number;
    /** When the content was last written. */
    readonly modified_at: string;
    readonly quarantined_at: string;
  })[];
}
export interface BatchReport {
  readonly started_at: string;
  readonly paths_total: number;
  readonly healed: number;
  readonly failed: number;
  readonly returned: number;
  readonly duration_ms: number;
  /** The first 1,000, failures before others. */
  readonly results: readonly RecoverReport[];
}
export interface RecoveryService {
  scan(path: BytePath | undefined): Promise<JobDocument>;
  recover(request: RecoverRequest): Promise<JobDocument>;
  /** Everything missing or damaged now. */
  recoverAll(): Promise<JobDocument>;
  incidents(onlyOpen: boolean, limit: number): Promise<readonly IncidentDocument[]>;
  /** By id or unique prefix, here as in what follows. */
  incident(id: string): Promise<IncidentDocument>;
  approve(id: string): Promise<JobDocument>;
  deny(id: string): Promise<IncidentDocument>;
  restoreQuarantined(id: string): Promise<IncidentDocument>;
}

// --- telling ---------------------------------------------------------------------------------------------------------

export interface AlertDocument {
  readonly id: string;
  readonly condition: string;
  readonly severity: "info" | "warning" | "critical";
  readonly source: string | null;
  readonly summary: string;
  readonly since: string;
  readonly count: number;
  readonly state: "active" | "acknowledged" | "silenced" | "resolved";
  readonly deliveries: readonly { readonly channel: string; readonly outcome: string }[];
}
export interface AlertService {
  alerts(includeResolved: boolean): Promise<readonly AlertDocument[]>;
  acknowledge(id: string): Promise<AlertDocument>;
  silence(condition: string, durationMs: number): Promise<void>;
  /** Sends a test message now; CHANNEL_NOT_FOUND, CHANNEL_FAILED. */
  test(channel: string): Promise<void>;
}

// --- the daemon itself -----------------------------------------------------------------------------------------------

export interface StatusDocument {
  readonly version: string;
  readonly pid: number;
  /** False when the command line answers by itself, without a daemon. */
  readonly daemon: boolean;
  readonly started_at: string;
  readonly state: "healthy" | "attention" | "failing";
  /** Why it is not healthy, worst first. */
  readonly reasons: readonly string[];
  readonly store: RepositoryDocument;
  readonly sources: readonly SourceDocument[];
  readonly incidents: { readonly waiting: number; readonly failed: number; readonly healed_today: number };
  readonly last_heal:
    | (PathDocument & {
        readonly incident_id: string;
        readonly at: string;
        readonly duration_ms: number;
        readonly strategy: string;
      })
    | null;
  readonly last_backup: { readonly backup_id: string; readonly at: string } | null;
  readonly next_runs: readonly ScheduleDocument[];
  readonly paused: readonly PauseDocument[];
  readonly alerts_active: number;
  readonly alerts_undelivered: number;
  /** The next command for a person, or null. */
  readonly next_step: string | null;
}
export interface ScheduleDocument {
  readonly name: string;
  readonly type: BackupType;
  readonly when: string;
  readonly next_at: string | null;
  readonly last_at: string | null;
  readonly last_outcome: string | null;
}
export interface DaemonEvent {
  readonly id: number;
  readonly name: string;
  readonly at: string;
  readonly data: Readonly<Record<string, unknown>>;
}
export interface SystemService {
  status(): Promise<StatusDocument>;
  health(): Promise<HealthDocument>;
  schedules(): Promise<readonly ScheduleDocument[]>;
  /** The configuration in force, secrets shown as `[secret]`. */
  config(): Promise<unknown>;
  /** Verifies and takes the configuration anew, all or nothing; the plan as lines (`+ source media`). */
  reload(): Promise<{ readonly plan: readonly string[] }>;
  jobs(): Promise<readonly JobDocument[]>;
  /** As it is, or when it has ended if that comes within `waitMs`. */
  job(id: string, waitMs: number, signal: AbortSignal): Promise<JobDocument>;
  cancelJob(id: string): Promise<JobDocument>;
  /** Prometheus text. */
  metrics(): Promise<string>;
  /** Events after `afterId` (bounded ring) and then live, until the signal aborts. */
  events(afterId: number | undefined, signal: AbortSignal): AsyncIterable<DaemonEvent>;
}

/** Everything the routes need. */
export interface Services {
  readonly backups: BackupService;
  readonly browse: BrowseService;
  readonly repository: RepositoryService;
  readonly retention: RetentionService;
  readonly upkeep: UpkeepService;
  readonly cbt: CbtService;
  readonly watch: WatchService;
  readonly recovery: RecoveryService;
  readonly alerts: AlertService;
  readonly audit: AuditService;
  readonly system: SystemService;
}
