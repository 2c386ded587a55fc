/**
 * Bytes of a parity object: header, one parity shard, the description of its group, footer. Everything in it can be read
 * without a key. `docs/repository-format.md`, section Parity.
 */
import { crc32 } from "node:zlib";
import { HoldfastError } from "../../base/errors.js";
import type { PackKind } from "../pack/format.js";
import { SHARDS_MAX } from "./reed-solomon.js";

export const PARITY_HEADER_BYTES = 48;
export const PARITY_FOOTER_BYTES = 24;
/** Shards are checked in blocks of this size, so that damage in one place costs no more than that place. */
export const PARITY_BLOCK_BYTES = 64 * 2 ** 10;
/** No pack is longer: a shard has at most 4,096 blocks. */
const SHARD_BYTES_MAX = 256 * 2 ** 20;

const HEADER_MAGIC = Buffer.from("HFPAR1\0\0", "latin1");
const FOOTER_MAGIC = Buffer.from("HFPARND1", "latin1");
const VERSION = 1;
const MEMBER_BYTES = 48;
const DESCRIPTION_HEAD_BYTES = 16;

/** A pack in a group. */
export interface ParityMember {
  readonly kind: PackKind;
  /** Name of the pack, hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
}

/** A group: its packs, in the order of the data shards, and what every block of every shard should be. */
export interface ParityGroup {
  readonly members: readonly ParityMember[];
  readonly parityCount: number;
  /** Length of every shard: that of the longest pack; shorter ones are zeros behind their end. */
  readonly shardBytes: number;
  /** CRC-32 of the blocks of each shard, data first; of a data block only the pack's own bytes. */
  readonly checksums: readonly Uint32Array[];
}

/** Which shard of which code an object holds: magic 8, version u8, data count u8, parity count u8, number u8, zeros 4, repository id 32. */
export function encodeParityHeader(
  group: Pick<ParityGroup, "members" | "parityCount">,
  number: number,
  repositoryId: Uint8Array,
): Buffer {
  const header = Buffer.alloc(PARITY_HEADER_BYTES);
  HEADER_MAGIC.copy(header);
  header.set([VERSION, group.members.length, group.parityCount, number], 8);
  header.set(repositoryId, 16);
  return header;
}

/** The number of the parity shard, from 0. Throws OBJECT_DAMAGED. */
export function parseParityHeader(bytes: Buffer, repositoryId: Uint8Array): number {
  const isOurs =
    bytes.length >= PARITY_HEADER_BYTES &&
    bytes.subarray(0, 8).equals(HEADER_MAGIC) &&
    bytes[8] === VERSION &&
    bytes.subarray(16, PARITY_HEADER_BYTES).equals(repositoryId);
  if (!isOurs) throw damagedParity("it has no header of this repository");
  return bytes.readUInt8(11);
}

/** block length u32, data count u16, parity count u16, shard length u64; per pack kind u8, zeros 7, size u64, name 32; per shard its CRCs u32. */
export function encodeDescription(group: ParityGroup): Buffer {
  const blocks = blockCount(group.shardBytes);
  const shards = group.members.length + group.parityCount;
  const bytes = Buffer.alloc(DESCRIPTION_HEAD_BYTES + group.members.length * MEMBER_BYTES + shards * blocks * 4);
  bytes.writeUInt32LE(PARITY_BLOCK_BYTES, 0);
  bytes.writeUInt16LE(group.members.length, 4);
  bytes.writeUInt16LE(group.parityCount, 6);
  bytes.writeBigUInt64LE(BigInt(group.shardBytes), 8);
  let at = DESCRIPTION_HEAD_BYTES;
  for (const { kind, sha256, sizeBytes } of group.members) {
    bytes.write(kind, at, "latin1");
    bytes.writeBigUInt64LE(BigInt(sizeBytes), at + 8);
    bytes.write(sha256, at + 16, "hex");
    at += MEMBER_BYTES;
  }
  for (const checksums of group.checksums) {
    for (const checksum of checksums) at = bytes.writeUInt32LE(checksum, at);
  }
  return bytes;
}

/** Throws OBJECT_DAMAGED. */
export function parseDescription(bytes: Buffer): ParityGroup {
  if (bytes.length < DESCRIPTION_HEAD_BYTES) throw damagedParity("its description is cut off");
  const memberCount = bytes.readUInt16LE(4);
  const parityCount = bytes.readUInt16LE(6);
  const shardBytes = Number(bytes.readBigUInt64LE(8));
  const shards = memberCount + parityCount;
  const isSane =
    bytes.readUInt32LE(0) === PARITY_BLOCK_BYTES &&
    memberCount > 0 &&
    parityCount > 0 &&
    shards <= SHARDS_MAX &&
    shardBytes <= SHARD_BYTES_MAX;
  const blocks = blockCount(shardBytes);
  const checksumsFrom = DESCRIPTION_HEAD_BYTES + memberCount * MEMBER_BYTES;
  if (!isSane || bytes.length !== checksumsFrom + shards * blocks * 4)
    throw damagedParity("its description is malformed");
  const members = Array.from({ length: memberCount }, (_, index) =>
    parseMember(bytes, DESCRIPTION_HEAD_BYTES + index * MEMBER_BYTES, shardBytes),
  );
  const checksums = Array.from({ length: shards }, (_, shard) =>
    Uint32Array.from({ length: blocks }, (__, block) =>
      bytes.readUInt32LE(checksumsFrom + (shard * blocks + block) * 4),
    ),
  );
  return { members, parityCount, shardBytes, checksums };
}

function parseMember(bytes: Buffer, at: number, shardBytes: number): ParityMember {
  const kind = bytes.toString("latin1", at, at + 1);
  const sizeBytes = Number(bytes.readBigUInt64LE(at + 8));
  if ((kind !== "d" && kind !== "m") || sizeBytes > shardBytes) throw damagedParity("it lists an impossible pack");
  return { kind, sizeBytes, sha256: bytes.toString("hex", at + 16, at + 48) };
}

/** description offset u64, length u32, CRC-32 of the description and these 12 bytes u32, magic 8. */
export function encodeParityFooter(offsetBytes: number, description: Buffer): Buffer {
  const bytes = Buffer.alloc(PARITY_FOOTER_BYTES);
  bytes.writeBigUInt64LE(BigInt(offsetBytes), 0);
  bytes.writeUInt32LE(description.length, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 12), crc32(description)), 12);
  FOOTER_MAGIC.copy(bytes, 16);
  return bytes;
}

