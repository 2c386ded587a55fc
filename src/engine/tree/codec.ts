/**
 * The bytes of one state of one path, the same in tree nodes, delta commits and the catalog (format: "Entry states" in
 * docs/repository-format.md). Deterministic: equal states have equal bytes. What a scan compares (kind and stat) lies
 * at fixed offsets, so that an unchanged file costs no decoding.
 */
import { HoldfastError } from "../../base/errors.js";
import { type ChunkId, type ChunkRef, type FileNode, NODE_KINDS, type NodeKind, type StatTuple } from "../types.js";
import { ByteReader, ByteWriter } from "./bytes.js";
import { fieldsOfWord, modeWordOf, timeOfWord } from "./mode-word.js";

/** A node with the commit that made it. */
export interface EntryState {
  readonly node: FileNode;
  /** Wall ms of the commit that stored this version. */
  readonly timeMs: number;
  /** Number of that commit. */
  readonly seq: number;
  /** Set when a backup's walk no longer found the path although no removal was recorded; wall ms. */
  readonly absentSinceMs?: number;
}

const VERSION = 1;
const FLAG = { sha256: 1, git: 2, xattrs: 4, link: 8, device: 16, torn: 32, absent: 64, chunks: 128 } as const;
const AT = { flags: 1, kind: 2, dev: 3, ino: 11, mtime: 19, ctime: 27, size: 35 } as const;
/** Where the fields of varying length begin: first the commit's time and number. */
export const STATE_VARINTS_AT = 43;
/** Of every state: time, number, mode, owner, group, number of names. */
const STATE_VARINTS = 6;
const SHA256_BYTES = 32;
const SHA1_BYTES = 20;

const scratch = new ByteWriter();

/** The state as bytes. */
export function encodeState(state: EntryState): Buffer {
  writeState(scratch, state);
  return scratch.take();
}

/** Appends the state's bytes. */
export function writeState(writer: ByteWriter, state: EntryState): void {
  const { node } = state;
  writer.byte(VERSION);
  writer.byte(flagsOf(state));
  writer.byte(NODE_KINDS.indexOf(node.kind));
  writer.int64(node.stat.dev);
  writer.int64(node.stat.ino);
  writer.int64(node.stat.mtimeNs);
  writer.int64(node.stat.ctimeNs);
  writer.int64(BigInt(node.stat.sizeBytes));
  writer.varint(state.timeMs);
  writer.varint(state.seq);
  if (state.absentSinceMs !== undefined) writer.varint(state.absentSinceMs);
  writer.varint(modeWordOf(node));
  writer.varint(node.uid);
  writer.varint(node.gid);
  writer.varint(node.linkCount);
  if (node.sha256 !== undefined) writer.hex(node.sha256);
  if (node.gitBlobId !== undefined) writer.hex(node.gitBlobId);
  if (node.chunks !== undefined) writeChunks(writer, node.chunks);
  if (node.linkTarget !== undefined) writer.sizedLatin1(node.linkTarget);
  if (node.xattrs !== undefined) writeXattrs(writer, node.xattrs);
  if (node.device !== undefined) {
    writer.varint(node.device.major);
    writer.varint(node.device.minor);
  }
}

function flagsOf({ node, absentSinceMs }: EntryState): number {
  return (
    (node.sha256 === undefined ? 0 : FLAG.sha256) |
    (node.gitBlobId === undefined ? 0 : FLAG.git) |
    (node.chunks === undefined ? 0 : FLAG.chunks) |
    (node.linkTarget === undefined ? 0 : FLAG.link) |
    (node.xattrs === undefined ? 0 : FLAG.xattrs) |
    (node.device === undefined ? 0 : FLAG.device) |
    (node.torn === true ? FLAG.torn : 0) |
    (absentSinceMs === undefined ? 0 : FLAG.absent)
  );
}

function writeChunks(writer: ByteWriter, chunks: readonly ChunkRef[]): void {
  writer.varint(chunks.length);
  for (const chunk of chunks) {
    writer.hex(chunk.id);
    writer.varint(chunk.lengthBytes);
  }
}

function writeXattrs(writer: ByteWriter, xattrs: ReadonlyMap<string, Uint8Array>): void {
  const names = [...xattrs.keys()].sort();
  writer.varint(names.length);
  for (const name of names) {
    writer.sizedLatin1(name);
    writer.sizedBytes(xattrs.get(name) ?? new Uint8Array());
  }
}

