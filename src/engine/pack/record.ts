/**
 * Records: the sealed unit of packs and of the write-ahead log. An 80-byte header, then the payload, compressed and
 * sealed with AES-256-GCM (or plain in an unencrypted repository). `docs/repository-format.md`, section Records.
 * A record is opened and compared with what it was made from before it counts, and its id is recomputed when read.
 */
import type { ChunkId } from "../types.js";
import type { CodecName } from "../codec/codec.js";
import type { RepositoryKeys } from "../keys.js";

export const RECORD_HEADER_BYTES = 80;

/** Numbers in the header; permanent. */
export const RECORD_TYPES = {
  chunk: 1,
  bundle: 2,
  tree_node: 3,
  frame: 4,
  commit: 5,
  trailer: 6,
  fragment: 7,
  delta_batch: 8,
  note: 9,
} as const;
export type RecordType = keyof typeof RECORD_TYPES;

export interface RecordHeader {
  readonly type: RecordType;
  readonly codec: CodecName;
  readonly encrypted: boolean;
  /** Keyed hash of the plain bytes, whatever the type. */
  readonly id: ChunkId;
  readonly plainBytes: number;
  /** Length of the payload behind the header. */
  readonly storedBytes: number;
  /** 16 bytes, hex. */
  readonly salt: string;
}

/** A record ready to be written: header and payload. */
export interface SealedRecord {
  readonly type: RecordType;
  readonly id: ChunkId;
  readonly plainBytes: number;
  readonly bytes: Uint8Array;
  /** Bundles only: the chunks in it, in order. */
  readonly inner?: readonly BundledChunk[];
}

/** A chunk inside an opened bundle. */
export interface BundledChunk {
  readonly id: ChunkId;
  /** Where it begins in the opened bundle, bytes. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface OpenedRecord {
  readonly header: RecordHeader;
  readonly plain: Buffer;
}

/** The id of plain bytes under a repository's keys. */
export declare function chunkIdOf(keys: RepositoryKeys, plain: Uint8Array): ChunkId;

/** Reads a header. Throws RECORD_DAMAGED when it cannot be one (the CRC is not looked at). */
export declare function parseHeader(bytes: Uint8Array): RecordHeader;

/** True when header and payload match their CRC; needs no key. `bytes` is the whole record. */
export declare function crcMatches(bytes: Uint8Array): boolean;

/** Seals records under one random salt with a counted nonce; make one for each pack, segment or worker. */
export declare class RecordSealer {
  constructor(keys: RepositoryKeys);
  /** The salt that all its records carry, hex. */
  readonly salt: string;
  /** Seals, opens again and compares. Throws LIMIT_REACHED above PLAIN_BYTES_MAX, INTERNAL when the proof fails. */
  seal(type: RecordType, plain: Uint8Array, codec: CodecName, id?: ChunkId): SealedRecord;
}

/** Opens records; keeps the derived keys of the last salts. */
export declare class RecordOpener {
  constructor(keys: RepositoryKeys);
  /** `bytes` is the whole record. Throws RECORD_DAMAGED on a wrong CRC, seal, length or id. */
  open(bytes: Uint8Array): OpenedRecord;
}
