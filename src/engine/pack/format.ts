/**
 * Layout of a pack: header, records, trailer (the list of its records, sealed as one), footer. The file's name is its
 * SHA-256. `docs/repository-format.md`, section Packs.
 */
import { crc32 } from "node:zlib";
import { HoldfastError } from "../../base/errors.js";
import type { ChunkId } from "../types.js";
import { type BundledChunk, RECORD_TYPES, type RecordType, recordTypeNumbered } from "./record.js";

/** `d`: chunks and bundles; `m`: tree nodes and other metadata. */
export type PackKind = "d" | "m";

export const PACK_HEADER_BYTES = 48;
export const PACK_FOOTER_BYTES = 24;
/** A pack is closed when it reaches this size, bytes. */
export const PACK_BYTES_AIM = 32 * 2 ** 20;

const HEADER_MAGIC = Buffer.from("HFPACK1\0", "latin1");
const FOOTER_MAGIC = Buffer.from("HFPKEND1", "latin1");
const PACK_VERSION = 1;

/** One record of a pack. */
export interface PackEntry {
  readonly type: RecordType;
  readonly id: ChunkId;
  /** Where the record begins in the pack. */
  readonly offsetBytes: number;
  /** Whole record, header included. */
  readonly recordBytes: number;
  readonly plainBytes: number;
  readonly inner?: readonly BundledChunk[];
}

/** A closed pack, synced, still in the staging folder; `backend.putFile(packKey(kind, sha256), stagingPath)` comes next. */
export interface FinishedPack {
  readonly kind: PackKind;
  readonly stagingPath: string;
  /** Of the whole file, hex: the pack's name. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly entries: readonly PackEntry[];
}

/** `packs/d/ab/abcd…` */
export function packKey(kind: PackKind, sha256: string): string {
  return `packs/${kind}/${sha256.slice(0, 2)}/${sha256}`;
}

/** The first 48 bytes: magic 8, version 1, kind 1, zeros 6, repository id 32. */
export function encodePackHeader(kind: PackKind, repositoryId: Uint8Array): Buffer {
  const header = Buffer.alloc(PACK_HEADER_BYTES);
  HEADER_MAGIC.copy(header);
  header.writeUInt8(PACK_VERSION, 8);
  header.write(kind, 9, "latin1");
  header.set(repositoryId, 16);
  return header;
}

/**
 * The kind of a pack. Throws OBJECT_DAMAGED when it is none of this repository. An unknown version is damage too: a
 * repository with newer packs says so in its configuration, which keeps this program from opening it.
 */
export function parsePackHeader(bytes: Buffer, repositoryId: Uint8Array): PackKind {
  if (bytes.length < PACK_HEADER_BYTES || !bytes.subarray(0, 8).equals(HEADER_MAGIC)) {
    throw damagedPack("it has no pack header");
  }
  if (bytes[8] !== PACK_VERSION) throw damagedPack("its version is unknown");
  if (!bytes.subarray(16, PACK_HEADER_BYTES).equals(repositoryId)) throw damagedPack("it is of another repository");
  const kind = bytes.toString("latin1", 9, 10);
  if (kind !== "d" && kind !== "m") throw damagedPack("its kind is unknown");
  return kind;
}

export interface PackFooter {
  readonly trailerOffsetBytes: number;
  readonly trailerBytes: number;
}

/** The last 24 bytes: trailer offset u64, trailer length u32, CRC-32 of these 12 bytes u32, magic 8. */
export function encodePackFooter(footer: PackFooter): Buffer {
  const bytes = Buffer.alloc(PACK_FOOTER_BYTES);
  bytes.writeBigUInt64LE(BigInt(footer.trailerOffsetBytes), 0);
  bytes.writeUInt32LE(footer.trailerBytes, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 12)), 12);
  FOOTER_MAGIC.copy(bytes, 16);
  return bytes;
}