export interface ParityFooter {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** Where the description lies in an object of this size. Throws OBJECT_DAMAGED. */
export function parseParityFooter(bytes: Buffer, sizeBytes: number): ParityFooter {
  if (bytes.length !== PARITY_FOOTER_BYTES || !bytes.subarray(16).equals(FOOTER_MAGIC))
    throw damagedParity("it has no footer");
  const offsetBytes = Number(bytes.readBigUInt64LE(0));
  const lengthBytes = bytes.readUInt32LE(8);
  if (offsetBytes + lengthBytes + PARITY_FOOTER_BYTES !== sizeBytes) throw damagedParity("its footer points astray");
  return { offsetBytes, lengthBytes };
}

/** Throws OBJECT_DAMAGED when the description is not what the footer was written for. */
export function checkDescription(description: Buffer, footer: Buffer): void {
  if (footer.readUInt32LE(12) !== crc32(footer.subarray(0, 12), crc32(description)))
    throw damagedParity("its description is damaged");
}

/** Blocks of a shard; the last may be shorter. */
export function blockCount(shardBytes: number): number {
  return Math.ceil(shardBytes / PARITY_BLOCK_BYTES);
}

function damagedParity(why: string): HoldfastError {
  return new HoldfastError("OBJECT_DAMAGED", `a parity object is damaged: ${why}`);
}
