/**
 * One registry record and its bytes. Fixed part, big-endian: version u8, kind u8, state u8, flags u8; dev u64, ino u64,
 * size u64, mtimeNs i64, ctimeNs i64; mode, uid, gid, links u32; registered, verified, healed f64 (ms); then, as the
 * flags tell, SHA-256 (32), git blob id (20) and a JSON tail with the rare fields. Bytes that do not parse are no
 * record: the path then counts as unknown and is registered anew.
 */
import { DAMAGE_KINDS, type DamageKind } from "../base/events.js";
import type { CommitTimes } from "../engine/rot.js";
import { type Entry, NODE_KINDS, type NodeKind, type StatTuple } from "../engine/types.js";

/** removing: the removal is accepted and not yet durable; removed: it is durable (a tombstone). */
export const REGISTRY_STATES = ["live", "lost", "removing", "removed"] as const;
export type RegistryState = (typeof REGISTRY_STATES)[number];

export interface RegistryRecord {
  readonly kind: NodeKind;
  readonly state: RegistryState;
  readonly stat: StatTuple;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly linkCount: number;
  /** 64 hex; files only. */
  readonly sha256?: string;
  /** 40 hex; files only. */
  readonly gitBlobId?: string;
  /** Bytes as characters; symlinks only. */
  readonly linkTarget?: string;
  /** The validators' verdict on the durable version; undefined: not known yet. */
  readonly valid: boolean | undefined;
  /** When the version became durable, wall ms. */
  readonly registeredAtMs: number;
  /** When the reading began that last found its content as registered, wall ms. */
  readonly lastVerifiedMs: number;
  /** When holdfast last put it back, wall ms; 0: never. */
  readonly healedAtMs: number;
  /** What was reported; set while `lost`. */
  readonly lossKind?: DamageKind;
  /** What stands at the path and was reported as damage, so that it is not reported again. */
  readonly damagedStamp?: string;
  /** Why the removal was accepted; set while `removing` or `removed`. */
  readonly reason?: string;
}

const VERSION = 1;
const FIXED_BYTES = 84;
const SHA_BYTES = 32;
const GIT_BYTES = 20;
const HAS_SHA = 1;
const HAS_GIT = 2;
const VALID_KNOWN = 4;
const VALID = 8;
const HAS_TAIL = 16;
/** Device to group, in the fixed part. */
const COMPARED_START = 4;
const COMPARED_END = 56;
const WHOLE_NUMBER = /^-?\d{1,30}$/;

interface Tail {
  /** A modification time beyond what 64 bits of nanoseconds hold (1677 to 2262), in decimal. */
  readonly lateNs?: string;
  readonly linkTarget?: string;
  readonly lossKind?: DamageKind;
  readonly damagedStamp?: string;
  readonly reason?: string;
}

/** The record of a path that is neither lost nor removed. */
export function withoutLoss(record: RegistryRecord): RegistryRecord {
  const { lossKind: _lossKind, damagedStamp: _damagedStamp, reason: _reason, ...kept } = record;
  return { ...kept, state: "live" };
}

/** What the registry keeps of a durable entry, whose reading began at `readFromMs` at the earliest. */
export function recordOf(entry: Entry, { nowMs, readFromMs }: CommitTimes): RegistryRecord {
  const { node } = entry;
  return {
    kind: node.kind,
    state: "live",
    stat: node.stat,
    mode: node.mode,
    uid: node.uid,
    gid: node.gid,
    linkCount: node.linkCount,
    ...(node.sha256 === undefined ? {} : { sha256: node.sha256 }),
    ...(node.gitBlobId === undefined ? {} : { gitBlobId: node.gitBlobId }),
    ...(node.linkTarget === undefined ? {} : { linkTarget: node.linkTarget }),
    valid: undefined,
    registeredAtMs: nowMs,
    lastVerifiedMs: readFromMs,
    healedAtMs: 0,
  };
}

