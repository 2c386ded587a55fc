/**
 * Making a backup: the sources are read (`backup-reader.ts`), their trees are built from the catalog, the write-ahead
 * log is sealed, and last the checkpoint with the manifest is committed. Only that last step makes the backup exist.
 */
import { hostname } from "node:os";
import { HoldfastError } from "../base/errors.js";
import { backupId } from "../base/ids.js";
import { pathText } from "../base/paths.js";
import { type NamedPaths, SourceReader } from "./backup-reader.js";
import { type BuiltTree, knownTree } from "./built-trees.js";
import { type Compression, packCompression } from "./codec/codec.js";
import type { Checkpoint, SourceRoot } from "./commit-log.js";
import type { RepositoryCore } from "./core.js";
import type { Catalog } from "./index/catalog.js";
import type { BackupRecord } from "./index/commit-index.js";
import type { BackupContext, BackupProgress, BackupRequest } from "./repository-types.js";
import { sealOwnLog } from "./seal.js";
import { chunkIdOf } from "./pack/record.js";
import { type TreeBase, buildSourceTree, rootOfLeaves } from "./source-tree.js";
import { NodeWriter } from "./tree/checkpoint-tree.js";
import type { ChunkId, Manifest, SourceManifest } from "./types.js";

/** Makes one backup. Throws ENCRYPTION_REQUIRED, STORE_FULL, STORE_IO, INTERRUPTED; what was read so far is kept. */
export async function createBackup(
  core: RepositoryCore,
  request: BackupRequest,
  signal: AbortSignal,
  onProgress?: (progress: BackupProgress) => void,
): Promise<Manifest> {
  core.writeSide();
  for (const source of request.sources) {
    if (source.encryptionRequired && !core.encrypted) {
      throw new HoldfastError("ENCRYPTION_REQUIRED", `the source ${source.name} demands an encrypted repository`);
    }
  }
  return await core.longWork.run(() => runBackup(core, request, signal, onProgress), signal);
}

async function runBackup(
  core: RepositoryCore,
  request: BackupRequest,
  signal: AbortSignal,
  onProgress: ((progress: BackupProgress) => void) | undefined,
): Promise<Manifest> {
  const { clock, catalog } = core.parts;
  const startMs = clock.nowMs();
  const startedAt = clock.monotonicMs();
  const compression = request.compression ?? packCompression();
  const names = request.sources.map(({ name }) => name);
  const parent = parentOf(core, request.type, names);
  const readers: SourceReader[] = [];
  for (const source of request.sources) {
    beginChanges(core, source.name);
    const options = { compression, everything: request.type === "full", onProgress };
    const reader = new SourceReader(core, source, options, signal);
    await reader.read();
    readers.push(reader);
  }
  const { manifests, checkpoint } = await buildTrees(core, { request, readers, compression }, signal);
  // Trees refer to chunks that on-change commits may have left in the log: they go into packs before the checkpoint.
  await sealOwnLog(core, signal);
  const id = backupId(startMs, request.type, (taken) => catalog.commits.backup(taken) !== undefined);
  const manifest = manifestOf(request, {
    context: await request.context,
    id,
    startMs,
    parent: request.type === "full" || request.type === "snapshot" ? null : (parent?.manifest.backup_id ?? null),
    durationSeconds: Math.round(clock.monotonicMs() - startedAt) / 1000,
    sources: manifests,
  });
  await core.commit({ kind: "backup", manifest, ...checkpoint }, [], signal);
  for (const { name } of request.sources) catalog.entries.recent.forgetThrough(name, checkpoint.coversSeq);
  return manifest;
}

/** The backup that changes are counted against: the last full one for a differential, else the last that has the sources. */
function parentOf(
  core: RepositoryCore,
  type: BackupRequest["type"],
  names: readonly string[],
): BackupRecord | undefined {
  const fits = (record: BackupRecord): boolean =>
    (type !== "differential" || record.manifest.backup_type === "full") &&
    names.some((name) => record.sources.some((source) => source.name === name));
  return core.parts.catalog.commits.backups().findLast(fits);
}

interface TreeWork {
  readonly request: BackupRequest;
  readonly readers: readonly SourceReader[];
  readonly compression: Compression;
}

async function buildTrees(
  core: RepositoryCore,
  { request, readers, compression }: TreeWork,
  signal: AbortSignal,
): Promise<{ manifests: SourceManifest[]; checkpoint: Checkpoint }> {
  const { keys, chunkSet, catalog } = core.parts;
  // Alone for a moment: every number given out so far is in the catalog then.
  const coversSeq = await core.appendGate.exclusive(() => {
    for (const { name } of request.sources) catalog.entries.recent.begin(name, core.lastSeq);
    return Promise.resolve(core.lastSeq);
  });
  const coversMs = core.parts.clock.nowMs();
  const parent = parentOf(
    core,
    request.type,
    request.sources.map(({ name }) => name),
  );
  await using writer = new NodeWriter({
    ...{ newPack: () => core.newPack("m"), keys, compression },
    isStored: (id) => chunkSet.isDurable(id),
  });
  const manifests: SourceManifest[] = [];
  const sources: SourceRoot[] = [];
  for (const [index, { name, restIsStored, walkedBecause }] of request.sources.entries()) {
    const reader = readers[index];
    if (reader === undefined) continue;
    const work = { name, writer, changedAfterSeq: parent?.coversSeq ?? 0 };
    const { tree, changed } = await treeOf(core, work, signal);
    sources.push({ name, root: tree.root, entryCount: tree.entryCount });
    manifests.push({
      source: name,
      files_total: tree.files,
      files_backed_up: tree.files,
      files_changed: changed,
      files_unreadable: reader.unreadable,
      ...toldPaths(reader),
      walked: restIsStored !== true,
      ...(walkedBecause === undefined ? {} : { walked_because: walkedBecause }),
      total_size_bytes: tree.bytes,
      stored_size_bytes: reader.storedBytes,
      checksum: `sha256:${tree.checksum}`,
      compression,
      encryption: core.encrypted ? "aes-256-gcm" : "none",
    });
  }
  await core.storePacks(await writer.finish(), signal);
  return { manifests, checkpoint: { sources, coversSeq, coversMs } };
}

