/** Configuration, key slots, derived keys and records, from docs/repository-format.md alone. */
import { createDecipheriv, createHash, createHmac, hkdfSync, pbkdf2Sync, scryptSync } from "node:crypto";
import { crc32 } from "node:zlib";
import { Cursor, decompressed, demand } from "./bytes.js";

export const HEADER_BYTES = 80;
const TAG_BYTES = 16;

/** Numbers of record types. */
export const TYPES = {
  ...{ chunk: 1, bundle: 2, node: 3, frame: 4, commit: 5, trailer: 6, fragment: 7, deltas: 8 },
} as const;

/** How somebody opens a repository. */
export type StrangerKey =
  { readonly keyFile: Buffer } | { readonly recoveryKey: string } | { readonly password: string };

export interface StrangerKeys {
  readonly repositoryId: Buffer;
  readonly recordMasters: readonly Buffer[];
  readonly idKey: Buffer | undefined;
  readonly chunkerKey: Buffer;
}

export interface OpenRecord {
  readonly type: number;
  readonly id: string;
  readonly salt: string;
  readonly plain: Buffer;
  /** With header. */
  readonly bytes: Buffer;
}

export function sha256(...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

export function hkdf(key: Uint8Array, salt: Uint8Array, label: string, length = 32): Buffer {
  return Buffer.from(hkdfSync("sha256", key, salt, label, length));
}

/** A JSON document of any number of lines, a line break, its SHA-256 in hex, a line break. */
export function digestedJson(bytes: Buffer): Readonly<Record<string, unknown>> {
  const document = bytes.subarray(0, bytes.length - 66);
  const digest = bytes.toString("latin1", bytes.length - 66);
  demand(digest === `\n${sha256(document).toString("hex")}\n`, "the digest of a JSON document");
  return JSON.parse(document.toString("utf8")) as Readonly<Record<string, unknown>>;
}

interface Slot {
  readonly version: number;
  readonly kind: string;
  readonly kdf: Readonly<Record<string, string | number>>;
  readonly salt: string;
  readonly nonce: string;
  readonly wrapped: string;
}

/** The keys of a repository; `slots` are the objects below `keys/`. */
export function keysOf(repositoryId: Buffer, slots: readonly Buffer[], key: StrangerKey | undefined): StrangerKeys {
  if (key === undefined) {
    const chunkerKey = hkdf(repositoryId, repositoryId, "holdfast chunker v1");
    return { repositoryId, recordMasters: [], idKey: undefined, chunkerKey };
  }
  const opened = slots.map((bytes) => mastersOf(repositoryId, JSON.parse(bytes.toString("utf8")) as Slot, key));
  const masters = opened.filter((each) => each !== undefined).sort((a, b) => b.length - a.length)[0];
  const [first] = masters ?? [];
  demand(masters !== undefined && first !== undefined, "a slot that the key opens");
  return {
    repositoryId,
    recordMasters: masters.map((master) => hkdf(master, repositoryId, "holdfast records v1")),
    idKey: hkdf(first, repositoryId, "holdfast ids v1"),
    chunkerKey: hkdf(first, repositoryId, "holdfast chunker v1"),
  };
}

function mastersOf(repositoryId: Buffer, slot: Slot, key: StrangerKey): Buffer[] | undefined {
  const wrapping = wrappingKey(slot, key);
  if (wrapping === undefined) return undefined;
  const { name, costLog2, blockSize, parallel, iterations } = slot.kdf;
  const parameters = {
    scrypt: `scrypt ${String(costLog2)} ${String(blockSize)} ${String(parallel)}`,
    "pbkdf2-sha256": `pbkdf2-sha256 ${String(iterations)}`,
    "hkdf-sha256": "hkdf-sha256",
  }[String(name)];
  const about = `holdfast key slot v${String(slot.version)}\0${slot.kind}\0${String(parameters)}`;
  const wrapped = Buffer.from(slot.wrapped, "hex");
  const nonce = Buffer.from(slot.nonce, "hex");
  const masters = unsealedOrNone(wrapping, nonce, Buffer.concat([repositoryId, Buffer.from(about)]), wrapped);
  if (masters === undefined) return undefined;
  return Array.from({ length: masters.length / 32 }, (_none, index) => masters.subarray(32 * index, 32 * index + 32));
}

function wrappingKey(slot: Slot, key: StrangerKey): Buffer | undefined {
  const salt = Buffer.from(slot.salt, "hex");
  if ("password" in key) {
    if (slot.kind !== "password") return undefined;
    const password = Buffer.from(key.password.normalize("NFKC"), "utf8");
    const { costLog2, blockSize, parallel, iterations } = slot.kdf;
    if (slot.kdf["name"] === "pbkdf2-sha256") return pbkdf2Sync(password, salt, Number(iterations), 32, "sha256");
    const [N, r, p] = [2 ** Number(costLog2), Number(blockSize), Number(parallel)];
    return scryptSync(password, salt, 32, { N, r, p, maxmem: 256 * N * r });
  }
  const kind = "keyFile" in key ? "raw" : "recovery";
  if (slot.kind !== kind) return undefined;
  return hkdf("keyFile" in key ? key.keyFile : recoveryBytes(key.recoveryKey), salt, "holdfast key slot v1");
}

/** The 20 bytes of a recovery key, which its last 5 prove. */
function recoveryBytes(text: string): Buffer {
  const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  const typed = text.toUpperCase().replace(/[ -]/g, "").replace(/O/g, "0").replace(/[IL]/g, "1");
  const number = Array.from(typed).reduce((sum, digit) => sum * 32n + BigInt(digits.indexOf(digit)), 0n);
  const bytes = Buffer.from(number.toString(16).padStart(50, "0"), "hex");
  const key = bytes.subarray(0, 20);
  const check = sha256(Buffer.from("holdfast recovery key"), key).subarray(0, 5);
  demand(check.equals(bytes.subarray(20)), "the last 5 bytes of a recovery key");
  return key;
}

/** Undefined when the key is another. */
function unsealedOrNone(...parts: Parameters<typeof unsealed>): Buffer | undefined {
  try {
    return unsealed(...parts);
  } catch {
    return undefined;
  }
}

function unsealed(key: Buffer, nonce: Buffer, about: Buffer, sealed: Buffer): Buffer {
  const cipher = createDecipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(about);
  cipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  return Buffer.concat([cipher.update(sealed.subarray(0, sealed.length - TAG_BYTES)), cipher.final()]);
}

/** The id of plain bytes. */
export function idOf(keys: StrangerKeys, plain: Uint8Array): string {
  const digest = sha256(plain);
  if (keys.idKey === undefined) return digest.toString("hex");
  return createHmac("sha256", keys.idKey).update(digest).digest("hex");
}

/** Opens the record that begins at `at`. */
export function openRecord(keys: StrangerKeys, bytes: Buffer, at = 0): OpenRecord {
  const header = bytes.subarray(at, at + HEADER_BYTES);
  const cursor = new Cursor(header);
  demand(cursor.take(4).toString() === "HFR1" && cursor.u8() === 1, "the magic and version of a record");
  const [type, codec, flags, id] = [cursor.u8(), cursor.u8(), cursor.u8(), cursor.hex(32)];
  const [plainBytes, payloadBytes] = [cursor.u32(), cursor.u32()];
  const [salt, nonce, check] = [cursor.take(16), cursor.take(12), cursor.u32()];
  const payload = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + payloadBytes);
  demand(payload.length === payloadBytes, "the length of a payload");
  demand(crc32(payload, crc32(header.subarray(0, 76))) === check, "the CRC of a record");
  const isSealed = keys.recordMasters.length > 0;
  demand(flags === (isSealed ? 1 : 0), "the flag of a sealed record");
  const packed = isSealed ? opened(keys, header, { salt, nonce, payload }) : payload;
  const plain = decompressed(codec, packed, plainBytes);
  demand(plain.length === plainBytes, "the length of the plain bytes");
  const whole = type === TYPES.bundle ? bundleDirectory(plain) : plain;
  demand(idOf(keys, whole) === id, "the id of a record");
  const end = at + HEADER_BYTES + payloadBytes;
  return { type, id, salt: salt.toString("hex"), plain, bytes: bytes.subarray(at, end) };
}

