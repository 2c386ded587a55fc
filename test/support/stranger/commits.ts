/** Entry states, deltas, trees, commit objects and the write-ahead log, from docs/repository-format.md alone. */
import { crc32 } from "node:zlib";
import { Cursor, demand } from "./bytes.js";
import { type OpenRecord, type StrangerKeys, TYPES, openRecord, sha256 } from "./records.js";

const KINDS = ["file", "folder", "symlink", "fifo", "char_device", "block_device"] as const;

/** What a state keeps of a path. */
export interface StrangerNode {
  readonly kind: (typeof KINDS)[number];
  readonly stat: Readonly<Record<"dev" | "ino" | "mtimeNs" | "ctimeNs", bigint>> & { readonly sizeBytes: number };
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  readonly sha256?: string;
  readonly gitBlobId?: string;
  readonly chunks?: readonly { readonly id: string; readonly lengthBytes: number }[];
  readonly linkTarget?: string;
  readonly xattrs?: ReadonlyMap<string, Buffer>;
  readonly device?: { readonly major: number; readonly minor: number };
  readonly torn?: true;
  readonly sparse?: true;
  readonly inodeFlags?: readonly string[];
}

export interface StrangerState {
  readonly node: StrangerNode;
  readonly timeMs: number;
  readonly number: number;
  readonly absentSinceMs: number | undefined;
}

export interface StrangerDelta {
  readonly source: string;
  readonly number: number;
  readonly timeMs: number;
  readonly changes: readonly { readonly path: string; readonly state: StrangerState | undefined }[];
}

/** One entry state. */
function readState(cursor: Cursor): StrangerState {
  demand(cursor.u8() === 1, "the version of an entry state");
  const flags = cursor.u8();
  const kind = KINDS[cursor.u8()];
  demand(kind !== undefined, "the kind of an entry");
  const [dev, ino, lowNs, ctimeNs] = [cursor.bigU64(), cursor.bigU64(), cursor.bigI64(), cursor.bigI64()];
  const sizeBytes = cursor.u64();
  const [timeMs, number] = [cursor.varint(), cursor.varint()];
  const absentSinceMs = (flags & 64) === 0 ? undefined : cursor.varint();
  const [word, uid, gid, linkCount] = [cursor.varint(), cursor.varint(), cursor.varint(), cursor.varint()];
  const stat = { dev, ino, sizeBytes, mtimeNs: lowNs + timeAbove(word), ctimeNs };
  const node = { kind, stat, ...modeOf(word), uid, gid, linkCount, ...contentOf(cursor, flags) };
  return { node, timeMs, number, absentSinceMs };
}

/** Bits of a mode and what stands above them. */
function modeOf(word: number): Pick<StrangerNode, "mode" | "sparse" | "inodeFlags"> {
  const inodeFlags = ["immutable", "append_only", "no_dump"].filter(
    (_name, index) => ((word >>> (17 + index)) & 1) === 1,
  );
  return {
    mode: word & 0xfff,
    ...(((word >>> 16) & 1) === 1 ? { sparse: true } : {}),
    ...(inodeFlags.length > 0 ? { inodeFlags } : {}),
  };
}

/** What bits 20 to 31 of a mode add to the modification time, ns. */
function timeAbove(word: number): bigint {
  const coded = word >>> 20;
  return BigInt((coded & 1) === 0 ? coded >>> 1 : -((coded + 1) >>> 1)) << 64n;
}

/** An entry state that fills the bytes. */
function stateOf(bytes: Buffer): StrangerState {
  const cursor = new Cursor(bytes);
  const state = readState(cursor);
  cursor.end();
  return state;
}

