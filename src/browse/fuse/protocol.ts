/**
 * The bytes between the kernel and a FUSE server, as /usr/include/linux/fuse.h has them (protocol 7.31, little-endian
 * 64-bit Linux). Only what a read-only file system needs. Pure.
 */

/** What the kernel asks for; numbers of the protocol. */
export const OPCODE = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  readlink: 5,
  open: 14,
  read: 15,
  statfs: 17,
  release: 18,
  getxattr: 22,
  listxattr: 23,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  access: 34,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  readdirplus: 44,
} as const;

/** Requests that would change something: SETATTR, SYMLINK, MKNOD … COPY_FILE_RANGE; all answered with EROFS. */
export const WRITING: ReadonlySet<number> = new Set([4, 6, 8, 9, 10, 11, 12, 13, 16, 20, 21, 24, 30, 35, 43, 45, 47]);

export const PROTOCOL_MAJOR = 7;
export const PROTOCOL_MINOR = 31;
const FLAG = {
  asyncRead: 1 << 0,
  readdirplus: 1 << 13,
  readdirplusAuto: 1 << 14,
  noOpen: 1 << 17,
  parallelDirops: 1 << 18,
  posixAcl: 1 << 20,
  maxPages: 1 << 22,
} as const;
/** What we can, when the kernel offers it. Not the keeping of links: `latest` leads elsewhere after each backup. */
const WANTED =
  FLAG.asyncRead |
  FLAG.readdirplus |
  FLAG.readdirplusAuto |
  FLAG.noOpen |
  FLAG.parallelDirops |
  FLAG.posixAcl |
  FLAG.maxPages;
/** Answers may be kept by the kernel: content that never changes. */
export const OPEN_KEEP_CACHE = 1 << 1;
export const OPEN_CACHE_DIR = 1 << 3;

export const HEADER_IN_BYTES = 40;
const HEADER_OUT_BYTES = 16;
const ATTR_BYTES = 88;
const ENTRY_BYTES = 40 + ATTR_BYTES;
const DIRENT_BYTES = 24;
/** A request of ours is a header, a few numbers and a name; the kernel refuses reads into less than 8 KiB. */
export const REQUEST_BYTES_MAX = 64 * 2 ** 10;
/** The largest read that the kernel sends: 256 pages. */
const READ_PAGES_MAX = 256;
const WRITE_BYTES_MAX = 4096;
const READAHEAD_BYTES_MAX = 2 ** 20;

/** One request; `body` is a view that is valid until the next request is read. */
export interface FuseRequest {
  readonly opcode: number;
  /** Number of the request, given back with the answer. */
  readonly unique: bigint;
  readonly nodeId: number;
  readonly body: Buffer;
}

/** A request from the kernel's bytes; undefined when they are none. */
export function decodeRequest(bytes: Buffer): FuseRequest | undefined {
  if (bytes.length < HEADER_IN_BYTES || bytes.readUInt32LE(0) !== bytes.length) return undefined;
  return {
    opcode: bytes.readUInt32LE(4),
    unique: bytes.readBigUInt64LE(8),
    nodeId: readNumber(bytes, 16),
    body: bytes.subarray(HEADER_IN_BYTES),
  };
}

/** A 64-bit number that we gave out ourselves, so that it fits. */
export function readNumber(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset) + bytes.readUInt32LE(offset + 4) * 2 ** 32;
}

/** The name in a request, bytes as characters; it ends with NUL. */
export function nameIn(body: Buffer, offset = 0): string {
  const end = body.indexOf(0, offset);
  return body.toString("latin1", offset, end < 0 ? body.length : end);
}

/** The head of an answer that `bytes` follow. `error` is 0 or a positive error number. */
export function answerHeader(unique: bigint, error: number, bytes: number): Buffer {
  const header = Buffer.allocUnsafe(HEADER_OUT_BYTES);
  header.writeUInt32LE(HEADER_OUT_BYTES + bytes, 0);
  header.writeInt32LE(-error, 4);
  header.writeBigUInt64LE(unique, 8);
  return header;
}

