/**
 * Index fragments: `index/<sha256>`, each a sealed list of packs with their records, and of older fragments that it
 * replaces. They let a lost catalog be rebuilt with few reads (format: "Index fragments").
 */
import { HoldfastError } from "../../base/errors.js";
import type { PackEntry, PackKind } from "../pack/format.js";
import { RECORD_TYPES, type BundledChunk, type RecordType } from "../pack/record.js";
import { ByteReader, ByteWriter } from "../tree/bytes.js";
import type { ChunkId } from "../types.js";

/** A pack as the index knows it. */
export interface IndexedPack {
  readonly kind: PackKind;
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly entries: readonly PackEntry[];
}

export interface Fragment {
  readonly packs: readonly IndexedPack[];
  /** SHA-256 of the fragments that this one replaces. */
  readonly supersedes: readonly string[];
}

const VERSION = 1;
const ID_BYTES = 32;
const KIND_CODE = { d: 0x64, m: 0x6d } as const;

export function encodeFragment(fragment: Fragment): Buffer {
  const writer = new ByteWriter();
  writer.byte(VERSION);
  writer.varint(fragment.supersedes.length);
  for (const sha256 of fragment.supersedes) writer.hex(sha256);
  writer.varint(fragment.packs.length);
  for (const pack of fragment.packs) writePack(writer, pack);
  return writer.take();
}

function writePack(writer: ByteWriter, pack: IndexedPack): void {
  writer.byte(KIND_CODE[pack.kind]);
  writer.hex(pack.sha256);
  writer.varint(pack.sizeBytes);
  writer.varint(pack.entries.length);
  for (const entry of pack.entries) {
    writer.byte(RECORD_TYPES[entry.type]);
    writer.hex(entry.id);
    writer.varint(entry.offsetBytes);
    writer.varint(entry.recordBytes);
    writer.varint(entry.plainBytes);
    writer.varint(entry.inner?.length ?? 0);
    for (const chunk of entry.inner ?? []) {
      writer.hex(chunk.id);
      writer.varint(chunk.offsetBytes);
      writer.varint(chunk.lengthBytes);
    }
  }
}

/** Throws RECORD_DAMAGED. */
export function decodeFragment(bytes: Buffer): Fragment {
  const reader = new ByteReader(bytes);
  if (reader.byte() !== VERSION) throw new HoldfastError("RECORD_DAMAGED", "an index fragment has an unknown version");
  const supersedes: string[] = [];
  for (let left = reader.count(ID_BYTES); left > 0; left -= 1) supersedes.push(reader.hex(ID_BYTES));
  const packs: IndexedPack[] = [];
  for (let left = reader.count(ID_BYTES + 3); left > 0; left -= 1) packs.push(readPack(reader));
  reader.end();
  return { packs, supersedes };
}

function readPack(reader: ByteReader): IndexedPack {
  const code = reader.byte();
  const kind = code === KIND_CODE.d ? "d" : code === KIND_CODE.m ? "m" : undefined;
  if (kind === undefined) throw new HoldfastError("RECORD_DAMAGED", "an index fragment names an unknown kind of pack");
  const sha256 = reader.hex(ID_BYTES);
  const sizeBytes = reader.varint();
  const entries: PackEntry[] = [];
  for (let left = reader.count(ID_BYTES + 5); left > 0; left -= 1) entries.push(readEntry(reader));
  return { kind, sha256, sizeBytes, entries };
}

const TYPE_BY_NUMBER = new Map<number, RecordType>(
  Object.entries(RECORD_TYPES).map(([name, number]) => [number, name as RecordType]),
);

function readEntry(reader: ByteReader): PackEntry {
  const type = TYPE_BY_NUMBER.get(reader.byte());
  if (type === undefined) throw new HoldfastError("RECORD_DAMAGED", "an index fragment names an unknown record type");
  const id = reader.hex(ID_BYTES) as ChunkId;
  const place = { offsetBytes: reader.varint(), recordBytes: reader.varint(), plainBytes: reader.varint() };
  const inner: BundledChunk[] = [];
  for (let left = reader.count(ID_BYTES + 2); left > 0; left -= 1) {
    inner.push({
      id: reader.hex(ID_BYTES) as ChunkId,
      offsetBytes: reader.varint(),
      lengthBytes: reader.varint(),
    });
  }
  return inner.length === 0 ? { type, id, ...place } : { type, id, ...place, inner };
}