/** What a manifest says only where there is some. */
function toldPaths({ suspected, sockets, immutable }: SourceReader): Partial<SourceManifest> {
  const named = ({ paths }: NamedPaths): readonly string[] => paths.map(pathText);
  return {
    ...(suspected.count === 0 ? {} : { suspected_paths: named(suspected) }),
    ...(sockets.count === 0 ? {} : { sockets_skipped: sockets.count, socket_paths: named(sockets) }),
    ...(immutable.count === 0 ? {} : { immutable_files: immutable.count, immutable_paths: named(immutable) }),
  };
}

interface SourceTreeWork {
  readonly name: string;
  readonly writer: NodeWriter;
  readonly changedAfterSeq: number;
}

/** The tree of a source as the catalog has it: the last one still, or what is left of it with what changed. */
async function treeOf(
  core: RepositoryCore,
  { name, writer, changedAfterSeq }: SourceTreeWork,
  signal: AbortSignal,
): Promise<{ tree: BuiltTree; changed: number }> {
  const { catalog } = core.parts;
  const known = knownTree(catalog, name);
  if (known !== undefined && known.lastSeq <= changedAfterSeq) return { tree: known, changed: 0 };
  const base = await treeBase(core, name, changedAfterSeq);
  const order = { source: name, writer, base, changedAfterSeq };
  const ground = { entries: catalog.entries, isStored: (id: ChunkId) => core.parts.chunkSet.isDurable(id) };
  const { tree, changed } = await buildSourceTree(ground, order, signal);
  await catalog.leaves.keep(name, tree);
  return { tree, changed };
}

/** The last backup that has the source, with the root of its tree. */
function lastTreeOf(
  { commits }: Catalog,
  source: string,
): { readonly root: ChunkId; readonly coversSeq: number } | undefined {
  const backup = commits.backups().findLast((record) => record.sources.some(({ name }) => name === source));
  const root = backup?.sources.find(({ name }) => name === source)?.root;
  return backup === undefined || root === undefined ? undefined : { root, coversSeq: backup.coversSeq };
}

/** Remembers what changes from now on where nothing did since the last tree: also the first one of a process is a base. */
function beginChanges({ parts: { catalog } }: RepositoryCore, source: string): void {
  const last = lastTreeOf(catalog, source);
  if (last !== undefined && catalog.entries.lastChange(source) <= last.coversSeq)
    catalog.entries.recent.begin(source, last.coversSeq);
}

/** What a new tree of the source takes over; undefined: nothing is known to be unchanged. */
async function treeBase({ parts }: RepositoryCore, source: string, afterSeq: number): Promise<TreeBase | undefined> {
  const { entries, chunks, leaves: kept } = parts.catalog;
  // A damaged node is stored again by building it.
  if (chunks.counts.suspectChunks > 0) return undefined;
  const last = lastTreeOf(parts.catalog, source);
  if (last === undefined) return undefined;
  const changed = entries.recent.after(source, Math.min(last.coversSeq, afterSeq));
  const leaves = changed === undefined ? undefined : kept.of(source, last.root);
  if (changed === undefined || leaves === undefined) return undefined;
  // What was remembered counts only when it is, to the byte, the tree of that backup.
  const root = await rootOfLeaves(leaves, (bytes) => chunkIdOf(parts.keys, bytes));
  return root === last.root ? { leaves, changed } : undefined;
}

interface ManifestFacts {
  readonly context: BackupContext | undefined;
  readonly id: string;
  readonly startMs: number;
  readonly parent: string | null;
  readonly durationSeconds: number;
  readonly sources: readonly SourceManifest[];
}

function manifestOf(request: BackupRequest, facts: ManifestFacts): Manifest {
  const { context } = facts;
  return {
    backup_id: facts.id,
    timestamp: new Date(facts.startMs).toISOString(),
    backup_type: request.type,
    parent: facts.parent,
    sources: facts.sources,
    metadata: {
      hostname: context?.hostname ?? hostname(),
      git_commit: context?.gitCommit ?? null,
      git_branch: context?.gitBranch ?? null,
      system_version: context?.systemVersion ?? "",
      backup_duration_seconds: facts.durationSeconds,
      tags: request.tags ?? [],
    },
    // Each pack was read back and decoded from what is written before it counted.
    validation: { integrity_check: "passed", restore_test: "not_run", verified_at: null },
    retention: {
      tier: "hot",
      expires_at: null,
      kept_by: [],
      archive_to_cold_storage_after: null,
      pinned: false,
    },
  };
}