function opened(
  keys: StrangerKeys,
  header: Buffer,
  { salt, nonce, payload }: { readonly salt: Buffer; readonly nonce: Buffer; readonly payload: Buffer },
): Buffer {
  const master = keys.recordMasters[nonce.readUInt32LE(0)];
  demand(master !== undefined, "the number of a master");
  const about = Buffer.concat([keys.repositoryId, header.subarray(0, 76)]);
  return unsealed(hkdf(master, salt, "holdfast record v1"), nonce, about, payload);
}

function bundleDirectory(plain: Buffer): Buffer {
  return plain.subarray(0, 4 + 36 * plain.readUInt32LE(0));
}

/** A chunk in a bundle. */
export interface Bundled {
  readonly id: string;
  readonly offset: number;
  readonly length: number;
}

/** What a bundle holds; each chunk is its id's. */
export function bundledIn(keys: StrangerKeys, plain: Buffer): Bundled[] {
  const cursor = new Cursor(plain);
  const count = cursor.u32();
  let offset = 4 + 36 * count;
  return Array.from({ length: count }, () => {
    const chunk = { id: cursor.hex(32), offset, length: cursor.u32() };
    offset += chunk.length;
    demand(idOf(keys, plain.subarray(chunk.offset, offset)) === chunk.id, "the id of a bundled chunk");
    return chunk;
  });
}
