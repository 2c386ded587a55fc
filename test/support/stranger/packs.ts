/** Packs, index fragments and parity objects, from docs/repository-format.md alone. */
import { crc32 } from "node:zlib";
import { Cursor, demand } from "./bytes.js";
import { type Bundled, type OpenRecord, type StrangerKeys, TYPES, bundledIn, openRecord, sha256 } from "./records.js";

/** A record as a trailer or fragment lists it. */
export interface Listed {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  readonly plainLength: number;
  readonly id: string;
  readonly bundled: readonly Bundled[];
}

const PACK_HEADER_BYTES = 48;
const FOOTER_BYTES = 24;
const BLOCK_BYTES = 65_536;

/** Every record of a pack, proven by its trailer, which must list just these. */
export function recordsOfPack(keys: StrangerKeys, key: string, bytes: Buffer): OpenRecord[] {
  const [, kind, digits, name] = key.split("/");
  demand(sha256(bytes).toString("hex") === name && name.startsWith(digits ?? "-"), "the name of a pack");
  const header = new Cursor(bytes.subarray(0, PACK_HEADER_BYTES));
  demand(header.take(8).toString("latin1") === "HFPACK1\0" && header.u8() === 1, "the header of a pack");
  demand(header.take(1).toString() === kind, "the kind of a pack");
  header.take(6);
  demand(header.take(32).equals(keys.repositoryId), "the repository of a pack");
  const { at, length } = footerOf(bytes, "HFPKEND1");
  const trailer = openRecord(keys, bytes, at);
  demand(trailer.type === TYPES.trailer && trailer.bytes.length === length, "the trailer of a pack");
  const records = walk(keys, bytes, at);
  demand(JSON.stringify(records.listed) === JSON.stringify(trailerList(trailer.plain)), "what a trailer lists");
  return records.opened;
}

function footerOf(bytes: Buffer, magic: string): { readonly at: number; readonly length: number } {
  const footer = bytes.subarray(bytes.length - FOOTER_BYTES);
  const cursor = new Cursor(footer);
  const place = { at: cursor.u64(), length: cursor.u32() };
  cursor.u32();
  demand(cursor.take(8).toString() === magic, "the end of a footer");
  demand(place.at + place.length === bytes.length - FOOTER_BYTES, "the place that a footer tells");
  return place;
}

/** The records of a pack without its trailer, one behind the other. */
function walk(keys: StrangerKeys, bytes: Buffer, end: number): { opened: OpenRecord[]; listed: Listed[] } {
  const opened: OpenRecord[] = [];
  const listed: Listed[] = [];
  for (let at = PACK_HEADER_BYTES; at < end;) {
    const record = openRecord(keys, bytes, at);
    const bundled = record.type === TYPES.bundle ? bundledIn(keys, record.plain) : [];
    const { type, id, plain } = record;
    opened.push(record);
    listed.push({ type, offset: at, length: record.bytes.length, plainLength: plain.length, id, bundled });
    at += record.bytes.length;
  }
  return { opened, listed };
}

function trailerList(plain: Buffer): Listed[] {
  const cursor = new Cursor(plain);
  const listed = Array.from({ length: cursor.u32() }, () => {
    const type = cursor.u8();
    cursor.take(3);
    const [offset, length, plainLength, id] = [cursor.u64(), cursor.u32(), cursor.u32(), cursor.hex(32)];
    const bundled = Array.from({ length: cursor.u32() }, () => ({
      ...{ id: cursor.hex(32), offset: cursor.u32(), length: cursor.u32() },
    }));
    return { type, offset, length, plainLength, id, bundled };
  });
  cursor.end();
  return listed;
}

export interface StrangerFragment {
  readonly replaces: readonly string[];
  readonly packs: readonly { readonly key: string; readonly size: number; readonly records: readonly Listed[] }[];
}

