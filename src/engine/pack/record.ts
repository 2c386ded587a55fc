/**
 * Records: the sealed unit of packs and of the write-ahead log. An 80-byte header, then the payload, compressed and
 * sealed with AES-256-GCM (or plain in an unencrypted repository). `docs/repository-format.md`, section Records.
 * A record is opened and compared with what it was made from before it counts, and its id is recomputed when read.
 */
import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { HoldfastError } from "../../base/errors.js";
import {
  type CodecName,
  CODEC_NUMBERS,
  codecNamed,
  codecNumbered,
  codecOf,
  type Compression,
  PLAIN_BYTES_MAX,
} from "../codec/codec.js";
import { Scratch } from "../codec/scratch.js";
import { NONCE_BYTES, openSealed, sealParts, TAG_BYTES } from "../crypto/aead.js";
import { hmacOfDigest } from "../crypto/hmac.js";
import { deriveKey } from "../crypto/kdf.js";
import type { RepositoryKeys } from "../keys.js";
import type { ChunkId } from "../types.js";

export const RECORD_HEADER_BYTES = 80;
/** "HFR1": every record begins so, which is how a scan finds the next one behind damage. */
export const RECORD_MAGIC = Buffer.from("HFR1", "latin1");
const RECORD_VERSION = 1;
const FLAG_ENCRYPTED = 1;
const SALT_BYTES = 16;
const RECORD_LABEL = "holdfast record v1";

/** Offsets in the header. */
const AT = { version: 4, type: 5, codec: 6, flags: 7, id: 8, plain: 40, stored: 44, salt: 48, nonce: 64, crc: 76 };

/** No record is longer than this, header included, bytes. */
export const RECORD_BYTES_MAX = RECORD_HEADER_BYTES + PLAIN_BYTES_MAX + TAG_BYTES;

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

const TYPE_NAMES = new Map<number, RecordType>(
  (Object.keys(RECORD_TYPES) as RecordType[]).map((name) => [RECORD_TYPES[name], name]),
);

/** Name of a type's number, or undefined for one that this version does not know. */
export function recordTypeNumbered(number: number): RecordType | undefined {
  return TYPE_NAMES.get(number);
}

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
  /** Number of the master key that sealed it, from 0; 0 when not encrypted. */
  readonly keyNumber: number;
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
export function chunkIdOf(keys: RepositoryKeys, plain: Uint8Array): ChunkId {
  return chunkIdOfDigest(keys, hash("sha256", plain, "hex"));
}

/** The id of plain bytes whose SHA-256 (64 hex) is known already: that of a file in one chunk is its digest too. */
export function chunkIdOfDigest(keys: RepositoryKeys, sha256: string): ChunkId {
  if (keys.idKey === undefined) return sha256 as ChunkId;
  return hmacOfDigest(keys.idKey, sha256) as ChunkId;
}

/** The id of a record: of a bundle that of its directory, which names each chunk in it by an id of its own. */
export function recordIdOf(keys: RepositoryKeys, type: RecordType, plain: Uint8Array): ChunkId {
  return chunkIdOf(keys, type === "bundle" ? plain.subarray(0, directoryBytes(plain)) : plain);
}

/** Length of a bundle's directory as its count says; hostile counts give the whole. */
function directoryBytes(bundle: Uint8Array): number {
  if (bundle.length < BUNDLE_COUNT_BYTES) return bundle.length;
  return Math.min(bundle.length, BUNDLE_COUNT_BYTES + bufferOf(bundle).readUInt32LE(0) * BUNDLE_ENTRY_BYTES);
}

/** A bundle begins with the number of its chunks, then id and length of each (`bundle.ts`). */
export const BUNDLE_COUNT_BYTES = 4;
export const BUNDLE_ENTRY_BYTES = 36;

/** Reads a header. Throws RECORD_DAMAGED when it cannot be one (the CRC is not looked at). */
export function parseHeader(bytes: Uint8Array): RecordHeader {
  const view = bufferOf(bytes);
  if (view.length < RECORD_HEADER_BYTES) throw damaged("its header is cut off");
  if (!view.subarray(0, AT.version).equals(RECORD_MAGIC)) throw damaged("there is no record at its place");
  if (view[AT.version] !== RECORD_VERSION) throw damaged("its version is unknown");
  const type = recordTypeNumbered(view.readUInt8(AT.type));
  if (type === undefined) throw damaged("its type is unknown");
  const flags = view.readUInt8(AT.flags);
  if (flags > FLAG_ENCRYPTED) throw damaged("it has unknown flags");
  const header: RecordHeader = {
    type,
    codec: codecNumbered(view.readUInt8(AT.codec)).name,
    encrypted: flags === FLAG_ENCRYPTED,
    id: view.toString("hex", AT.id, AT.plain) as ChunkId,
    plainBytes: view.readUInt32LE(AT.plain),
    storedBytes: view.readUInt32LE(AT.stored),
    salt: view.toString("hex", AT.salt, AT.nonce),
    keyNumber: view.readUInt32LE(AT.nonce),
  };
  if (header.plainBytes > PLAIN_BYTES_MAX || header.storedBytes > PLAIN_BYTES_MAX + TAG_BYTES) {
    throw damaged("its lengths are impossible");
  }
  return header;
}