/** The answer to INIT, and whether files need no OPEN; undefined when the kernel is too old. */
export function initAnswer(body: Buffer): { readonly answer: Buffer; readonly noOpen: boolean } | undefined {
  const [major, minor] = [body.readUInt32LE(0), body.readUInt32LE(4)];
  if (major < PROTOCOL_MAJOR || (major === PROTOCOL_MAJOR && minor < PROTOCOL_MINOR)) return undefined;
  const offered = body.readUInt32LE(12);
  const answer = Buffer.alloc(64);
  answer.writeUInt32LE(PROTOCOL_MAJOR, 0);
  answer.writeUInt32LE(PROTOCOL_MINOR, 4);
  answer.writeUInt32LE(Math.max(body.readUInt32LE(8), READAHEAD_BYTES_MAX), 8);
  answer.writeUInt32LE((offered & WANTED) >>> 0, 12);
  answer.writeUInt16LE(BACKGROUND_MAX, 16);
  answer.writeUInt16LE(CONGESTION_THRESHOLD, 18);
  answer.writeUInt32LE(WRITE_BYTES_MAX, 20);
  answer.writeUInt32LE(1, 24); // granularity of times, ns
  answer.writeUInt16LE(READ_PAGES_MAX, 28);
  return { answer, noOpen: (offered & FLAG.noOpen) !== 0 };
}

/** Requests of reading ahead that the kernel keeps under way; its own defaults. */
const BACKGROUND_MAX = 16;
const CONGESTION_THRESHOLD = 12;

/** What stat(2) shows. Times in ns since the epoch. */
export interface Attributes {
  readonly inode: number;
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Type and permission bits. */
  readonly mode: number;
  readonly linkCount: number;
  readonly uid: number;
  readonly gid: number;
  readonly device: number;
}

const BLOCK_BYTES = 4096;
const SECTOR_BYTES = 512;
const SECOND_NS = 1_000_000_000n;

function writeAttributes(into: Buffer, at: number, attributes: Attributes): void {
  const { inode, sizeBytes, mtimeNs, ctimeNs } = attributes;
  into.writeBigUInt64LE(BigInt(inode), at);
  into.writeBigUInt64LE(BigInt(sizeBytes), at + 8);
  into.writeBigUInt64LE(BigInt(Math.ceil(sizeBytes / SECTOR_BYTES)), at + 16);
  writeTime(into, mtimeNs, at + 24, at + 48); // the time of the last access is not kept
  writeTime(into, mtimeNs, at + 32, at + 52);
  writeTime(into, ctimeNs, at + 40, at + 56);
  into.writeUInt32LE(attributes.mode, at + 60);
  into.writeUInt32LE(attributes.linkCount >>> 0, at + 64);
  into.writeUInt32LE(attributes.uid, at + 68);
  into.writeUInt32LE(attributes.gid, at + 72);
  into.writeUInt32LE(attributes.device >>> 0, at + 76);
  into.writeUInt32LE(BLOCK_BYTES, at + 80);
  into.writeUInt32LE(0, at + 84);
}

function writeTime(into: Buffer, timeNs: bigint, secondsAt: number, nanosecondsAt: number): void {
  const rest = ((timeNs % SECOND_NS) + SECOND_NS) % SECOND_NS;
  into.writeBigInt64LE((timeNs - rest) / SECOND_NS, secondsAt);
  into.writeUInt32LE(Number(rest), nanosecondsAt);
}

/** The answer to GETATTR; the kernel keeps it for `validSeconds`. */
export function attributesAnswer(attributes: Attributes, validSeconds: number): Buffer {
  const answer = Buffer.alloc(16 + ATTR_BYTES);
  answer.writeBigUInt64LE(BigInt(validSeconds), 0);
  writeAttributes(answer, 16, attributes);
  return answer;
}

/** A name that was looked up. `nodeId` 0: there is none, and the kernel may remember that. */
export interface EntryAnswer {
  readonly nodeId: number;
  readonly attributes: Attributes;
  readonly validSeconds: number;
}