/** What a fragment says; its name must be the SHA-256 of the object. */
export function fragmentOf(keys: StrangerKeys, key: string, bytes: Buffer): StrangerFragment {
  demand(key === `index/${sha256(bytes).toString("hex")}`, "the name of a fragment");
  const record = openRecord(keys, bytes);
  demand(record.type === TYPES.fragment && record.bytes.length === bytes.length, "a fragment is one record");
  const cursor = new Cursor(record.plain);
  demand(cursor.u8() === 1, "the version of a fragment");
  const replaces = Array.from({ length: cursor.varint() }, () => cursor.hex(32));
  const packs = Array.from({ length: cursor.varint() }, () => {
    const [kind, name, size] = [cursor.take(1).toString(), cursor.hex(32), cursor.varint()];
    const records = Array.from({ length: cursor.varint() }, () => fragmentRecord(cursor));
    return { key: `packs/${kind}/${name.slice(0, 2)}/${name}`, size, records };
  });
  cursor.end();
  return { replaces, packs };
}

function fragmentRecord(cursor: Cursor): Listed {
  const [type, id, offset, length] = [cursor.u8(), cursor.hex(32), cursor.varint(), cursor.varint()];
  const plainLength = cursor.varint();
  const bundled = Array.from({ length: cursor.varint() }, () => ({
    ...{ id: cursor.hex(32), offset: cursor.varint(), length: cursor.varint() },
  }));
  return { type, offset, length, plainLength, id, bundled };
}

interface ParityObject {
  readonly k: number;
  readonly m: number;
  readonly number: number;
  readonly shard: Buffer;
  readonly members: readonly { readonly key: string; readonly size: number }[];
  /** CRC-32 of each block of each shard. */
  readonly checks: readonly (readonly number[])[];
}

function parityOf(repositoryId: Buffer, key: string, bytes: Buffer): ParityObject {
  demand(key === `parity/${sha256(bytes).toString("hex")}`, "the name of a parity object");
  const header = new Cursor(bytes.subarray(0, PACK_HEADER_BYTES));
  demand(header.take(8).toString("latin1") === "HFPAR1\0\0" && header.u8() === 1, "the header of a parity object");
  const [k, m, number] = [header.u8(), header.u8(), header.u8()];
  header.take(4);
  demand(header.take(32).equals(repositoryId), "the repository of a parity object");
  const { at, length } = footerOf(bytes, "HFPARND1");
  const description = bytes.subarray(at, at + length);
  const told = bytes.readUInt32LE(bytes.length - 12);
  demand(crc32(bytes.subarray(bytes.length - 24, bytes.length - 12), crc32(description)) === told, "a CRC of parity");
  const cursor = new Cursor(description);
  demand(cursor.u32() === BLOCK_BYTES && cursor.u16() === k && cursor.u16() === m, "a description of parity");
  const shardBytes = cursor.u64();
  const members = Array.from({ length: k }, () => {
    const kind = cursor.take(1).toString();
    cursor.take(7);
    const [size, name] = [cursor.u64(), cursor.hex(32)];
    return { key: `packs/${kind}/${name.slice(0, 2)}/${name}`, size };
  });
  const blocks = Math.ceil(shardBytes / BLOCK_BYTES);
  const checks = Array.from({ length: k + m }, () => Array.from({ length: blocks }, () => cursor.u32()));
  cursor.end();
  const shard = bytes.subarray(PACK_HEADER_BYTES, PACK_HEADER_BYTES + shardBytes);
  return { k, m, number, shard, members, checks };
}

