/** Routes about backups and the repository: make, look, compare, restore, verify, clean. */
import { HoldfastError } from "../../base/errors.js";
import type { Manifest } from "../../engine/types.js";
import { requirePlaceOfChoice } from "../access.js";
import { parseFilter, sortManifests } from "../backup-list.js";
import * as contract from "../contract.js";
import {
  type Answer,
  BASE,
  type Call,
  type Route,
  accepted,
  list,
  ok,
  param,
  pathOf,
  queryPath,
  timeMsOf,
} from "../route.js";
import type { RestoreRequest, VerificationDocument } from "../services.js";

export const dataRoutes: readonly Route[] = [
  {
    method: "GET",
    path: `${BASE}/backups`,
    aliases: ["/api/backup"],
    role: "viewer",
    summary: "Backups, newest first.",
    query: contract.listBackupsQuery,
    handle: listBackups,
  },
  {
    method: "POST",
    path: `${BASE}/backups`,
    aliases: ["/api/backup"],
    role: "backup_operator",
    summary: "Make a backup now.",
    body: contract.createBackupBody,
    handle: createBackup,
  },
  {
    method: "GET",
    path: `${BASE}/backups/:id`,
    role: "viewer",
    summary: "The manifest of a backup; the id may be a unique prefix or `latest`.",
    handle: async (call) => ok(await call.services.backups.show(param(call, "id"))),
  },
  {
    method: "PATCH",
    path: `${BASE}/backups/:id`,
    role: "backup_operator",
    summary: "Pin or unpin a backup.",
    body: contract.pinBody,
    handle: async (call) => {
      const { pinned } = call.body as contract.PinBody;
      return ok(await call.services.backups.setPinned(param(call, "id"), pinned));
    },
  },
  {
    method: "DELETE",
    path: `${BASE}/backups/:id`,
    aliases: ["/api/backup/:id"],
    role: "admin",
    summary: "Remove a backup; its chunks go with the next collection of garbage.",
    handle: async (call) => accepted(await call.services.backups.remove([param(call, "id")])),
  },
  {
    method: "GET",
    path: `${BASE}/backups/:id/files`,
    role: "viewer",
    summary: "What a backup holds.",
    query: contract.entriesQuery,
    handle: (call) => {
      const { under } = call.query as contract.EntriesQuery;
      return list(call.services.backups.entries(param(call, "id"), under === undefined ? undefined : pathOf(under)));
    },
  },
  {
    method: "POST",
    path: `${BASE}/backups/:id/verify`,
    role: "backup_operator",
    summary: "Verify a backup.",
    body: contract.verifyBody,
    handle: async (call) => await verify(call, param(call, "id")),
  },
  {
    method: "GET",
    path: `${BASE}/verifications`,
    role: "viewer",
    summary: "What was verified: each backup's last verification, newest first.",
    query: contract.pageQuery,
    handle: async (call) => list(verifications(await call.services.backups.list({}))),
  },
  {
    method: "POST",
    path: `${BASE}/verifications`,
    role: "backup_operator",
    summary: "Verify a backup that the body names.",
    body: contract.verifyBody,
    handle: async (call) => await verify(call, (call.body as contract.VerifyBody | null)?.backup_id ?? "latest"),
  },
  {
    method: "GET",
    path: `${BASE}/content`,
    role: "backup_operator",
    summary: "The bytes of a file in a backup, or of its version at a time.",
    query: contract.contentQuery,
    handle: readContent,
  },
  {
    method: "GET",
    path: `${BASE}/find`,
    role: "viewer",
    summary: "Protected and stored paths that fit a glob.",
    query: contract.findQuery,
    handle: (call) => list(call.services.backups.find((call.query as contract.FindQuery).pattern)),
  },
  {
    method: "GET",
    path: `${BASE}/versions`,
    role: "viewer",
    summary: "Every stored version of a path, newest first.",
    query: contract.versionsQuery,
    handle: async (call) => {
      return ok({ items: await call.services.backups.versions(queryPath(call.query as contract.PathQuery)) });
    },
  },
  {
    method: "GET",
    path: `${BASE}/diff`,
    role: "viewer",
    summary: "What differs between two backups.",
    query: contract.diffQuery,
    handle: (call) => {
      const { a, b } = call.query as contract.DiffQuery;
      return list(call.services.backups.diff(a, b));
    },
  },
  {
    method: "POST",
    path: `${BASE}/restore`,
    aliases: ["/api/backup/restore"],
    role: "backup_operator",
    summary: "Restore a backup, some files of it, or the state at a time; to a target as admin only.",
    body: contract.restoreBody,
    handle: async (call) => {
      const request = restoreRequest(call.body ?? {});
      if (request.target !== undefined && !request.dry_run) requirePlaceOfChoice(call.caller);
      return accepted(await call.services.backups.restore(request));
    },
  },
  {
    method: "GET",
    path: `${BASE}/restore/:id`,
    role: "viewer",
    summary: "How a restore stands (the same as its job).",
    handle: async (call) => ok(await call.services.system.job(param(call, "id"), 0, call.signal)),
  },
  {
    method: "DELETE",
    path: `${BASE}/restore/:id`,
    role: "backup_operator",
    summary: "Cancel a restore.",
    handle: async (call) => ok(await call.services.system.cancelJob(param(call, "id"))),
  },
  {
    method: "GET",
    path: `${BASE}/repository`,
    role: "viewer",
    summary: "The repository: size, chunks, space.",
    handle: async (call) => ok(await call.services.repository.describe()),
  },
  {
    method: "GET",
    path: `${BASE}/tiers`,
    role: "viewer",
    summary: "Where data lies: `hot` is the store itself.",
    query: contract.pageQuery,
    handle: async (call) => list(await call.services.repository.tiers()),
  },
  {
    method: "POST",
    path: `${BASE}/repository/check`,
    role: "backup_operator",
    summary: "Check the repository.",
    body: contract.checkBody,
    handle: async (call) => {
      const { level, ...how } = (call.body ?? {}) as contract.CheckBody;
      const request = { level: level ?? "structure", ...how } as const;
      return accepted(await call.services.repository.check(request));
    },
  },
  {
    method: "POST",
    path: `${BASE}/repository/gc`,
    role: "admin",
    summary: "Remove chunks that nothing needs.",
    body: contract.garbageBody,
    handle: async (call) => {
      const { dry_run: dryRun = false, allow_share: share } = (call.body ?? {}) as contract.GarbageBody;
      const request = { dry_run: dryRun, ...(share === undefined ? {} : { allow_share: share }) };
      return accepted(await call.services.repository.collectGarbage(request));
    },
  },
  {
    method: "GET",
    path: `${BASE}/keys`,
    role: "admin",
    summary: "The slots that open the repository; never the keys.",
    handle: async (call) => ok({ items: await call.services.repository.listKeys() }),
  },
  {
    method: "POST",
    path: `${BASE}/keys/recovery`,
    role: "admin",
    summary: "Show the recovery key again; a new one where a password opens the repository, since none is kept there.",
    handle: async (call) => ok(await call.services.repository.recoveryKey()),
  },
];