/** Throws OBJECT_DAMAGED when it is no footer. */
export function parsePackFooter(bytes: Buffer): PackFooter {
  if (bytes.length !== PACK_FOOTER_BYTES || !bytes.subarray(16).equals(FOOTER_MAGIC)) {
    throw damagedPack("it has no footer");
  }
  if (bytes.readUInt32LE(12) !== crc32(bytes.subarray(0, 12))) throw damagedPack("its footer is damaged");
  return { trailerOffsetBytes: Number(bytes.readBigUInt64LE(0)), trailerBytes: bytes.readUInt32LE(8) };
}

const ENTRY_BYTES = 56;
const INNER_BYTES = 40;

/**
 * The plain trailer: count u32; per record type u8, zeros 3, offset u64, record length u32, plain length u32, id 32,
 * inner count u32; per bundled chunk id 32, offset u32, length u32.
 */
export function encodeTrailer(entries: readonly PackEntry[]): Buffer {
  const inner = entries.reduce((sum, entry) => sum + (entry.inner?.length ?? 0), 0);
  const bytes = Buffer.alloc(4 + entries.length * ENTRY_BYTES + inner * INNER_BYTES);
  bytes.writeUInt32LE(entries.length, 0);
  let at = 4;
  for (const entry of entries) {
    bytes.writeUInt8(RECORD_TYPES[entry.type], at);
    bytes.writeBigUInt64LE(BigInt(entry.offsetBytes), at + 4);
    bytes.writeUInt32LE(entry.recordBytes, at + 12);
    bytes.writeUInt32LE(entry.plainBytes, at + 16);
    bytes.write(entry.id, at + 20, "hex");
    bytes.writeUInt32LE(entry.inner?.length ?? 0, at + 52);
    at += ENTRY_BYTES;
    for (const chunk of entry.inner ?? []) at = writeInner(bytes, at, chunk);
  }
  return bytes;
}

function writeInner(bytes: Buffer, at: number, chunk: BundledChunk): number {
  bytes.write(chunk.id, at, "hex");
  bytes.writeUInt32LE(chunk.offsetBytes, at + 32);
  bytes.writeUInt32LE(chunk.lengthBytes, at + 36);
  return at + INNER_BYTES;
}

/** Throws OBJECT_DAMAGED when the bytes are no trailer. */
export function parseTrailer(bytes: Buffer): PackEntry[] {
  const count = bytes.length < 4 ? -1 : bytes.readUInt32LE(0);
  if (count < 0 || count * ENTRY_BYTES > bytes.length) throw damagedPack("its trailer is malformed");
  const entries: PackEntry[] = [];
  let at = 4;
  while (entries.length < count) {
    const [entry, next] = parseEntry(bytes, at);
    entries.push(entry);
    at = next;
  }
  if (at !== bytes.length) throw damagedPack("its trailer has a wrong length");
  return entries;
}

function parseEntry(bytes: Buffer, at: number): [PackEntry, number] {
  if (at + ENTRY_BYTES > bytes.length) throw damagedPack("its trailer is cut off");
  const type = recordTypeNumbered(bytes.readUInt8(at));
  if (type === undefined) throw damagedPack("its trailer lists an unknown type");
  const innerCount = bytes.readUInt32LE(at + 52);
  const end = at + ENTRY_BYTES + innerCount * INNER_BYTES;
  if (end > bytes.length) throw damagedPack("its trailer is cut off");
  const entry: PackEntry = {
    type,
    id: bytes.toString("hex", at + 20, at + 52) as ChunkId,
    offsetBytes: Number(bytes.readBigUInt64LE(at + 4)),
    recordBytes: bytes.readUInt32LE(at + 12),
    plainBytes: bytes.readUInt32LE(at + 16),
  };
  if (innerCount === 0) return [entry, end];
  const inner = Array.from({ length: innerCount }, (_, index): BundledChunk => {
    const place = at + ENTRY_BYTES + index * INNER_BYTES;
    return {
      id: bytes.toString("hex", place, place + 32) as ChunkId,
      offsetBytes: bytes.readUInt32LE(place + 32),
      lengthBytes: bytes.readUInt32LE(place + 36),
    };
  });
  return [{ ...entry, inner }, end];
}

/** The error of a pack that is not whole. */
export function damagedPack(why: string): HoldfastError {
  return new HoldfastError("OBJECT_DAMAGED", `a pack is damaged: ${why}`);
}