/** A pack made again out of what is left of its group; undefined: no parity object names it, or too little is left. */
export function packFromParity(
  objects: ReadonlyMap<string, Buffer>,
  repositoryId: Buffer,
  lost: string,
): Buffer | undefined {
  const parity = [...objects]
    .filter(([key]) => key.startsWith("parity/"))
    .map(([key, bytes]) => parityOf(repositoryId, key, bytes))
    .filter(({ members }) => members.some(({ key }) => key === lost));
  const [any] = parity;
  if (any === undefined) return undefined;
  const { k, m, members, shard } = any;
  const shards = new Map<number, Buffer>();
  for (const [index, { key }] of members.entries()) {
    const bytes = key === lost ? undefined : objects.get(key);
    if (bytes !== undefined) shards.set(index, Buffer.concat([bytes], shard.length));
  }
  for (const object of parity) shards.set(k + object.number, object.shard);
  for (const [index, bytes] of shards) demandChecks(bytes, any.checks[index] ?? [], members[index]?.size);
  const rows = [...shards].sort(([a], [b]) => a - b).slice(0, k);
  const at = members.findIndex(({ key }) => key === lost);
  return rows.length < k ? undefined : shardOf(at, rows, codeMatrix(k, m)).subarray(0, members[at]?.size);
}

/** Data shard number `at` out of as many shards as there are data shards, each with its row of the code's matrix. */
function shardOf(at: number, rows: readonly (readonly [number, Buffer])[], matrix: Matrix): Buffer {
  const inverse = inverted(rows.map(([row]) => matrix[row] ?? []));
  const shard = Buffer.alloc(rows[0]?.[1].length ?? 0);
  for (const [column, [, bytes]] of rows.entries()) {
    const factor = inverse[at]?.[column] ?? 0;
    const table = Array.from({ length: 256 }, (_none, value) => times(factor, value));
    for (const [index, byte] of bytes.entries()) shard[index] = (shard[index] ?? 0) ^ (table[byte] ?? 0);
  }
  return shard;
}

/** Of a pack's blocks the CRCs are those of its own bytes; of a parity shard (`size` undefined) of all. */
function demandChecks(shard: Buffer, checks: readonly number[], size: number | undefined): void {
  const own = shard.subarray(0, size ?? shard.length);
  for (const [index, check] of checks.entries()) {
    demand(crc32(own.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES)) === check, "the CRC of a block");
  }
}

// --- the field of 256 elements, polynomial 0x11d -----------------------------------------------------------------------

function times(a: number, b: number): number {
  let product = 0;
  for (let [left, right] = [a, b]; right > 0; right >>= 1) {
    if ((right & 1) === 1) product ^= left;
    left = (left << 1) ^ (left >= 128 ? 0x11d : 0);
  }
  return product;
}

function power(base: number, exponent: number): number {
  return Array.from({ length: exponent }).reduce<number>((product) => times(product, base), 1);
}

type Matrix = readonly (readonly number[])[];

function product(left: Matrix, right: Matrix): number[][] {
  return left.map((row) =>
    (right[0] ?? []).map((_none, column) =>
      row.reduce((sum, value, index) => sum ^ times(value, right[index]?.[column] ?? 0), 0),
    ),
  );
}

/** Gauss and Jordan, beside the unit matrix. */
function inverted(matrix: Matrix): number[][] {
  const size = matrix.length;
  const rows = matrix.map((row, at) => [
    ...row,
    ...Array.from({ length: size }, (_none, column) => Number(column === at)),
  ]);
  for (let at = 0; at < size; at += 1) {
    const pivot = rows.findIndex((row, index) => index >= at && row[at] !== 0);
    demand(pivot >= 0, "a matrix that can be inverted");
    [rows[at], rows[pivot]] = [rows[pivot] ?? [], rows[at] ?? []];
    const head = rows[at] ?? [];
    const inverse = power(head[at] ?? 0, 254);
    const unit = head.map((value) => times(value, inverse));
    for (const [index, row] of rows.entries())
      rows[index] = index === at ? unit : row.map((value, column) => value ^ times(row[at] ?? 0, unit[column] ?? 0));
  }
  return rows.map((row) => row.slice(size));
}

function codeMatrix(k: number, m: number): number[][] {
  const v = Array.from({ length: k + m }, (_none, row) =>
    Array.from({ length: k }, (_zero, column) => power(row, column)),
  );
  return product(v, inverted(v.slice(0, k)));
}