export function encodeRecord(record: RegistryRecord): Buffer {
  const tail = tailOf(record);
  const tailText = tail === undefined ? "" : JSON.stringify(tail);
  const shaBytes = record.sha256 === undefined ? 0 : SHA_BYTES;
  const gitBytes = record.gitBlobId === undefined ? 0 : GIT_BYTES;
  const tailStart = FIXED_BYTES + shaBytes + gitBytes;
  const bytes = Buffer.alloc(tailStart + Buffer.byteLength(tailText));
  bytes[0] = VERSION;
  bytes[1] = NODE_KINDS.indexOf(record.kind);
  bytes[2] = REGISTRY_STATES.indexOf(record.state);
  bytes[3] =
    (shaBytes === 0 ? 0 : HAS_SHA) |
    (gitBytes === 0 ? 0 : HAS_GIT) |
    (record.valid === undefined ? 0 : VALID_KNOWN | (record.valid ? VALID : 0)) |
    (tail === undefined ? 0 : HAS_TAIL);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, record.stat.dev), 4);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, record.stat.ino), 12);
  bytes.writeBigUInt64BE(BigInt(record.stat.sizeBytes), 20);
  bytes.writeBigInt64BE(BigInt.asIntN(64, record.stat.mtimeNs), 28);
  bytes.writeBigInt64BE(BigInt.asIntN(64, record.stat.ctimeNs), 36);
  bytes.writeUInt32BE(record.mode, 44);
  bytes.writeUInt32BE(record.uid, 48);
  bytes.writeUInt32BE(record.gid, 52);
  bytes.writeUInt32BE(record.linkCount, 56);
  bytes.writeDoubleBE(record.registeredAtMs, 60);
  bytes.writeDoubleBE(record.lastVerifiedMs, 68);
  bytes.writeDoubleBE(record.healedAtMs, 76);
  if (record.sha256 !== undefined) bytes.write(record.sha256, FIXED_BYTES, "hex");
  if (record.gitBlobId !== undefined) bytes.write(record.gitBlobId, FIXED_BYTES + shaBytes, "hex");
  bytes.write(tailText, tailStart, "utf8");
  return bytes;
}

/** The bytes of a record whose path was deleted, from those of the record before; undefined when those are no record. */
export function deletedRecordBytes(bytes: Buffer, reason: string): Buffer | undefined {
  if (bytes.length < FIXED_BYTES || bytes[0] !== VERSION) return undefined;
  const flags = bytes[3] ?? 0;
  if ((flags & HAS_TAIL) !== 0) {
    const record = decodeRecord(bytes);
    if (record === undefined) return undefined;
    const { damagedStamp: _damagedStamp, ...kept } = record;
    return encodeRecord({ ...kept, state: "lost", lossKind: "deleted", reason });
  }
  const tail = Buffer.from(JSON.stringify({ lossKind: "deleted", reason } satisfies Tail), "utf8");
  const lost = Buffer.concat([bytes, tail]);
  lost[2] = REGISTRY_STATES.indexOf("lost");
  lost[3] = flags | HAS_TAIL;
  return lost;
}

/** Bytes of the live regular file that a record stands for, without reading all of it; undefined when it is none. */
export function liveFileBytes(bytes: Buffer): number | undefined {
  if (bytes.length < FIXED_BYTES || bytes[0] !== VERSION) return undefined;
  const isLiveFile = NODE_KINDS[bytes[1] ?? 255] === "file" && REGISTRY_STATES[bytes[2] ?? 255] === "live";
  return isLiveFile ? Number(bytes.readBigUInt64BE(20)) : undefined;
}

/**
 * True when a look at the path compares with the same: kind, state, stat, mode and owner. When it was read, registered or
 * healed may differ. False where that is not sure.
 */
export function isComparedAlike(left: Buffer | undefined, right: Buffer | undefined): boolean {
  if (left === undefined || right === undefined) return left === right;
  if (left.length < FIXED_BYTES || right.length < FIXED_BYTES || left[0] !== right[0]) return false;
  if ((((left[3] ?? 0) | (right[3] ?? 0)) & HAS_TAIL) !== 0) return left.equals(right); // far times stand there
  if (left[1] !== right[1] || left[2] !== right[2]) return false;
  return left.subarray(COMPARED_START, COMPARED_END).equals(right.subarray(COMPARED_START, COMPARED_END));
}

