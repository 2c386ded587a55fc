/**
 * Commit objects: `commits/<writer>/<seq>`, the store's own history. Each is created once and never changed, holds the
 * hash of the writer's previous one, and a number that orders it among all commits of the repository. A backup, a
 * batch of deltas moved out of the write-ahead log, a note on a backup: all are commits (format: "Commits").
 */
import { createHash } from "node:crypto";
import { HoldfastError, hasCode } from "../base/errors.js";
import type { Backend } from "../storage/backend.js";
import { PLAIN_BYTES_MAX } from "./codec/codec.js";
import type { RepositoryKeys } from "./keys.js";
import { RECORD_HEADER_BYTES, RecordOpener, RecordSealer, parseHeader } from "./pack/record.js";
import type { BackupAnnotation } from "./repository-types.js";
import { ByteReader, ByteWriter } from "./tree/bytes.js";
import { type Delta, decodeDelta } from "./tree/delta.js";
import { assertDelta } from "./tree/skim.js";
import type { ChunkId, Manifest } from "./types.js";
import type { WalPosition } from "./wal/log.js";

/** The tree of one source in a checkpoint. */
export interface SourceRoot {
  readonly name: string;
  readonly root: ChunkId;
  readonly entryCount: number;
}

/** The state of sources after every delta up to `coversSeq`. */
export interface Checkpoint {
  readonly sources: readonly SourceRoot[];
  readonly coversSeq: number;
  /** When that was, wall ms. */
  readonly coversMs: number;
}

/** What a commit says, by kind. */
export type CommitBody =
  /** Deltas follow in the object; `logEnd` says where the write-ahead log goes on that they came from. */
  | { readonly kind: "deltas"; readonly firstSeq: number; readonly lastSeq: number; readonly logEnd?: WalPosition }
  /** A backup: checkpoint of its sources. */
  | ({ readonly kind: "backup"; readonly manifest: Manifest } & Checkpoint)
  /** State of all sources, absent entries included; it stands in for the delta commits that it retires. */
  | ({ readonly kind: "base"; readonly retires: readonly string[] } & Checkpoint)
  | { readonly kind: "annotation"; readonly backupId: string; readonly annotation: BackupAnnotation }
  | { readonly kind: "removal"; readonly backupIds: readonly string[] };

export interface CommitHeader {
  readonly format: 1;
  /** Orders all commits of the repository, those of the write-ahead log included. */
  readonly number: number;
  readonly writer: string;
  /** Consecutive for each writer, from 1; the end of the object's key. */
  readonly seq: number;
  /** SHA-256 of the writer's previous commit object, hex; zeros for its first, and where that one did not read. */
  readonly previous: string;
  readonly timeMs: number;
  readonly body: CommitBody;
}

export interface StoredCommit {
  readonly key: string;
  /** SHA-256 of the object, hex. */
  readonly sha256: string;
  readonly header: CommitHeader;
  /** Decodes the deltas of a `deltas` commit. */
  readonly deltas: () => Generator<Delta>;
  /** Goes over the deltas without making anything of them. Throws RECORD_DAMAGED where decoding them would. */
  readonly assertDeltas: () => void;
}

export const NO_PREVIOUS = "0".repeat(64);
const SEQ_DIGITS = 12;
/** Deltas are gathered into records of about this size. */
const DELTA_RECORD_BYTES_AIM = 4 * 2 ** 20;

/** `commits/<writer>/000000000001` */
export function commitKey(writer: string, seq: number): string {
  return `commits/${writer}/${String(seq).padStart(SEQ_DIGITS, "0")}`;
}

/**
 * SHA-256 of a commit object, for the one that follows it; zeros when it does not read, so that writing goes on: that it
 * is not taken in is told, and no number is used twice.
 */
export async function digestOfCommit(backend: Backend, key: string, signal: AbortSignal): Promise<string> {
  try {
    return sha256Of(await backend.get(key, signal));
  } catch (error) {
    if (!hasCode(error, "STORE_IO")) throw error;
    return NO_PREVIOUS;
  }
}

/** Writes commits of one writer in turn. Callers must not call `append` again before it has resolved. */
export class CommitAppender {
  readonly #backend: Backend;
  readonly #keys: RepositoryKeys;
  readonly #writer: string;
  #seq: number;
  #previous: string;
  /** SHA-256 of a commit that was refused to its caller and may be there all the same. */
  #refused: string | undefined;

  /** `last` is the writer's newest commit object, if any. */
  constructor(
    backend: Backend,
    keys: RepositoryKeys,
    writer: string,
    last: { seq: number; sha256: string } | undefined,
  ) {
    this.#backend = backend;
    this.#keys = keys;
    this.#writer = writer;
    this.#seq = last?.seq ?? 0;
    this.#previous = last?.sha256 ?? NO_PREVIOUS;
  }

