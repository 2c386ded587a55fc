/** The catalog's part that knows commits and index fragments already taken in, and the backups they make up. */
import type { CommitBody, SourceRoot, StoredCommit } from "../commit-log.js";
import type { BackupAnnotation } from "../repository-types.js";
import type { Manifest } from "../types.js";
import type { WalPosition } from "../wal/log.js";
import { type LevelOperation, type LevelStore, afterPrefix, bucketKey } from "./level-store.js";

/** A commit object that the catalog has taken in. */
export interface AppliedCommit {
  readonly key: string;
  readonly writer: string;
  readonly seq: number;
  readonly number: number;
  readonly sha256: string;
  readonly kind: CommitBody["kind"];
  /** Largest commit number in it: its own, or that of its last delta. */
  readonly lastSeq: number;
  readonly timeMs: number;
  /** Smallest number among its deltas; only of a `deltas` commit. */
  readonly firstSeq?: number;
  readonly logEnd?: WalPosition;
}

export interface BackupRecord {
  readonly manifest: Manifest;
  readonly sources: readonly SourceRoot[];
  /** Every delta up to this number is in its trees. */
  readonly coversSeq: number;
  readonly commitKey: string;
  readonly number: number;
}

export class CommitIndex {
  readonly #level: LevelStore;
  readonly #applied = new Map<string, AppliedCommit>();
  readonly #fragments = new Set<string>();
  readonly #backups = new Map<string, BackupRecord>();
  readonly #partial = new Set<string>();

  constructor(level: LevelStore) {
    this.#level = level;
  }

  async load(): Promise<void> {
    for await (const [, value] of this.#pairs("commit")) {
      const commit = JSON.parse(value.toString("utf8")) as AppliedCommit;
      this.#applied.set(commit.key, commit);
    }
    for await (const [key] of this.#pairs("fragment")) this.#fragments.add(key.toString("latin1", 1));
    for await (const [key] of this.#pairs("partial")) this.#partial.add(key.toString("latin1", 1));
    for await (const [, value] of this.#pairs("backup")) {
      const record = JSON.parse(value.toString("utf8")) as BackupRecord;
      this.#backups.set(record.manifest.backup_id, record);
    }
  }

  async *#pairs(bucket: "commit" | "fragment" | "backup" | "partial"): AsyncGenerator<[Buffer, Buffer]> {
    const prefix = bucketKey(bucket);
    for await (const page of this.#level.pages(prefix, afterPrefix(prefix))) yield* page;
  }

  isApplied(key: string): boolean {
    return this.#applied.has(key);
  }

  /** True for a commit whose trees were to be taken in and could not all be read, so that entries are lacking. */
  isPartial(key: string): boolean {
    return this.#partial.has(key);
  }

  /** Keys of such commits, and of packs of which not all records are known. */
  partial(): string[] {
    return [...this.#partial];
  }

  notePartial(operations: LevelOperation[], key: string, isPartial: boolean): void {
    const levelKey = bucketKey("partial", Buffer.from(key));
    if (isPartial) operations.push({ type: "put", key: levelKey, value: Buffer.alloc(0) });
    else if (this.#partial.has(key)) operations.push({ type: "del", key: levelKey });
    if (isPartial) this.#partial.add(key);
    else this.#partial.delete(key);
  }

  applied(): IterableIterator<AppliedCommit> {
    return this.#applied.values();
  }

  hasFragment(sha256: string): boolean {
    return this.#fragments.has(sha256);
  }

  fragments(): IterableIterator<string> {
    return this.#fragments.values();
  }

  putFragment(operations: LevelOperation[], sha256: string): void {
    this.#fragments.add(sha256);
    operations.push({ type: "put", key: bucketKey("fragment", Buffer.from(sha256)), value: Buffer.alloc(0) });
  }

  dropFragment(operations: LevelOperation[], sha256: string): void {
    this.#fragments.delete(sha256);
    operations.push({ type: "del", key: bucketKey("fragment", Buffer.from(sha256)) });
  }

  /** Notes that a commit object was taken in, and what it says about backups. */
  putCommit(operations: LevelOperation[], commit: StoredCommit): void {
    const { body, number, writer, seq, timeMs } = commit.header;
    const lastSeq = body.kind === "deltas" ? Math.max(body.lastSeq, number) : number;
    const logEnd = body.kind === "deltas" ? body.logEnd : undefined;
    const applied = {
      ...{ key: commit.key, writer, seq, number, sha256: commit.sha256, kind: body.kind, lastSeq, timeMs },
      ...(body.kind === "deltas" ? { firstSeq: body.firstSeq } : {}),
      ...(logEnd === undefined ? {} : { logEnd }),
    };
    this.#applied.set(commit.key, applied);
    operations.push({ type: "put", key: commitBucketKey(commit.key), value: json(applied) });
    if (body.kind === "backup") {
      const { manifest, sources, coversSeq } = body;
      this.#putBackup(operations, { manifest, sources, coversSeq, commitKey: commit.key, number });
    }
    if (body.kind === "annotation") this.#annotate(operations, body.backupId, body.annotation);
    if (body.kind === "removal") for (const id of body.backupIds) this.#dropBackup(operations, id);
  }

  dropCommit(operations: LevelOperation[], key: string): void {
    this.#applied.delete(key);
    operations.push({ type: "del", key: commitBucketKey(key) });
    this.notePartial(operations, key, false);
  }

  /** All backups, oldest first. */
  backups(): BackupRecord[] {
    return [...this.#backups.values()].sort((a, b) => a.number - b.number);
  }

  backup(id: string): BackupRecord | undefined {
    return this.#backups.get(id);
  }

  #putBackup(operations: LevelOperation[], record: BackupRecord): void {
    const id = record.manifest.backup_id;
    this.#backups.set(id, record);
    operations.push({ type: "put", key: bucketKey("backup", Buffer.from(id)), value: json(record) });
  }

  #annotate(operations: LevelOperation[], id: string, annotation: BackupAnnotation): void {
    const record = this.#backups.get(id);
    if (record === undefined) return;
    const { manifest } = record;
    const pinned = annotation.pinned ?? manifest.retention.pinned;
    this.#putBackup(operations, {
      ...record,
      manifest: {
        ...manifest,
        validation: { ...manifest.validation, ...annotation.validation },
        retention: { ...manifest.retention, ...annotation.retention, pinned },
      },
    });
  }

  #dropBackup(operations: LevelOperation[], id: string): void {
    const record = this.#backups.get(id);
    if (record !== undefined) this.notePartial(operations, record.commitKey, false); // its trees may be gone
    this.#backups.delete(id);
    operations.push({ type: "del", key: bucketKey("backup", Buffer.from(id)) });
  }
}

function commitBucketKey(key: string): Buffer {
  return bucketKey("commit", Buffer.from(key));
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value), "utf8");
}