function contentOf(cursor: Cursor, flags: number): Partial<StrangerNode> {
  const has = (flag: number): boolean => (flags & flag) !== 0;
  return {
    ...(has(1) ? { sha256: cursor.hex(32) } : {}),
    ...(has(2) ? { gitBlobId: cursor.hex(20) } : {}),
    ...(has(128) ? { chunks: many(cursor, () => ({ id: cursor.hex(32), lengthBytes: cursor.varint() })) } : {}),
    ...(has(8) ? { linkTarget: cursor.counted().toString("latin1") } : {}),
    ...(has(4) ? { xattrs: new Map(many(cursor, () => [cursor.counted().toString("latin1"), cursor.counted()])) } : {}),
    ...(has(16) ? { device: { major: cursor.varint(), minor: cursor.varint() } } : {}),
    ...(has(32) ? { torn: true } : {}),
  };
}

function many<T>(cursor: Cursor, item: () => T): T[] {
  return Array.from({ length: cursor.varint() }, item);
}

/** One delta. */
export function deltaOf(bytes: Buffer): StrangerDelta {
  const cursor = new Cursor(bytes);
  demand(cursor.u8() === 1, "the version of a delta");
  const [source, number, timeMs] = [cursor.counted().toString("utf8"), cursor.varint(), cursor.varint()];
  const changes = many(cursor, () => {
    const isState = cursor.u8() === 1;
    const path = cursor.counted().toString("latin1");
    return { path, state: isState ? readState(cursor) : undefined };
  });
  cursor.end();
  return { source, number, timeMs, changes };
}

/** What the JSON of a commit says, as far as a reader needs it. */
export interface CommitHeader {
  readonly format: number;
  readonly number: number;
  readonly writer: string;
  readonly seq: number;
  readonly previous: string;
  readonly timeMs: number;
  readonly body: {
    readonly kind: "deltas" | "backup" | "base" | "annotation" | "removal";
    readonly firstSeq?: number;
    readonly lastSeq?: number;
    readonly manifest?: Readonly<Record<string, unknown>> & { readonly backup_id: string };
    readonly sources?: readonly { readonly name: string; readonly root: string; readonly entryCount: number }[];
    readonly coversSeq?: number;
    readonly coversMs?: number;
    readonly retires?: readonly string[];
    readonly backupId?: string;
    readonly annotation?: Readonly<Record<"validation" | "retention", object | undefined>> & {
      readonly pinned?: boolean;
    };
    readonly backupIds?: readonly string[];
  };
}

export interface StrangerCommit {
  readonly key: string;
  readonly header: CommitHeader;
  readonly deltas: readonly StrangerDelta[];
  readonly sha256: string;
}

/** A commit object: one record, for deltas followed by more. */
export function commitOf(keys: StrangerKeys, key: string, bytes: Buffer): StrangerCommit {
  const first = openRecord(keys, bytes);
  demand(first.type === TYPES.commit, "the type of a commit");
  const header = JSON.parse(first.plain.toString("utf8")) as CommitHeader;
  demand(header.format === 1, "the format of a commit");
  demand(key === `commits/${header.writer}/${String(header.seq).padStart(12, "0")}`, "the key of a commit");
  const deltas: StrangerDelta[] = [];
  for (let at = first.bytes.length; at < bytes.length;) {
    const record = openRecord(keys, bytes, at);
    demand(record.type === TYPES.deltas && header.body.kind === "deltas", "what follows a commit");
    const cursor = new Cursor(record.plain);
    while (!cursor.isAtEnd) deltas.push(deltaOf(cursor.counted()));
    at += record.bytes.length;
  }
  const numbers = deltas.map(({ number }) => number);
  if (header.body.kind === "deltas") {
    demand(Math.min(...numbers) === header.body.firstSeq && Math.max(...numbers) === header.body.lastSeq, "numbers");
  }
  return { key, header, deltas, sha256: sha256(bytes).toString("hex") };
}

/** Every commit's `previous` is the SHA-256 of the object before it; a number is missing only when a base retires it. */
export function demandChain(commits: readonly StrangerCommit[]): void {
  const retired = new Set(commits.flatMap(({ header }) => header.body.retires ?? []));
  const byKey = new Map(commits.map((commit) => [commit.key, commit]));
  for (const { header } of commits) {
    const before = `commits/${header.writer}/${String(header.seq - 1).padStart(12, "0")}`;
    const previous = byKey.get(before);
    if (header.seq === 1) demand(/^0{64}$/.test(header.previous), "what the first commit follows");
    else if (previous !== undefined) demand(previous.sha256 === header.previous, "the chain of commits");
    else demand(retired.has(before), `the commit ${before}`);
  }
}

