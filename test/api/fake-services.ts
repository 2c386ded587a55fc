/** The test's implementer of the API's services: everything in memory, every call written down. */
import { fakeAudit } from "./fake-audit.js";
import { fakeCbt } from "./fake-cbt.js";
import { fakeWatch, sourceDocument } from "./fake-watch.js";
import type { BrowseService } from "../../src/api/browse-service.js";
import type { PolicyDocument, RetentionService } from "../../src/api/retention-service.js";
import type {
  AlertService,
  BackupService,
  JobDocument,
  RecoveryService,
  RepositoryService,
  Services,
  SystemService,
} from "../../src/api/services.js";
import type { UpkeepService } from "../../src/api/upkeep-service.js";
import { HoldfastError } from "../../src/base/errors.js";
import { pathText } from "../../src/base/paths.js";
import type { Manifest } from "../../src/engine/types.js";

export interface FakeServices extends Services {
  /** `name argument` of each call, in order. */
  readonly calls: string[];
  readonly jobsById: Map<string, JobDocument>;
  /** How many entries `entries` and `find` yield; what `status` waits for. */
  readonly settings: { entryCount: number; gate: Promise<void> };
}

/** A finished job with a result. */
export function doneJob(id: string, kind: string, result: unknown = {}): JobDocument {
  const at = "2026-01-15T12:00:00.000Z";
  const times = { created_at: at, started_at: at, finished_at: at };
  return { id, kind, state: "done", ...times, progress: null, result, error: null };
}

export function manifest(id: string, timestamp: string, sizeBytes = 100): Manifest {
  return {
    backup_id: id,
    timestamp,
    backup_type: "full",
    parent: null,
    sources: [
      {
        source: "data",
        files_total: 2,
        files_backed_up: 2,
        files_changed: 1,
        files_unreadable: 0,
        total_size_bytes: sizeBytes,
        stored_size_bytes: 50,
        checksum: "sha256:00",
        compression: "lz4",
        encryption: "aes-256-gcm",
      },
    ],
    metadata: {
      hostname: "host",
      git_commit: null,
      git_branch: null,
      system_version: "0.1.0",
      backup_duration_seconds: 1.5,
      tags: [],
    },
    validation: { integrity_check: "passed", restore_test: "not_run", verified_at: null },
    retention: {
      tier: "hot",
      expires_at: null,
      kept_by: ["daily"],
      archive_to_cold_storage_after: null,
      pinned: false,
    },
  };
}

/** What the fakes share: the log of calls, the jobs, the backups. */
interface FakeGround {
  readonly note: (name: string, argument?: unknown) => void;
  readonly job: (kind: string, argument: unknown, result?: unknown) => Promise<JobDocument>;
  readonly jobsById: Map<string, JobDocument>;
  readonly backups: readonly Manifest[];
  readonly settings: { entryCount: number; gate: Promise<void> };
}

/** New services with two backups. */
export function fakeServices(): FakeServices {
  const calls: string[] = [];
  const jobsById = new Map<string, JobDocument>();
  let counter = 0;
  const note = (name: string, argument: unknown = ""): void => {
    calls.push(`${name} ${JSON.stringify(argument)}`);
  };
  const job = (kind: string, argument: unknown, result: unknown = {}): Promise<JobDocument> => {
    note(kind, argument);
    const made = doneJob(`job_${(counter += 1)}`, kind, result);
    jobsById.set(made.id, made);
    return Promise.resolve(made);
  };
  const backups = [
    manifest("backup_20260115_120000_full", "2026-01-15T12:00:00.000Z", 10),
    manifest("backup_20260114_120000_full", "2026-01-14T12:00:00.000Z", 999),
  ];
  const settings = { entryCount: 250, gate: Promise.resolve() };
  const ground: FakeGround = { note, job, jobsById, backups, settings };
  return {
    calls,
    jobsById,
    settings,
    backups: fakeBackups(ground),
    browse: fakeBrowse(ground),
    repository: fakeRepository(ground),
    upkeep: fakeUpkeep(ground),
    cbt: fakeCbt(ground),
    retention: fakeRetention(ground),
    watch: fakeWatch(ground),
    recovery: fakeRecovery(ground),
    alerts: fakeAlerts(ground),
    audit: fakeAudit(),
    system: fakeSystem(ground),
  };
}

function findBackup(backups: readonly Manifest[], id: string): Manifest {
  const found = backups.find((each) => id === "latest" || each.backup_id.startsWith(id));
  if (found === undefined) throw new HoldfastError("BACKUP_NOT_FOUND", `no backup ${id}`);
  return found;
}

async function* entries(count: number): AsyncGenerator<never> {
  for (let index = 0; index < count; index += 1) {
    await Promise.resolve();
    const path = `/data/file-${String(index).padStart(6, "0")}`;
    const owner = { mode: "0644", uid: 0, gid: 0, modified_at: "2026-01-15T12:00:00.000Z" };
    yield { path, source: "data", kind: "file", size_bytes: 5, ...owner, sha256: null, link_target: null } as never;
  }
}

