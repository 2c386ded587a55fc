/** Backups as things: finding one, looking into it, comparing two, noting facts about it, removing it. */
import { HoldfastError, asHoldfastError } from "../base/errors.js";
import { ambiguousId } from "../base/ids.js";
import type { BytePath } from "../base/paths.js";
import type { RepositoryCore } from "./core.js";
import type { BackupRecord } from "./index/commit-index.js";
import type { BackupAnnotation, EntryFilter, PathDifference } from "./repository-types.js";
import { ByteReader } from "./tree/bytes.js";
import { isSameVersion, readState } from "./tree/codec.js";
import { evenPaths } from "./tree/even-paths.js";
import { type EntryDifference, diffTrees, treeLeaves } from "./tree/reader.js";
import type { ChunkId, Entry, FileNode, Manifest } from "./types.js";
import { refuseUnread } from "./unread.js";

/** A backup by id, unique prefix or "latest". Throws BACKUP_NOT_FOUND, BACKUP_AMBIGUOUS. */
export function findBackup(core: RepositoryCore, idOrPrefix: string): BackupRecord {
  const { commits } = core.parts.catalog;
  const backups = commits.backups();
  const exact = idOrPrefix === "latest" ? backups.at(-1) : commits.backup(idOrPrefix);
  if (exact !== undefined) return exact;
  const matching = idOrPrefix === "" ? [] : backups.filter(({ manifest }) => manifest.backup_id.startsWith(idOrPrefix));
  const [only] = matching;
  if (only === undefined) {
    const what = idOrPrefix === "latest" ? "there is no backup yet" : `no backup is called ${idOrPrefix}`;
    throw new HoldfastError("BACKUP_NOT_FOUND", what);
  }
  if (matching.length > 1) {
    const ids = matching.map(({ manifest }) => manifest.backup_id);
    throw ambiguousId("BACKUP_AMBIGUOUS", "backups", idOrPrefix, ids);
  }
  return only;
}

/** The entries of a backup in path order, source after source. */
export async function* backupEntries(
  core: RepositoryCore,
  id: string,
  filter: EntryFilter,
  signal: AbortSignal,
): AsyncGenerator<Entry> {
  const { content } = core.parts;
  const load = (node: ChunkId, inner: AbortSignal): Promise<Buffer> => content.chunk(node, inner);
  for (const { name, root } of findBackup(core, id).sources) {
    if (filter.source !== undefined && filter.source !== name) continue;
    for await (const leaf of treeLeaves(load, root, filter.under, signal)) {
      for (const { path, value } of leaf) yield { source: name, path, node: nodeOf(value) };
    }
  }
}

/**
 * Paths that part what the last backup of a source holds into stretches of about `stretchEntries` entries, in order;
 * none for a small source, one without a backup, and where a node cannot be read: they are a hint, no more.
 */
export async function evenPathsOf(
  core: RepositoryCore,
  source: string,
  stretchEntries: number,
  signal: AbortSignal,
): Promise<readonly BytePath[]> {
  const { content, catalog } = core.parts;
  const roots = catalog.commits.backups().flatMap(({ sources }) => sources.filter(({ name }) => name === source));
  const last = roots.at(-1);
  if (last === undefined || last.entryCount < 2 * stretchEntries) return [];
  try {
    return await evenPaths((node, inner) => content.chunk(node, inner), last.root, stretchEntries, signal);
  } catch (error) {
    signal.throwIfAborted();
    core.log.info("repository.parts_unknown", { source, code: asHoldfastError(error).code });
    return [];
  }
}

/** What changed from one backup to another, in path order within each source. */
export async function* diffBackups(
  core: RepositoryCore,
  before: string,
  after: string,
  signal: AbortSignal,
): AsyncGenerator<PathDifference> {
  const { content } = core.parts;
  const load = (node: ChunkId, inner: AbortSignal): Promise<Buffer> => content.chunk(node, inner);
  const a = findBackup(core, before);
  const b = findBackup(core, after);
  const names = new Set([...a.sources, ...b.sources].map(({ name }) => name));
  for (const source of names) {
    const rootOf = (record: BackupRecord): ChunkId | undefined =>
      record.sources.find(({ name }) => name === source)?.root;
    for await (const difference of diffTrees(load, rootOf(a), rootOf(b), signal)) {
      const change = changeOf(difference);
      if (change !== undefined) yield { source, path: difference.path, change };
    }
  }
}

function changeOf({ before, after }: EntryDifference): PathDifference["change"] | undefined {
  if (before === undefined) return "added";
  if (after === undefined) return "removed";
  const [a, b] = [nodeOf(before), nodeOf(after)];
  if (a.kind !== b.kind || a.sha256 !== b.sha256 || a.linkTarget !== b.linkTarget) return "content";
  // The same version can be kept with another inode or time of commit: that is no change to anyone.
  return isSameVersion(a, b) ? undefined : "metadata";
}

function nodeOf(value: Buffer): FileNode {
  const reader = new ByteReader(value);
  const { node } = readState(reader);
  reader.end();
  return node;
}

/** Notes facts about a backup; the newest wins. */
export async function annotateBackup(
  core: RepositoryCore,
  id: string,
  annotation: BackupAnnotation,
  signal: AbortSignal,
): Promise<Manifest> {
  const backupId = findBackup(core, id).manifest.backup_id;
  await core.commit({ kind: "annotation", backupId, annotation }, [], signal);
  return findBackup(core, backupId).manifest;
}

/** Removes backups from the list; what only they needed goes at the next `gc`. All or none. */
export async function deleteBackups(core: RepositoryCore, ids: readonly string[], signal: AbortSignal): Promise<void> {
  const records = ids.map((id) => findBackup(core, id));
  const pinned = records.find(({ manifest }) => manifest.retention.pinned);
  if (pinned !== undefined) {
    throw new HoldfastError("BACKUP_PINNED", `the backup ${pinned.manifest.backup_id} is pinned`);
  }
  if (records.length === 0) return;
  await refuseUnread(core, signal); // it may be a pin
  const backupIds = records.map(({ manifest }) => manifest.backup_id);
  await core.commit({ kind: "removal", backupIds }, [], signal);
}