/** True when the bytes are the record of a path that is lost or damaged, without reading all of it. */
export function isLostRecord(bytes: Buffer): boolean {
  return bytes[0] === VERSION && REGISTRY_STATES[bytes[2] ?? 255] === "lost";
}

/** Undefined when the bytes are no record of this version. */
export function decodeRecord(bytes: Buffer): RegistryRecord | undefined {
  if (bytes.length < FIXED_BYTES || bytes[0] !== VERSION) return undefined;
  const kind = NODE_KINDS[bytes[1] ?? 255];
  const state = REGISTRY_STATES[bytes[2] ?? 255];
  const rest = readRest(bytes);
  if (kind === undefined || state === undefined || rest === undefined) return undefined;
  const flags = bytes[3] ?? 0;
  const { lateNs, ...fields } = rest;
  return {
    kind,
    state,
    stat: {
      dev: bytes.readBigUInt64BE(4),
      ino: bytes.readBigUInt64BE(12),
      sizeBytes: Number(bytes.readBigUInt64BE(20)),
      mtimeNs: lateNs === undefined ? bytes.readBigInt64BE(28) : BigInt(lateNs),
      ctimeNs: bytes.readBigInt64BE(36),
    },
    mode: bytes.readUInt32BE(44),
    uid: bytes.readUInt32BE(48),
    gid: bytes.readUInt32BE(52),
    linkCount: bytes.readUInt32BE(56),
    registeredAtMs: bytes.readDoubleBE(60),
    lastVerifiedMs: bytes.readDoubleBE(68),
    healedAtMs: bytes.readDoubleBE(76),
    valid: (flags & VALID_KNOWN) === 0 ? undefined : (flags & VALID) !== 0,
    ...fields,
  };
}

/** The digests and the rare fields behind the fixed part. */
function readRest(bytes: Buffer): (Tail & Pick<RegistryRecord, "sha256" | "gitBlobId">) | undefined {
  const flags = bytes[3] ?? 0;
  const shaEnd = FIXED_BYTES + ((flags & HAS_SHA) === 0 ? 0 : SHA_BYTES);
  const gitEnd = shaEnd + ((flags & HAS_GIT) === 0 ? 0 : GIT_BYTES);
  if (bytes.length < gitEnd) return undefined;
  const tail = (flags & HAS_TAIL) === 0 ? {} : readTail(bytes.toString("utf8", gitEnd));
  if (tail === undefined) return undefined;
  return {
    ...((flags & HAS_SHA) === 0 ? {} : { sha256: bytes.toString("hex", FIXED_BYTES, shaEnd) }),
    ...((flags & HAS_GIT) === 0 ? {} : { gitBlobId: bytes.toString("hex", shaEnd, gitEnd) }),
    ...tail,
  };
}

function tailOf(record: RegistryRecord): Tail | undefined {
  const { linkTarget, lossKind, damagedStamp, reason } = record;
  const { mtimeNs } = record.stat;
  const isLate = BigInt.asIntN(64, mtimeNs) !== mtimeNs;
  const hasText = linkTarget !== undefined || lossKind !== undefined || damagedStamp !== undefined;
  if (!isLate && !hasText && reason === undefined) return undefined;
  return {
    ...(isLate ? { lateNs: String(mtimeNs) } : {}),
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(lossKind === undefined ? {} : { lossKind }),
    ...(damagedStamp === undefined ? {} : { damagedStamp }),
    ...(reason === undefined ? {} : { reason }),
  };
}

function readTail(text: string): Tail | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields = value as Record<string, unknown>;
  const lossKind = DAMAGE_KINDS.find((kind) => kind === fields["lossKind"]);
  const lateNs = fields["lateNs"];
  return {
    ...(typeof lateNs === "string" && WHOLE_NUMBER.test(lateNs) ? { lateNs } : {}),
    ...(typeof fields["linkTarget"] === "string" ? { linkTarget: fields["linkTarget"] } : {}),
    ...(lossKind === undefined ? {} : { lossKind }),
    ...(typeof fields["damagedStamp"] === "string" ? { damagedStamp: fields["damagedStamp"] } : {}),
    ...(typeof fields["reason"] === "string" ? { reason: fields["reason"] } : {}),
  };
}
