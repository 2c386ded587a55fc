/** Backups over the API: made, listed, looked into, compared, restored, verified, removed. */
import { type BytePath, pathText } from "../../base/paths.js";
import { HoldfastError } from "../../base/errors.js";
import type { FileNode, Manifest } from "../../engine/types.js";
import type { Repository } from "../../engine/repository.js";
import type {
  BackupFilter,
  BackupReport,
  BackupService,
  CreateBackupRequest,
  DiffDocument,
  EntryDocument,
  JobDocument,
  RestoreRequest,
  VerifyRequest,
  VersionDocument,
} from "../../api/services.js";
import { entryDocument, versionDocument } from "../documents.js";
import { type KeptBackups, keptBackups } from "../../policy/retention.js";
import { policiesOf, stampOf } from "../cleanup-work.js";
import type { Operation } from "../operation.js";
import type { Parts } from "../parts.js";
import { globOf } from "../glob.js";
import { checkRestore, restoreNow } from "../restore-work.js";
import { verifyBackup } from "../verify-work.js";
import { pathFields } from "../../base/paths.js";
import { type WorkContext, startJob } from "../job-documents.js";

/** Versions of one path that are listed. */
const VERSIONS_MAX = 10_000;

export function backupService(parts: Parts, operation: Operation): BackupService {
  const { repository, jobs, backupWork } = parts;
  return {
    async create(request: CreateBackupRequest): Promise<JobDocument> {
      backupWork.check(request.sources);
      const work = async (job: WorkContext): Promise<BackupReport> =>
        withRules(await operation.plan.backUp(request, job), await keptRules(parts));
      return await Promise.resolve(startJob(jobs, "backup", "write", work));
    },
    list: async (filter) => await listBackups(parts, filter),
    show: async (id) => withRules(await repository.backup(id), await keptRules(parts)),
    async remove(ids) {
      const manifests = await Promise.all(ids.map(async (id) => await repository.backup(id)));
      return startJob(jobs, "remove", "write", async (job) => {
        const removed = manifests.map((manifest) => manifest.backup_id);
        await repository.deleteBackups(removed, job.signal);
        return { removed };
      });
    },
    async setPinned(id, pinned) {
      const { backup_id: backupId } = await repository.backup(id);
      return await repository.annotateBackup(backupId, { pinned }, AbortSignal.timeout(ANNOTATE_TIMEOUT_MS));
    },
    entries: (id, under) => entriesOf(repository, id, under),
    async *find(glob): AsyncIterable<EntryDocument> {
      const matches = globOf(glob);
      for (const source of await repository.sourceNames()) {
        for await (const entry of repository.currentEntries(source, undefined, matches)) yield entryDocument(entry);
      }
    },
    async versions(path): Promise<readonly VersionDocument[]> {
      const versions = await repository.versions(path, { limit: VERSIONS_MAX });
      if (versions.length === 0) {
        throw new HoldfastError("VERSION_NOT_FOUND", `nothing is stored of ${pathText(path)}`, {
          hint: "See `holdfast status` for what is protected.",
        });
      }
      return versions.map(versionDocument);
    },
    async *diff(a, b): AsyncIterable<DiffDocument> {
      const [older, newer] = [await repository.backup(a), await repository.backup(b)];
      const signal = new AbortController().signal;
      for await (const difference of repository.diffBackups(older.backup_id, newer.backup_id, signal)) {
        const change = difference.change === "content" ? "modified" : difference.change;
        yield { ...pathFields(difference.path), change };
      }
    },
    content: async (id, path, atMs, signal) => await contentOf(repository, { id, path, atMs }, signal),
    async restore(request: RestoreRequest): Promise<JobDocument> {
      await checkRestore(parts, request);
      return startJob(jobs, "restore", "read", (job) => restoreNow(parts, request, job));
    },
    async verify(request: VerifyRequest): Promise<JobDocument> {
      await repository.backup(request.backup_id);
      return startJob(jobs, "verify", "read", (job) => verifyBackup(parts, request, job));
    },
  };
}

