/**
 * The bytes of a log segment: an 80-byte header, then records, each commit ended by its frame. A frame is sealed under
 * the segment's own salt, so that no file content can pass for one. `docs/repository-format.md`, Write-ahead log.
 */
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import type { FileIo } from "../../storage/file-io.js";

export const SEGMENT_HEADER_BYTES = 80;
/** A new segment begins when one reaches this size. */
export const SEGMENT_BYTES_MAX = 32 * 2 ** 20;
const MAGIC = Buffer.from("HFWAL1\0\0", "latin1");
const VERSION = 1;
const AT = { version: 8, encrypted: 9, segment: 12, repository: 20, salt: 52, crc: 76 };

export interface SegmentHeader {
  readonly segment: number;
  readonly encrypted: boolean;
  readonly repositoryId: Buffer;
  /** Salt of the frames' sealer, hex. */
  readonly salt: string;
}

/** magic 8, version u8, encrypted u8, zeros 2, number u64, repository id 32, salt 16, zeros 8, CRC-32 of all before. */
export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
  MAGIC.copy(bytes);
  bytes.writeUInt8(VERSION, AT.version);
  bytes.writeUInt8(header.encrypted ? 1 : 0, AT.encrypted);
  bytes.writeBigUInt64LE(BigInt(header.segment), AT.segment);
  bytes.set(header.repositoryId, AT.repository);
  bytes.write(header.salt, AT.salt, "hex");
  bytes.writeUInt32LE(crc32(bytes.subarray(0, AT.crc)), AT.crc);
  return bytes;
}

/** The header, or undefined when the bytes are none. Throws REPO_FORMAT_UNSUPPORTED for a newer version. */
export function parseSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || !bytes.subarray(0, AT.version).equals(MAGIC)) return undefined;
  if (bytes.readUInt32LE(AT.crc) !== crc32(bytes.subarray(0, AT.crc))) return undefined;
  if (bytes[AT.version] !== VERSION) {
    throw new HoldfastError("REPO_FORMAT_UNSUPPORTED", "a segment of the write-ahead log has an unknown version");
  }
  return {
    segment: Number(bytes.readBigUInt64LE(AT.segment)),
    encrypted: bytes[AT.encrypted] === 1,
    repositoryId: bytes.subarray(AT.repository, AT.salt),
    salt: bytes.toString("hex", AT.salt, AT.salt + 16),
  };
}

/** Where a record lies in the log. */
export interface WalPlace {
  readonly segment: number;
  readonly offsetBytes: number;
  readonly recordBytes: number;
}

/** Where the log goes on: after a replay its `end`, in a new repository `LOG_START`. */
export interface WalPosition {
  readonly nextSeq: number;
  /** SHA-256 of the last frame record, hex; zeros at the start. */
  readonly lastFrameHash: string;
  readonly nextSegment: number;
}

export interface SegmentInfo {
  readonly segment: number;
  readonly path: string;
  readonly sizeBytes: number;
  /** True: places of it did not read. It may hold more than is known, so it is kept under another name when it is sealed. */
  readonly isUnread?: boolean;
}

/** The end of the name of a sealed segment that did not read as a whole. */
export const UNREAD_SUFFIX = ".unread";

/** Removes sealed segments; those that did not read, or are among `unread`, get another name. The system's errors. */
export async function removeSegments(
  io: FileIo,
  segments: readonly SegmentInfo[],
  unread: ReadonlySet<number> = new Set(),
): Promise<void> {
  for (const { path, segment, isUnread } of segments) {
    const work =
      isUnread === true || unread.has(segment) ? io.rename(path, `${path}${UNREAD_SUFFIX}`) : io.unlink(path);
    await work.catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw error;
    });
  }
  const [first] = segments;
  if (first !== undefined) await io.syncFolder(dirname(first.path));
}

/** File name of a segment: eight digits, so that names sort by number. */
export function segmentPath(folder: string, segment: number): string {
  return join(folder, `${String(segment).padStart(8, "0")}.seg`);
}

/** The number in a segment's file name, or undefined for other names. */
export function segmentNumber(name: string): number | undefined {
  return /^\d{8,15}\.seg$/.test(name) ? parseInt(name, 10) : undefined;
}

/** What a frame says beside the caller's payload. */
export interface Frame {
  readonly seq: number;
  /** Where the group of its write began in the segment: bytes before were durable when it was written. */
  readonly groupStartBytes: number;
  /** Records that belong to the commit, without the frame. */
  readonly recordCount: number;
  /** SHA-256 of the frame record before it, hex. */
  readonly previousHash: string;
  readonly payload: Buffer;
}

export const FRAME_HEAD_BYTES = 56;
export const NO_HASH = "0".repeat(64);

/** The plain bytes of a frame: seq u64, group start u64, record count u32, zeros 4, previous hash 32, payload. */
export function encodeFrame(frame: Omit<Frame, "payload">, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  head.writeBigUInt64LE(BigInt(frame.seq), 0);
  head.writeBigUInt64LE(BigInt(frame.groupStartBytes), 8);
  head.writeUInt32LE(frame.recordCount, 16);
  head.write(frame.previousHash, 24, "hex");
  return Buffer.concat([head, payload]);
}

/** Throws RECORD_DAMAGED when the bytes are too short. */
export function parseFrame(plain: Buffer): Frame {
  if (plain.length < FRAME_HEAD_BYTES) throw new HoldfastError("RECORD_DAMAGED", "a commit frame is too short");
  return {
    seq: Number(plain.readBigUInt64LE(0)),
    groupStartBytes: Number(plain.readBigUInt64LE(8)),
    recordCount: plain.readUInt32LE(16),
    previousHash: plain.toString("hex", 24, FRAME_HEAD_BYTES),
    payload: plain.subarray(FRAME_HEAD_BYTES),
  };
}