function fakeBackups({ note, job, backups, settings }: FakeGround): BackupService {
  return {
    create: (request) => job("backup", request, { ...backups[0], left_out: [] }),
    list: (filter) => {
      note("list", filter);
      return Promise.resolve(backups);
    },
    show: (id) => Promise.resolve().then(() => findBackup(backups, id)),
    remove: (ids) => job("remove", ids),
    setPinned: (id, pinned) =>
      Promise.resolve({ ...findBackup(backups, id), retention: { ...findBackup(backups, id).retention, pinned } }),
    entries: (id) => {
      findBackup(backups, id);
      return entries(settings.entryCount);
    },
    find: (glob) => {
      note("find", glob);
      return entries(settings.entryCount);
    },
    versions: (path) => {
      note("versions", pathText(path));
      return Promise.resolve([]);
    },
    diff: async function* () {
      await Promise.resolve();
      yield { path: "/data/a", change: "added" } as const;
    },
    content: (id, path, atMs) => {
      note("content", [id, path, atMs]);
      return Promise.resolve(
        (async function* () {
          await Promise.resolve();
          yield Buffer.from("hello ");
          yield Buffer.from("world");
        })(),
      );
    },
    restore: (request) =>
      job("restore", request, {
        restored: 1,
        skipped: 0,
        deleted: 0,
        kept: 0,
        bytes: 5,
        verified: true,
        dry_run: request.dry_run,
        failed: [],
        warnings: [],
        from: [],
        plan: [{ path: "/data/a", action: "write" }],
      }),
    verify: (request) =>
      job("verify", request, {
        backup_id: request.backup_id,
        level: request.level,
        status: "passed",
        files_checked: 2,
        bytes_checked: 10,
        duration_seconds: 0.1,
        problems: [],
      }),
  };
}

function fakeBrowse({ note, backups }: FakeGround): BrowseService {
  const nothing = async function* (): AsyncGenerator<never> {
    // the routes' own tests need no content
  };
  return {
    folder: (id, request) => {
      findBackup(backups, id);
      note("folder", request.folder);
      return nothing();
    },
    range: (id, path, range) => {
      note("range", [id, path, range]);
      return Promise.resolve(nothing());
    },
    contents: (id, request, count) => {
      note("contents", [id, request, count]);
      return nothing();
    },
  };
}

function fakeUpkeep({ note }: FakeGround): UpkeepService {
  const key = { id: "ab".repeat(32), kind: "password", created_at: "2026-01-15T12:00:00.000Z" };
  return {
    addKey: (password) => {
      note("addKey", password);
      return Promise.resolve(key);
    },
    removeKey: (id) => {
      note("removeKey", id);
      return Promise.resolve(key);
    },
    rotateKeys: (password) => {
      note("rotateKeys", password ?? null);
      const rotation = { rotations: 1, keys_removed: 2, restart_needed: true };
      return Promise.resolve({ recovery_key: "AAAAA-BBBBB", ...rotation });
    },
  };
}

function fakeRepository({ job }: FakeGround): RepositoryService {
  return {
    describe: () => Promise.resolve(repositoryDocument()),
    tiers: () =>
      Promise.resolve([
        { tier: "hot", url: "/store", used_bytes: 5, free_bytes: 1000, versions_kept_seconds: 604_800 },
      ]),
    check: (request) =>
      job("check", request, {
        level: request.level,
        summary: "no damage found",
        packs_checked: 1,
        packs_skipped: 0,
        records_checked: 2,
        bytes_checked: 3,
        problems: [],
      }),
    repair: (request) =>
      job("repair", request, {
        ...{ dry_run: request.dry_run, summary: "the store is sound: there is nothing to repair", chunks_lost: 0 },
        ...{
          chunks_repaired: { parity: 0, copy: 0, live: 0 },
          pack_bytes_restored: 0,
          bytes_written: 0,
          parity_dropped: 0,
        },
        ...{ objects_repaired: [], restart_needed: false, problems: [] },
      }),
    collectGarbage: (request) => job("gc", request),
    cleanup: (request) =>
      job("cleanup", request, {
        dry_run: request.dry_run,
        kept: [{ backup_id: "backup_20260115_120000_full", kept_by: ["daily"] }],
        removed: ["backup_20260114_120000_full"],
        chunks_removed: 3,
        bytes_freed: 30,
        refused_because: null,
      }),
    recoveryKey: () => Promise.resolve({ recovery_key: "AAAA-BBBB", new: false }),
    listKeys: () => Promise.resolve([{ id: "a".repeat(64), kind: "raw", created_at: "2026-01-15T12:00:00.000Z" }]),
  };
}