/** Reads one state; throws RECORD_DAMAGED on anything that `writeState` does not write. */
export function readState(reader: ByteReader): EntryState {
  if (reader.byte() !== VERSION) throw new HoldfastError("RECORD_DAMAGED", "an entry has an unknown version");
  const flags = reader.byte();
  const kind = NODE_KINDS[reader.byte()];
  if (kind === undefined) throw unknownKind();
  const kept = readStat(reader);
  const timeMs = reader.varint();
  const seq = reader.varint();
  const absent = (flags & FLAG.absent) === 0 ? {} : { absentSinceMs: reader.varint() };
  const word = reader.varint();
  const uid = reader.varint();
  const gid = reader.varint();
  const linkCount = reader.varint();
  const mtimeNs = timeOfWord(word, kept.mtimeNs);
  const stat = mtimeNs === kept.mtimeNs ? kept : { ...kept, mtimeNs };
  const content = readContentFields(reader, flags);
  const node: FileNode = { kind, stat, ...fieldsOfWord(word), uid, gid, linkCount, ...content };
  return { node, timeMs, seq, ...absent };
}

/** Fields that only some kinds have, in the order of the format. */
function readContentFields(reader: ByteReader, flags: number): Partial<FileNode> {
  const has = (flag: number): boolean => (flags & flag) !== 0;
  return {
    ...(has(FLAG.sha256) ? { sha256: reader.hex(SHA256_BYTES) } : {}),
    ...(has(FLAG.git) ? { gitBlobId: reader.hex(SHA1_BYTES) } : {}),
    ...(has(FLAG.chunks) ? { chunks: readChunks(reader) } : {}),
    ...(has(FLAG.link) ? { linkTarget: reader.sizedLatin1() } : {}),
    ...(has(FLAG.xattrs) ? { xattrs: readXattrs(reader) } : {}),
    ...(has(FLAG.device) ? { device: { major: reader.varint(), minor: reader.varint() } } : {}),
    ...(has(FLAG.torn) ? { torn: true } : {}),
  };
}

function readStat(reader: ByteReader): StatTuple {
  const dev = BigInt.asUintN(64, reader.int64());
  const ino = BigInt.asUintN(64, reader.int64());
  const mtimeNs = reader.int64();
  const ctimeNs = reader.int64();
  return { dev, ino, sizeBytes: readSize(reader), mtimeNs, ctimeNs };
}

function readSize(reader: ByteReader): number {
  const low = reader.uint32();
  const size = reader.uint32() * 2 ** 32 + low;
  if (size > Number.MAX_SAFE_INTEGER) throw new HoldfastError("RECORD_DAMAGED", "an entry has an impossible size");
  return size;
}

function readChunks(reader: ByteReader): ChunkRef[] {
  const chunks: ChunkRef[] = [];
  for (let left = reader.count(SHA256_BYTES + 1); left > 0; left -= 1) {
    chunks.push({ id: reader.hex(SHA256_BYTES) as ChunkId, lengthBytes: reader.varint() });
  }
  return chunks;
}

function readXattrs(reader: ByteReader): Map<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>();
  for (let left = reader.count(2); left > 0; left -= 1) {
    xattrs.set(reader.sizedLatin1(), Uint8Array.from(reader.sizedBytes()));
  }
  return xattrs;
}

/** Goes over one state, shows where the id of each of its chunks lies, and throws RECORD_DAMAGED where `readState` would. */
export function skimState(reader: ByteReader, seeChunk: (at: number) => void): void {
  if (reader.byte() !== VERSION) throw new HoldfastError("RECORD_DAMAGED", "an entry has an unknown version");
  const flags = reader.byte();
  if (NODE_KINDS[reader.byte()] === undefined) throw unknownKind();
  reader.skip(AT.size - AT.dev);
  readSize(reader);
  const varints = STATE_VARINTS + ((flags & FLAG.absent) === 0 ? 0 : 1);
  for (let left = varints; left > 0; left -= 1) reader.varint();
  if ((flags & FLAG.sha256) !== 0) reader.skip(SHA256_BYTES);
  if ((flags & FLAG.git) !== 0) reader.skip(SHA1_BYTES);
  if ((flags & FLAG.chunks) !== 0) {
    for (let left = reader.count(SHA256_BYTES + 1); left > 0; left -= 1) {
      seeChunk(reader.skip(SHA256_BYTES));
      reader.varint();
    }
  }
  if ((flags & FLAG.link) !== 0) reader.skip(reader.varint());
  if ((flags & FLAG.xattrs) !== 0) {
    for (let left = 2 * reader.count(2); left > 0; left -= 1) reader.skip(reader.varint());
  }
  if ((flags & FLAG.device) === 0) return;
  reader.varint();
  reader.varint();
}