export interface LogSegment {
  readonly number: number;
  readonly deltas: readonly StrangerDelta[];
  /** All but frames. */
  readonly records: readonly OpenRecord[];
}

/** One segment of a log that no crash has touched. */
export function segmentOf(keys: StrangerKeys, key: string, bytes: Buffer): LogSegment {
  const header = new Cursor(bytes.subarray(0, 80));
  demand(header.take(8).toString("latin1") === "HFWAL1\0\0" && header.u8() === 1, "the header of a segment");
  demand(header.u8() === (keys.recordMasters.length > 0 ? 1 : 0), "whether a segment is encrypted");
  header.take(2);
  const number = header.u64();
  demand(key.endsWith(`/${String(number).padStart(8, "0")}.seg`), "the number of a segment");
  demand(header.take(32).equals(keys.repositoryId), "the repository of a segment");
  const salt = header.hex(16);
  header.take(8);
  demand(header.u32() === crc32(bytes.subarray(0, 76)), "the CRC of a segment's header");
  const [deltas, records]: [StrangerDelta[], OpenRecord[]] = [[], []];
  let before: { number: number; hash: string } | undefined;
  let pending = 0;
  for (let at = 80; at < bytes.length;) {
    const record = openRecord(keys, bytes, at);
    at += record.bytes.length;
    if (record.type !== TYPES.frame || record.salt !== salt) {
      records.push(record);
      pending += 1;
      continue;
    }
    const frame = frameOf(record.plain);
    demand(frame.records === pending, "the number of records of a frame");
    demand(before === undefined || frame.number === before.number + 1, "the number of a frame");
    demand(before === undefined || frame.previous === before.hash, "what a frame follows");
    before = { number: frame.number, hash: sha256(record.bytes).toString("hex") };
    deltas.push(frame.delta);
    pending = 0;
  }
  demand(pending === 0, "a frame behind all records");
  return { number, deltas, records };
}

function frameOf(plain: Buffer): { number: number; records: number; previous: string; delta: StrangerDelta } {
  const cursor = new Cursor(plain.subarray(0, 56));
  const number = cursor.u64();
  cursor.u64();
  const records = cursor.u32();
  cursor.u32();
  return { number, records, previous: cursor.hex(32), delta: deltaOf(plain.subarray(56)) };
}

export interface TreeEntry {
  readonly path: string;
  readonly state: StrangerState;
}

/** All entries of a tree in order; `nodeAt` gives the plain bytes of a node by its id. */
export function* treeEntries(nodeAt: (id: string) => Buffer, root: string): Generator<TreeEntry> {
  yield* entriesOf(nodeAt, root, undefined);
}

function* entriesOf(nodeAt: (id: string) => Buffer, id: string, level: number | undefined): Generator<TreeEntry> {
  const cursor = new Cursor(nodeAt(id));
  demand(cursor.u8() === 1, "the version of a tree node");
  const own = cursor.u8();
  demand(own <= 12 && (level === undefined || own === level), "the level of a tree node");
  let key = Buffer.alloc(0);
  for (let left = cursor.varint(); left > 0; left -= 1) {
    const shared = cursor.varint();
    const next = Buffer.concat([key.subarray(0, shared), cursor.counted()]);
    demand(key.length === 0 || Buffer.compare(key, next) < 0, "the order of keys");
    key = next;
    if (own === 0) {
      yield { path: key.toString("latin1"), state: stateOf(cursor.counted()) };
      continue;
    }
    const [child, count] = [cursor.hex(32), cursor.varint()];
    const below = [...entriesOf(nodeAt, child, own - 1)];
    demand(below.length === count && below[0]?.path === key.toString("latin1"), "what an inner node says of a child");
    yield* below;
  }
  cursor.end();
}
