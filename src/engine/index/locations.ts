/** Where a chunk lies: which pack or log segment, which record, and where inside a bundle. Values of the chunk bucket. */
import { ByteReader, ByteWriter } from "../tree/bytes.js";

export interface ChunkLocation {
  /** Number of the pack in the catalog. */
  readonly pack: number;
  readonly offsetBytes: number;
  /** Whole record, header included. */
  readonly recordBytes: number;
  /** Length of the chunk itself. */
  readonly lengthBytes: number;
  /** Where the chunk begins in the opened bundle; undefined when it is a record of its own. */
  readonly innerOffsetBytes: number | undefined;
  /** A read from here failed or proved wrong. */
  readonly suspect: boolean;
}

const FLAG = { suspect: 1, bundled: 2 } as const;
/** A chunk is stored again only when a copy is suspect or two jobs met; more copies than this are not remembered. */
const LOCATIONS_MAX = 4;

export function encodeLocations(locations: readonly ChunkLocation[]): Buffer {
  const writer = new ByteWriter();
  for (const location of locations.slice(0, LOCATIONS_MAX)) {
    const bundled = location.innerOffsetBytes !== undefined;
    writer.byte((location.suspect ? FLAG.suspect : 0) | (bundled ? FLAG.bundled : 0));
    writer.varint(location.pack);
    writer.varint(location.offsetBytes);
    writer.varint(location.recordBytes);
    writer.varint(location.lengthBytes);
    if (location.innerOffsetBytes !== undefined) writer.varint(location.innerOffsetBytes);
  }
  return writer.take();
}

/** Throws RECORD_DAMAGED. */
export function decodeLocations(value: Buffer): ChunkLocation[] {
  const reader = new ByteReader(value);
  const locations: ChunkLocation[] = [];
  while (reader.remaining > 0) {
    const flags = reader.byte();
    locations.push({
      pack: reader.varint(),
      offsetBytes: reader.varint(),
      recordBytes: reader.varint(),
      lengthBytes: reader.varint(),
      innerOffsetBytes: (flags & FLAG.bundled) === 0 ? undefined : reader.varint(),
      suspect: (flags & FLAG.suspect) !== 0,
    });
  }
  return locations;
}

/** Length of the chunk, out of its encoded places. */
export function firstLengthBytes(value: Buffer): number {
  const reader = new ByteReader(value);
  reader.byte();
  for (let skipped = 0; skipped < 3; skipped += 1) reader.varint();
  return reader.varint();
}

/** True when one of the encoded places is not suspect; nearly always the first tells. */
export function hasGoodPlace(value: Buffer): boolean {
  if (((value[0] ?? FLAG.suspect) & FLAG.suspect) === 0) return true;
  return decodeLocations(value).some((location) => !location.suspect);
}