  /** Goes on behind a commit of this writer that came back to the store. */
  follow({ seq, sha256 }: { readonly seq: number; readonly sha256: string }): void {
    if (seq <= this.#seq) return;
    this.#seq = seq;
    this.#previous = sha256;
  }

  /** Stores the commit durably. Throws OBJECT_EXISTS when another process took the number. */
  async append(
    commit: { readonly number: number; readonly timeMs: number; readonly body: CommitBody },
    deltas: Iterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<StoredCommit> {
    const seq = this.#seq + 1;
    const header: CommitHeader = { format: 1, ...commit, writer: this.#writer, seq, previous: this.#previous };
    const bytes = encodeCommit(this.#keys, header, deltas);
    const key = commitKey(this.#writer, seq);
    await this.#put(key, bytes, signal);
    this.#seq = seq;
    this.#previous = sha256Of(bytes);
    return decodeCommit(new RecordOpener(this.#keys), key, bytes);
  }

  /** A commit whose storing failed may be there all the same: it was refused to its caller, so it makes way. */
  async #put(key: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
    if (this.#refused !== undefined) await this.#removeRefused(key, this.#refused, signal);
    try {
      await this.#backend.put(key, bytes, signal);
      this.#refused = undefined;
    } catch (error) {
      this.#refused = hasCode(error, "OBJECT_EXISTS") ? undefined : sha256Of(bytes);
      throw error;
    }
  }

  /** Nothing but what was refused: another writer may have taken the number since. */
  async #removeRefused(key: string, refused: string, signal: AbortSignal): Promise<void> {
    try {
      if (sha256Of(await this.#backend.get(key, signal)) === refused) await this.#backend.delete(key, signal);
    } catch (error) {
      if (!hasCode(error, "OBJECT_MISSING")) throw error;
    }
  }
}

function encodeCommit(keys: RepositoryKeys, header: CommitHeader, deltas: Iterable<Uint8Array>): Buffer {
  const sealer = new RecordSealer(keys);
  const parts: Uint8Array[] = [sealer.seal("commit", Buffer.from(JSON.stringify(header), "utf8"), "lz4").bytes];
  let gathered = new ByteWriter();
  const flush = (): void => {
    if (gathered.length > 0) parts.push(sealer.seal("delta_batch", gathered.take(), "lz4").bytes);
    gathered = new ByteWriter();
  };
  for (const delta of deltas) {
    if (gathered.length + delta.length > DELTA_RECORD_BYTES_AIM) flush();
    gathered.sizedBytes(delta);
  }
  flush();
  return Buffer.concat(parts);
}

/** A commit from its object's bytes. Throws RECORD_DAMAGED, REPO_FORMAT_UNSUPPORTED. */
export function decodeCommit(opener: RecordOpener, key: string, bytes: Buffer): StoredCommit {
  const [first, ...rest] = splitRecords(bytes);
  if (first === undefined) throw new HoldfastError("RECORD_DAMAGED", `the commit ${key} is empty`);
  const opened = opener.open(first);
  if (opened.header.type !== "commit") throw new HoldfastError("RECORD_DAMAGED", `${key} is no commit`);
  const header = parseCommitHeader(opened.plain, key);
  if (commitKey(header.writer, header.seq) !== key) {
    throw new HoldfastError("RECORD_DAMAGED", `the commit ${key} says that it is another`);
  }
  const encoded = function* (): Generator<Buffer> {
    for (const record of rest) {
      const reader = new ByteReader(opener.open(record).plain);
      while (reader.remaining > 0) yield reader.sizedBytes();
    }
  };
  const deltas = function* (): Generator<Delta> {
    for (const delta of encoded()) yield decodeDelta(delta);
  };
  const assertDeltas = (): void => {
    for (const delta of encoded()) assertDelta(delta);
  };
  return { key, sha256: sha256Of(bytes), header, deltas, assertDeltas };
}

function splitRecords(bytes: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const { storedBytes } = parseHeader(bytes.subarray(offset));
    const end = offset + RECORD_HEADER_BYTES + storedBytes;
    if (storedBytes > PLAIN_BYTES_MAX + RECORD_HEADER_BYTES || end > bytes.length) {
      throw new HoldfastError("RECORD_DAMAGED", "a commit object is cut short");
    }
    records.push(bytes.subarray(offset, end));
    offset = end;
  }
  return records;
}

function parseCommitHeader(plain: Buffer, key: string): CommitHeader {
  let value: unknown;
  try {
    value = JSON.parse(plain.toString("utf8"));
  } catch (error) {
    throw new HoldfastError("RECORD_DAMAGED", `the commit ${key} is no JSON`, { cause: error });
  }
  if (!isCommitHeader(value)) {
    throw new HoldfastError("REPO_FORMAT_UNSUPPORTED", `the commit ${key} is of an unknown form`);
  }
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCommitHeader(value: unknown): value is CommitHeader {
  if (!isRecord(value) || value["format"] !== 1 || !isRecord(value["body"])) return false;
  const numbers = ["number", "seq", "timeMs"].every((name) => Number.isSafeInteger(value[name]));
  const texts = ["writer", "previous"].every((name) => typeof value[name] === "string");
  return numbers && texts && isCommitBody(value["body"]);
}

function isCommitBody(body: Record<string, unknown>): boolean {
  switch (body["kind"]) {
    case "deltas":
      return Number.isSafeInteger(body["firstSeq"]) && Number.isSafeInteger(body["lastSeq"]);
    case "backup":
      return isManifest(body["manifest"]) && isCheckpoint(body);
    case "base":
      return isCheckpoint(body) && isTextList(body["retires"]);
    case "annotation":
      return typeof body["backupId"] === "string" && isRecord(body["annotation"]);
    case "removal":
      return isTextList(body["backupIds"]);
    default:
      return false;
  }
}

function isTextList(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function isCheckpoint(body: Record<string, unknown>): boolean {
  return ["coversSeq", "coversMs"].every((name) => Number.isSafeInteger(body[name])) && isRootList(body["sources"]);
}

function isRootList(value: unknown): boolean {
  const isRoot = (item: unknown): boolean =>
    isRecord(item) &&
    typeof item["name"] === "string" &&
    typeof item["root"] === "string" &&
    /^[0-9a-f]{64}$/.test(item["root"]) &&
    Number.isSafeInteger(item["entryCount"]);
  return Array.isArray(value) && value.every(isRoot);
}

function isManifest(value: unknown): value is Manifest {
  return (
    isRecord(value) &&
    typeof value["backup_id"] === "string" &&
    typeof value["timestamp"] === "string" &&
    Array.isArray(value["sources"]) &&
    [value["metadata"], value["validation"], value["retention"]].every(isRecord)
  );
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