/** True when header and payload match their CRC; needs no key. `bytes` is the whole record. */
export function crcMatches(bytes: Uint8Array): boolean {
  if (bytes.length < RECORD_HEADER_BYTES) return false;
  return bufferOf(bytes).readUInt32LE(AT.crc) === crcOf(bytes);
}

/** Seals records under one random salt with a counted nonce; make one for each pack, segment or worker. */
export class RecordSealer {
  /** The salt that all its records carry, hex. */
  readonly salt: string;
  readonly #keys: RepositoryKeys;
  readonly #salt: Buffer;
  readonly #key: Buffer | undefined;
  readonly #opener: RecordOpener;
  #counter = 0n;

  constructor(keys: RepositoryKeys) {
    this.#keys = keys;
    this.#salt = randomBytes(SALT_BYTES);
    this.salt = this.#salt.toString("hex");
    this.#key = keys.recordMaster === undefined ? undefined : deriveKey(keys.recordMaster, this.#salt, RECORD_LABEL);
    this.#opener = new RecordOpener(keys);
  }

  /** Seals, opens again and compares. Throws LIMIT_REACHED above PLAIN_BYTES_MAX, INTERNAL when the proof fails. */
  seal(type: RecordType, plain: Uint8Array, compression: Compression, id?: ChunkId): SealedRecord {
    if (plain.length > PLAIN_BYTES_MAX) {
      throw new HoldfastError("LIMIT_REACHED", `a record of ${plain.length} bytes is too long`);
    }
    const knownId = id ?? recordIdOf(this.#keys, type, plain);
    const { codec, level } = codecOf(compression);
    const compressed = codec.compress(plain, level);
    const header = this.#header({ type, plain, codec: compressed === undefined ? "none" : codec.name, id: knownId });
    const bytes = this.#assemble(header, compressed ?? plain);
    this.#prove(bytes, plain);
    return { type, id: knownId, plainBytes: plain.length, bytes };
  }

  #header(fields: { type: RecordType; plain: Uint8Array; codec: CodecName; id: ChunkId }): Buffer {
    const header = Buffer.alloc(RECORD_HEADER_BYTES);
    RECORD_MAGIC.copy(header);
    header.writeUInt8(RECORD_VERSION, AT.version);
    header.writeUInt8(RECORD_TYPES[fields.type], AT.type);
    header.writeUInt8(CODEC_NUMBERS[fields.codec], AT.codec);
    header.writeUInt8(this.#key === undefined ? 0 : FLAG_ENCRYPTED, AT.flags);
    header.write(fields.id, AT.id, "hex");
    header.writeUInt32LE(fields.plain.length, AT.plain);
    this.#salt.copy(header, AT.salt);
    header.writeUInt32LE(this.#keys.olderRecordMasters.length, AT.nonce);
    header.writeBigUInt64LE(this.#counter, AT.nonce + NONCE_BYTES - 8);
    this.#counter += 1n;
    return header;
  }

  #assemble(header: Buffer, payload: Uint8Array): Buffer {
    header.writeUInt32LE(payload.length + (this.#key === undefined ? 0 : TAG_BYTES), AT.stored);
    const parts = this.#key === undefined ? [payload] : sealParts(payload, sealContext(this.#keys, this.#key, header));
    const bytes = Buffer.concat([header, ...parts]);
    bytes.writeUInt32LE(crcOf(bytes), AT.crc);
    return bytes;
  }

  #prove(bytes: Buffer, plain: Uint8Array): void {
    const header = parseHeader(bytes);
    if (header.plainBytes !== plain.length || !this.#opener.opensTo(bytes, header, plain)) {
      throw new HoldfastError("INTERNAL", "a sealed record does not open to what was sealed");
    }
  }
}

/** Opens records; keeps the derived keys of the last salts. */
export class RecordOpener {
  readonly keys: RepositoryKeys;
  readonly #derived = new Map<string, Buffer>();
  readonly #room = new Scratch(OPENED_BYTES);

  constructor(keys: RepositoryKeys) {
    this.keys = keys;
  }

  /**
   * `bytes` is the whole record. Throws RECORD_DAMAGED on a wrong CRC, seal, length or id, REPO_KEY_WRONG when a key
   * newer than ours sealed it.
   */
  open(bytes: Uint8Array): OpenedRecord {
    return this.#proved(bytes, (header) => this.openPayload(bytes, header));
  }

  /** The same, but the plain bytes may be valid until the next call only, and may be a view of `bytes`. */
  openOnce(bytes: Uint8Array): OpenedRecord {
    return this.#proved(bytes, (header) => this.openPayload(bytes, header, this.#room.ofSize(header.plainBytes)));
  }

  #proved(bytes: Uint8Array, payloadOf: (header: RecordHeader) => Buffer): OpenedRecord {
    const header = parseHeader(bytes);
    if (bytes.length !== RECORD_HEADER_BYTES + header.storedBytes) throw damaged("its length is not the stored one");
    if (!crcMatches(bytes)) throw damaged("its checksum does not match");
    const plain = payloadOf(header);
    if (recordIdOf(this.keys, header.type, plain) !== header.id) throw damaged("its content is not what its id says");
    return { header, plain };
  }

  /**
   * Opens the seal and decodes, without looking at CRC and id. The result may lie in `room`, memory of at least
   * `header.plainBytes`, or be a view of `bytes`. Throws RECORD_DAMAGED.
   */
  openPayload(bytes: Uint8Array, header: RecordHeader, room?: Buffer): Buffer {
    return codecNamed(header.codec).decompress(this.#compressed(bytes, header), header.plainBytes, room);
  }

  /** True when seal and codec give exactly these plain bytes. Throws RECORD_DAMAGED. */
  opensTo(bytes: Uint8Array, header: RecordHeader, plain: Uint8Array): boolean {
    return codecNamed(header.codec).opensTo(this.#compressed(bytes, header), plain);
  }

  /** The payload without its seal. */
  #compressed(bytes: Uint8Array, header: RecordHeader): Uint8Array {
    // A repository is encrypted or it is not: a plain record in an encrypted one was put there by someone else.
    if (header.encrypted !== (this.keys.recordMaster !== undefined)) throw damaged("its encryption is not the store's");
    const payload = bytes.subarray(RECORD_HEADER_BYTES);
    return header.encrypted ? this.#unsealed(bytes, payload, header) : payload;
  }

  #unsealed(bytes: Uint8Array, payload: Uint8Array, header: RecordHeader): Buffer {
    const context = sealContext(this.keys, this.#keyOf(header), bytes.subarray(0, RECORD_HEADER_BYTES));
    const opened = openSealed(payload, context);
    if (opened === undefined) throw damaged("its seal does not match");
    return opened;
  }

  #keyOf({ salt, keyNumber }: RecordHeader): Buffer {
    const name = `${String(keyNumber)} ${salt}`;
    const known = this.#derived.get(name);
    if (known !== undefined) return known;
    const { recordMaster, olderRecordMasters } = this.keys;
    const master = keyNumber === olderRecordMasters.length ? recordMaster : olderRecordMasters[keyNumber];
    if (master === undefined) throw newerKey(keyNumber);
    const key = deriveKey(master, Buffer.from(salt, "hex"), RECORD_LABEL);
    if (this.#derived.size >= DERIVED_KEYS_MAX) this.#derived.clear();
    this.#derived.set(name, key);
    return key;
  }
}

/** Memory for opened records begins with room for a bundle. */
const OPENED_BYTES = 1.25 * 2 ** 20;
/** Deriving a key costs about 10 µs; this many are kept, 100 bytes each. */
const DERIVED_KEYS_MAX = 4096;

function sealContext(keys: RepositoryKeys, key: Uint8Array, header: Uint8Array) {
  return {
    key,
    nonce: header.subarray(AT.nonce, AT.crc),
    bound: Buffer.concat([keys.repositoryId, header.subarray(0, AT.crc)]),
  };
}

function crcOf(record: Uint8Array): number {
  return crc32(record.subarray(RECORD_HEADER_BYTES), crc32(record.subarray(0, AT.crc)));
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The record is whole, so it is no damage: what opened the repository is from before a rotation of its keys. */
function newerKey(keyNumber: number): HoldfastError {
  return new HoldfastError("REPO_KEY_WRONG", `a record is sealed under key number ${keyNumber}, which is not open`, {
    hint: "Open the repository with the key of its last rotation. A damaged key slot comes back out of a copy of `keys/`.",
  });
}

function damaged(why: string): HoldfastError {
  return new HoldfastError("RECORD_DAMAGED", `a record is damaged: ${why}`);
}
