/**
 * Making a backup: the sources are read (`backup-reader.ts`), their trees are built from the catalog, the write-ahead
 * log is sealed, and last the checkpoint with the manifest is committed. Only that last step makes the backup exist.
 */
import { createHash, type Hash } from "node:crypto";
import { hostname } from "node:os";
import { HoldfastError } from "../base/errors.js";
import { backupId } from "../base/ids.js";
import { pathText } from "../base/paths.js";
import { SourceReader } from "./backup-reader.js";
import { type BuiltTree, knownTree } from "./built-trees.js";
import { type Compression, packCompression } from "./codec/codec.js";
import type { Checkpoint, SourceRoot } from "./commit-log.js";
import type { RepositoryCore } from "./core.js";
import type { BackupRecord } from "./index/commit-index.js";
import { STATE_OFFSET } from "./index/entry-index.js";
import type { BackupProgress, BackupRequest } from "./repository-types.js";
import { sealOwnLog } from "./seal.js";
import { TreeBuilder } from "./tree/builder.js";
import { NodeWriter } from "./tree/checkpoint-tree.js";
import { type StateSummary, isMarkedAbsent, summaryOf } from "./tree/codec.js";
import type { Manifest, SourceManifest } from "./types.js";

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
    id,
    startMs,
    parent: request.type === "full" || request.type === "snapshot" ? null : (parent?.manifest.backup_id ?? null),
    durationSeconds: Math.round(clock.monotonicMs() - startedAt) / 1000,
    sources: manifests,
  });
  await core.commit({ kind: "backup", manifest, ...checkpoint }, [], signal);
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
  const { keys, chunkSet } = core.parts;
  // Alone for a moment: every number given out so far is in the catalog then.
  const coversSeq = await core.appendGate.exclusive(() => Promise.resolve(core.lastSeq));
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
    const { tree, changed } = await treeOf(core, { name, writer, changedAfterSeq: parent?.coversSeq ?? 0 }, signal);
    sources.push({ name, root: tree.root, entryCount: tree.entryCount });
    manifests.push({
      source: name,
      files_total: tree.files,
      files_backed_up: tree.files,
      files_changed: changed,
      files_unreadable: reader.unreadable,
      ...(reader.suspected.length === 0 ? {} : { suspected_paths: reader.suspected.map(pathText) }),
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

interface SourceTreeWork {
  readonly name: string;
  readonly writer: NodeWriter;
  readonly changedAfterSeq: number;
}

/** The tree of a source as the catalog has it, built anew unless it is the last one still. */
async function treeOf(
  core: RepositoryCore,
  { name, writer, changedAfterSeq }: SourceTreeWork,
  signal: AbortSignal,
): Promise<{ tree: BuiltTree; changed: number }> {
  const known = knownTree(core.parts.catalog, name);
  if (known !== undefined && known.lastSeq <= changedAfterSeq) return { tree: known, changed: 0 };
  const counted = new SourceCount(changedAfterSeq);
  const builder = new TreeBuilder((bytes) => writer.store(bytes));
  for await (const page of core.parts.catalog.entries.currentPages(name)) {
    signal.throwIfAborted();
    for (const { path, value } of page) {
      if (isMarkedAbsent(value, STATE_OFFSET)) continue;
      const wait = builder.add(path, value.subarray(STATE_OFFSET));
      if (wait !== undefined) await wait;
      counted.add(path, summaryOf(value, STATE_OFFSET));
    }
  }
  const { id: root, entryCount } = await builder.finish();
  const { files, bytes, lastSeq } = counted;
  const tree = { root, entryCount, files, bytes, lastSeq, checksum: counted.checksum() };
  return { tree, changed: counted.changed };
}

/** Counts the entries of a source and digests their list, for the manifest. */
class SourceCount {
  readonly #changedAfterSeq: number;
  readonly #hash: Hash = createHash("sha256");
  #lines: string[] = [];
  files = 0;
  changed = 0;
  bytes = 0;
  lastSeq = 0;

  constructor(changedAfterSeq: number) {
    this.#changedAfterSeq = changedAfterSeq;
  }

  add(path: string, { kind, sizeBytes, seq, mode, sha256 }: StateSummary): void {
    const digest = sha256?.toString("hex") ?? "-";
    this.#lines.push(`${path}\0${digest}\0${String(sizeBytes)}\0${mode.toString(8)}\n`);
    if (this.#lines.length >= CHECKSUM_LINES) this.#flush();
    this.lastSeq = Math.max(this.lastSeq, seq);
    if (kind === "folder") return;
    this.files += 1;
    this.bytes += sizeBytes;
    if (seq > this.#changedAfterSeq) this.changed += 1;
  }

  #flush(): void {
    this.#hash.update(Buffer.from(this.#lines.join(""), "latin1"));
    this.#lines = [];
  }

  checksum(): string {
    this.#flush();
    return this.#hash.digest("hex");
  }
}

/** Lines digested at once. */
const CHECKSUM_LINES = 1024;

interface ManifestFacts {
  readonly id: string;
  readonly startMs: number;
  readonly parent: string | null;
  readonly durationSeconds: number;
  readonly sources: readonly SourceManifest[];
}

function manifestOf(request: BackupRequest, facts: ManifestFacts): Manifest {
  const { context } = request;
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