function unknownKind(): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", "an entry has an unknown kind");
}

/** True when the stored state at `offset` has the same kind, size, times and inode: the file need not be read. */
export function looksUnchanged(encoded: Buffer, offset: number, kind: NodeKind, stat: StatTuple): boolean {
  // The device number is left out: it changes with the order in which disks are found at boot.
  return (
    encoded[offset + AT.kind] === NODE_KINDS.indexOf(kind) &&
    encoded.readBigInt64LE(offset + AT.mtime) === BigInt.asIntN(64, stat.mtimeNs) &&
    encoded.readBigInt64LE(offset + AT.ctime) === stat.ctimeNs &&
    encoded.readBigInt64LE(offset + AT.size) === BigInt(stat.sizeBytes) &&
    encoded.readBigUInt64LE(offset + AT.ino) === BigInt.asUintN(64, stat.ino)
  );
}

/** What a walk found, as bytes. */
export interface FoundStat {
  /** Index into NODE_KINDS. */
  readonly kind: number;
  /** Where inode, mtime, ctime and size lie, one after the other as a state has them. */
  readonly bytes: Buffer;
  readonly at: number;
}

/** The same as `looksUnchanged`, from bytes. */
export function hasSameStat(encoded: Buffer, offset: number, { kind, bytes, at }: FoundStat): boolean {
  const [from, to] = [offset + AT.ino, offset + STATE_VARINTS_AT];
  return encoded[offset + AT.kind] === kind && bytes.compare(encoded, from, to, at, at + to - from) === 0;
}

/** True when the stored state at `offset` is marked absent. */
export function isMarkedAbsent(encoded: Buffer, offset: number): boolean {
  return ((encoded[offset + AT.flags] ?? 0) & FLAG.absent) !== 0;
}

/** True when the stored state at `offset` was never at rest while it was read. */
export function isMarkedTorn(encoded: Buffer, offset: number): boolean {
  return ((encoded[offset + AT.flags] ?? 0) & FLAG.torn) !== 0;
}

/**
 * True when two nodes are the same to a person who restores them: content and all metadata; not inode and ctime, nor
 * whether git's id of the content was asked for.
 */
export function isSameVersion(a: FileNode, b: FileNode): boolean {
  const plain = ({ gitBlobId: _derived, ...node }: FileNode): Buffer =>
    encodeState({ node: { ...node, stat: { ...node.stat, dev: 0n, ino: 0n, ctimeNs: 0n } }, timeMs: 0, seq: 0 });
  return plain(a).equals(plain(b));
}

/** The few fields that counting a tree needs, read without decoding the rest. */
export interface StateSummary {
  readonly kind: NodeKind;
  readonly sizeBytes: number;
  readonly seq: number;
  /** As it is stored: the permission bits and what stands above them. */
  readonly mode: number;
  /** A view of the digest's 32 bytes; files only. */
  readonly sha256: Buffer | undefined;
}

/** Reads the summary of a state that is known to be whole. */
export function summaryOf(encoded: Buffer, offset: number): StateSummary {
  const flags = encoded[offset + AT.flags] ?? 0;
  const reader = new ByteReader(encoded, offset + STATE_VARINTS_AT);
  reader.varint();
  const seq = reader.varint();
  if ((flags & FLAG.absent) !== 0) reader.varint();
  const mode = reader.varint();
  for (let skipped = 0; skipped < 3; skipped += 1) reader.varint();
  return {
    kind: NODE_KINDS[encoded[offset + AT.kind] ?? 0] ?? "file",
    sizeBytes: Number(encoded.readBigInt64LE(offset + AT.size)),
    seq,
    mode,
    sha256: (flags & FLAG.sha256) === 0 ? undefined : reader.bytes(SHA256_BYTES),
  };
}