export function entryAnswer(entry: EntryAnswer): Buffer {
  const answer = Buffer.alloc(ENTRY_BYTES);
  writeEntry(answer, 0, entry);
  return answer;
}

/** The answer to LOOKUP of a name that is not there. */
export function absentAnswer(validSeconds: number): Buffer {
  const answer = Buffer.alloc(ENTRY_BYTES);
  answer.writeBigUInt64LE(BigInt(validSeconds), 16);
  return answer;
}

function writeEntry(into: Buffer, at: number, { nodeId, attributes, validSeconds }: EntryAnswer): void {
  into.writeBigUInt64LE(BigInt(nodeId), at);
  into.writeBigUInt64LE(0n, at + 8);
  into.writeBigUInt64LE(BigInt(validSeconds), at + 16);
  into.writeBigUInt64LE(BigInt(validSeconds), at + 24);
  into.writeBigUInt64LE(0n, at + 32);
  writeAttributes(into, at + 40, attributes);
}

/** One line of a folder. `offset` is where reading goes on after it. */
export interface DirectoryLine {
  readonly inode: number;
  readonly offset: number;
  readonly name: string;
  /** Type and permission bits. */
  readonly mode: number;
}

/** A page of a folder, as large as the kernel asked for. */
export class DirectoryPage {
  readonly #bytes: Buffer;
  #filled = 0;

  constructor(sizeBytes: number) {
    this.#bytes = Buffer.alloc(Math.min(sizeBytes, READDIR_BYTES_MAX));
  }

  /** What has been written. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#filled);
  }

  /** Whether a name still finds room. */
  hasRoom(name: string, withEntry: boolean): boolean {
    return this.#filled + lineBytes(name, withEntry) <= this.#bytes.length;
  }

  /** Adds a line; with an entry it is also a look-up (READDIRPLUS). An entry of `null` tells the kernel nothing. */
  add(line: DirectoryLine, entry: EntryAnswer | null | undefined): void {
    let at = this.#filled;
    if (entry !== undefined) {
      if (entry !== null) writeEntry(this.#bytes, at, entry);
      at += ENTRY_BYTES;
    }
    this.#bytes.writeBigUInt64LE(BigInt(line.inode), at);
    this.#bytes.writeBigUInt64LE(BigInt(line.offset), at + 8);
    this.#bytes.writeUInt32LE(line.name.length, at + 16);
    this.#bytes.writeUInt32LE((line.mode & TYPE_BITS) >>> 12, at + 20);
    this.#bytes.write(line.name, at + DIRENT_BYTES, "latin1");
    this.#filled += lineBytes(line.name, entry !== undefined);
  }
}

const READDIR_BYTES_MAX = 2 ** 20;
/** S_IFMT; shifted by 12 it is the `d_type` of a directory line. */
const TYPE_BITS = 0o170000;

function lineBytes(name: string, withEntry: boolean): number {
  return (withEntry ? ENTRY_BYTES : 0) + Math.ceil((DIRENT_BYTES + name.length) / 8) * 8;
}

/** The answer to STATFS: how much the backups hold, and that nothing is free. */
export function statfsAnswer(sizeBytes: number, fileCount: number): Buffer {
  const answer = Buffer.alloc(80);
  answer.writeBigUInt64LE(BigInt(Math.ceil(sizeBytes / BLOCK_BYTES)), 0);
  answer.writeBigUInt64LE(BigInt(fileCount), 24);
  answer.writeUInt32LE(BLOCK_BYTES, 40);
  answer.writeUInt32LE(NAME_BYTES_MAX, 44);
  answer.writeUInt32LE(BLOCK_BYTES, 48);
  return answer;
}

const NAME_BYTES_MAX = 255;

/** The answer to OPEN and OPENDIR. */
export function openAnswer(flags: number): Buffer {
  const answer = Buffer.alloc(16);
  answer.writeUInt32LE(flags, 8);
  return answer;
}

/** The answer to GETXATTR and LISTXATTR when only the size was asked for. */
export function sizeAnswer(sizeBytes: number): Buffer {
  const answer = Buffer.alloc(8);
  answer.writeUInt32LE(sizeBytes, 0);
  return answer;
}