function fakeRetention({ note }: FakeGround): RetentionService {
  const periods = { last: 0, hourly: 24, daily: 7, weekly: 4, monthly: 12, yearly: 5 };
  const policy = (id: string, sources: readonly string[] = []): PolicyDocument => {
    return { id, sources, ...periods, min_copies: 2, within_seconds: 0, from_configuration: id === "default" };
  };
  return {
    policies: () => Promise.resolve([policy("default")]),
    policy: (id) => {
      if (id === "default") return Promise.resolve(policy(id));
      return Promise.reject(new HoldfastError("POLICY_NOT_FOUND", `no policy ${id}`));
    },
    create: (id, request) => {
      note("create policy", [id, request]);
      return Promise.resolve(policy(id, request.sources));
    },
    replace: (id, request) => {
      note("replace policy", [id, request]);
      return Promise.resolve(policy(id, request.sources));
    },
    remove: (id) => {
      note("remove policy", id);
      return Promise.resolve(policy(id));
    },
    preview: () => Promise.resolve({ kept: [], removed: [], refused_because: null }),
  };
}

function fakeRecovery({ job }: FakeGround): RecoveryService {
  return {
    scan: (path) =>
      job("scan", path ?? null, {
        files_checked: 2,
        missing: 1,
        damaged: 0,
        duration_seconds: 0.1,
        findings: [{ path: "/data/\u001b[31mred", source: "data", kind: "deleted", detail: "gone" }],
      }),
    recover: (request) =>
      job("recover", request, {
        path: pathText(request.file),
        outcome: request.explain ? "explained" : "healed",
        message: "from backup",
        incident_id: "inc_1",
        strategy: "latest_backup",
        origin: "backup",
        identical: true,
        age_seconds: 3,
        duration_ms: 12,
        candidates: [],
        searched: [],
        notes: [],
        gaps: [],
        manual_commands: [],
      }),
    recoverAll: () =>
      job("batch", "", {
        started_at: "2026-01-15T12:00:00.000Z",
        paths_total: 1,
        healed: 1,
        failed: 0,
        returned: 0,
        duration_ms: 5,
        results: [],
      }),
    incidents: () => Promise.resolve([]),
    incident: (id) => Promise.reject(new HoldfastError("INCIDENT_NOT_FOUND", `no incident ${id}`)),
    approve: (id) =>
      job("approve", id, {
        started_at: "2026-01-15T12:00:00.000Z",
        paths_total: 1,
        healed: 1,
        failed: 0,
        returned: 0,
        duration_ms: 5,
        results: [],
      }),
    deny: (id) => Promise.reject(new HoldfastError("INCIDENT_STATE", `${id} is closed`)),
    restoreQuarantined: (id) => Promise.reject(new HoldfastError("QUARANTINE_MISSING", `${id} holds nothing`)),
  };
}

function fakeAlerts({ note }: FakeGround): AlertService {
  return {
    alerts: () => Promise.resolve([]),
    acknowledge: (id) => Promise.reject(new HoldfastError("NOT_FOUND", `no alert ${id}`)),
    silence: (condition, durationMs) => {
      note("silence", [condition, durationMs]);
      return Promise.resolve();
    },
    test: (channel) => Promise.reject(new HoldfastError("CHANNEL_NOT_FOUND", `no channel ${channel}`)),
  };
}

function fakeSystem({ jobsById, settings }: FakeGround): SystemService {
  return {
    status: async () => {
      await settings.gate;
      return statusDocument();
    },
    health: () =>
      Promise.resolve({
        exit_code: 0,
        state: "healthy",
        checks: [{ name: "store", ok: true, level: "ok", detail: "" }],
      }),
    schedules: () => Promise.resolve([]),
    config: () => Promise.resolve({ store: "/store" }),
    reload: () => Promise.resolve({ plan: ["+ source media"] }),
    jobs: () => Promise.resolve([...jobsById.values()]),
    job: (id) => {
      const found = jobsById.get(id);
      return found === undefined
        ? Promise.reject(new HoldfastError("JOB_NOT_FOUND", `no job ${id}`))
        : Promise.resolve(found);
    },
    cancelJob: (id) => Promise.resolve(doneJob(id, "backup")),
    metrics: () => Promise.resolve("# TYPE holdfast_up gauge\nholdfast_up 1\n"),
    events: async function* (afterId, signal) {
      for (let id = (afterId ?? 0) + 1; id <= 3; id += 1) {
        yield { id, name: "commit.durable", at: "2026-01-15T12:00:00.000Z", data: { id } };
      }
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    },
  };
}

function repositoryDocument(): never {
  return {
    id: "ab".repeat(32),
    url: "/store",
    encrypted: false,
    chunks: 3,
    unique_bytes: 10,
    stored_bytes: 5,
    logical_bytes: 20,
    packs: 1,
    suspect_chunks: 0,
    unread_objects: 0,
    backups: 2,
    free_bytes: 1000,
    total_bytes: 2000,
  } as never;
}

function statusDocument(): never {
  return {
    version: "0.1.0",
    pid: 1,
    daemon: true,
    started_at: "2026-01-15T11:00:00.000Z",
    state: "healthy",
    reasons: [],
    store: repositoryDocument(),
    sources: [sourceDocument("data")],
    incidents: { waiting: 0, failed: 0, healed_today: 1 },
    last_heal: null,
    last_backup: null,
    next_runs: [],
    paused: [],
    alerts_active: 0,
    alerts_undelivered: 0,
    next_step: "holdfast versions PATH",
  } as never;
}