const ANNOTATE_TIMEOUT_MS = 30_000;

async function listBackups(parts: Parts, filter: BackupFilter): Promise<readonly Manifest[]> {
  const { repository } = parts;
  const rules = await keptRules(parts);
  const found: Manifest[] = [];
  for (const manifest of await repository.listBackups()) {
    if (!fits(manifest, filter) || !(await containsFile(repository, manifest, filter.contains_file))) continue;
    found.push(withRules(manifest, rules));
  }
  return found;
}

/** Which rules of the rotation in force keep each backup, as of now. */
async function keptRules(parts: Parts): Promise<KeptBackups> {
  const stamps = (await parts.repository.listBackups()).map(stampOf);
  return keptBackups(stamps, policiesOf(parts), parts.ground.clock.nowMs());
}

function withRules<M extends Manifest>(manifest: M, rules: KeptBackups): M {
  return { ...manifest, retention: { ...manifest.retention, kept_by: rules.get(manifest.backup_id) ?? [] } };
}

function fits(manifest: Manifest, filter: BackupFilter): boolean {
  if (filter.since_ms !== undefined && Date.parse(manifest.timestamp) < filter.since_ms) return false;
  if (filter.type !== undefined && manifest.backup_type !== filter.type) return false;
  if (filter.source !== undefined && !manifest.sources.some((source) => source.source === filter.source)) return false;
  return filter.tag === undefined || manifest.metadata.tags.includes(filter.tag);
}

async function containsFile(repository: Repository, manifest: Manifest, path: BytePath | undefined): Promise<boolean> {
  if (path === undefined) return true;
  const found = repository.backupEntries(manifest.backup_id, { under: path }, new AbortController().signal);
  for await (const _entry of found) return true;
  return false;
}

/** Nothing below a path that was asked for is an error: it would look like an empty folder. */
async function* entriesOf(
  repository: Repository,
  id: string,
  under: BytePath | undefined,
): AsyncGenerator<EntryDocument> {
  const { backup_id: backupId } = await repository.backup(id);
  const filter = under === undefined ? {} : { under };
  let found = under === undefined;
  for await (const entry of repository.backupEntries(backupId, filter, new AbortController().signal)) {
    found = true;
    yield entryDocument(entry);
  }
  const what = under === undefined ? "/" : pathText(under);
  if (!found) throw new HoldfastError("VERSION_NOT_FOUND", `${what} is not in ${backupId}`);
}

async function contentOf(
  repository: Repository,
  wanted: { readonly id: string; readonly path: BytePath; readonly atMs: number | undefined },
  signal: AbortSignal,
): Promise<AsyncIterable<Buffer>> {
  const { id, path, atMs } = wanted;
  if (id === "") {
    const node = atMs === undefined ? repository.current(path)?.node : (await repository.entryAt(path, atMs))?.node;
    if (node !== undefined) return fileContent(repository, path, node, signal);
    throw new HoldfastError("VERSION_NOT_FOUND", `no version of ${pathText(path)} fits the request`);
  }
  const { backup_id: backupId } = await repository.backup(id);
  for await (const entry of repository.backupEntries(backupId, { under: path }, signal)) {
    if (entry.path === path) return fileContent(repository, path, entry.node, signal);
  }
  throw new HoldfastError("VERSION_NOT_FOUND", `${pathText(path)} is not in ${backupId}`);
}

/** Only files have content: nothing at all would look like an empty file. */
function fileContent(
  repository: Repository,
  path: BytePath,
  node: FileNode,
  signal: AbortSignal,
): AsyncIterable<Buffer> {
  if (node.kind === "file") return repository.readContent(node, signal);
  const kind = node.kind === "folder" ? "a folder" : `no file but a ${node.kind}`;
  throw new HoldfastError("VERSION_NOT_FOUND", `${pathText(path)} is ${kind}`, { hint: "See `holdfast ls`." });
}