async function listBackups(call: Call): Promise<Answer> {
  const query = call.query as contract.ListBackupsQuery;
  const filter = parseFilter(query.filter, call.nowMs);
  const found: Manifest[] = sortManifests(await call.services.backups.list(filter), query.sort);
  return list(query.latest === true ? found.slice(0, 1) : found);
}

async function createBackup(call: Call): Promise<Answer> {
  const wanted = (call.body ?? {}) as contract.CreateBackupBody;
  if (wanted.encryption === true && !(await call.services.repository.describe()).encrypted) {
    throw new HoldfastError(
      "ENCRYPTION_REQUIRED",
      "an encrypted backup was asked for and the repository is not encrypted",
    );
  }
  const job = await call.services.backups.create({
    type: wanted.type ?? "incremental",
    sources: wanted.sources ?? [],
    tags: wanted.tags ?? [],
    compression: wanted.compression ?? true,
    rescan: wanted.rescan ?? false,
  });
  return accepted(job);
}

async function verify(call: Call, id: string): Promise<Answer> {
  const { level = "checksum", sample } = (call.body ?? {}) as contract.VerifyBody;
  if (sample !== undefined && level !== "restore")
    throw new HoldfastError("USAGE", `sample goes with the level restore: ${level} looks at all files`, {
      hint: 'Add "level": "restore", or leave sample out.',
    });
  const request = { backup_id: id, level, ...(sample === undefined ? {} : { sample }) } as const;
  return accepted(await call.services.backups.verify(request));
}

function verifications(manifests: readonly Manifest[]): readonly VerificationDocument[] {
  return manifests
    .filter(({ validation }) => validation.verified_at !== null)
    .map(({ backup_id, validation }) => ({ backup_id, ...validation }))
    .sort((a, b) => (b.verified_at ?? "").localeCompare(a.verified_at ?? ""));
}

async function readContent(call: Call): Promise<Answer> {
  const query = call.query as contract.ContentQuery;
  const path = queryPath(query);
  if (query.id === undefined && query.at === undefined) {
    throw new HoldfastError("USAGE", "neither a backup nor a time was given", { hint: "Add ?id=latest or ?at=TIME." });
  }
  const atMs = query.at === undefined ? undefined : timeMsOf(query.at);
  const parts = await call.services.backups.content(query.id ?? "", path, atMs, call.signal);
  return { kind: "bytes", contentType: "application/octet-stream", parts };
}

function restoreRequest(wanted: contract.RestoreBody): RestoreRequest {
  const target = wanted.target ?? wanted.target_path ?? undefined;
  return {
    ...origin(wanted),
    files: (wanted.files ?? []).map(absoluteGlob),
    sources: wanted.sources ?? [],
    ...(target === undefined ? {} : { target: pathOf(target) }),
    in_place: wanted.in_place ?? false,
    overwrite: wanted.overwrite ?? "if-changed",
    delete: wanted.delete ?? false,
    dry_run: wanted.dry_run ?? false,
    verify: wanted.verify ?? true,
    sparse: wanted.sparse ?? false,
  };
}

function origin(wanted: contract.RestoreBody): Pick<RestoreRequest, "backup_id" | "at_ms"> {
  if (wanted.backup_id !== undefined && wanted.at !== undefined) {
    throw new HoldfastError("USAGE", "both a backup and a time were given", { hint: "Give one of them." });
  }
  if (wanted.at !== undefined) return { at_ms: timeMsOf(wanted.at) };
  return wanted.backup_id === undefined ? {} : { backup_id: wanted.backup_id };
}

/** A glob without a slash matches names anywhere. */
function absoluteGlob(glob: string): string {
  return glob.startsWith("/") || glob.startsWith("**") ? glob : `**/${glob}`;
}
