/** Reads packs: the trailer with one or two ranged reads, and single records by offset. */
import { HoldfastError } from "../../base/errors.js";
import type { RepositoryKeys } from "../keys.js";
import {
  damagedPack,
  PACK_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  type PackEntry,
  type PackFooter,
  type PackKind,
  parsePackFooter,
  parsePackHeader,
  parseTrailer,
} from "./format.js";
import { type BundledChunk, chunkIdOf, type OpenedRecord, RECORD_BYTES_MAX, type RecordOpener } from "./record.js";
import { orDamaged, scanRecords } from "./scan.js";
import type { ByteSource } from "./source.js";

export { type ScanItem, scanRecords } from "./scan.js";
export { type ByteSource, objectSource } from "./source.js";

/** Read at the end of a pack at once: holds footer and trailer of nearly every pack. */
const TAIL_BYTES = 64 * 2 ** 10;

export interface PackDirectory {
  readonly kind: PackKind;
  readonly entries: readonly PackEntry[];
}

/** The records of a pack out of its trailer. Throws OBJECT_DAMAGED when footer or trailer are not whole. */
export async function readPackDirectory(
  source: ByteSource,
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<PackDirectory> {
  const kind = parsePackHeader(await source.read(0, PACK_HEADER_BYTES, signal), opener.keys.repositoryId);
  const tailFrom = Math.max(0, source.sizeBytes - TAIL_BYTES);
  const tail = await source.read(tailFrom, TAIL_BYTES, signal);
  const footer = parsePackFooter(tail.subarray(-PACK_FOOTER_BYTES));
  checkFooter(footer, source.sizeBytes);
  const within = footer.trailerOffsetBytes - tailFrom;
  const bytes =
    within >= 0
      ? tail.subarray(within, within + footer.trailerBytes)
      : await source.read(footer.trailerOffsetBytes, footer.trailerBytes, signal);
  return { kind, entries: openTrailer(bytes, opener, footer) };
}

function checkFooter(footer: PackFooter, sizeBytes: number): void {
  const end = footer.trailerOffsetBytes + footer.trailerBytes + PACK_FOOTER_BYTES;
  if (end !== sizeBytes || footer.trailerBytes > RECORD_BYTES_MAX) throw damagedPack("its footer points astray");
}

function openTrailer(bytes: Buffer, opener: RecordOpener, footer: PackFooter): PackEntry[] {
  const opened = orDamaged(() => opener.open(bytes));
  if (opened?.header.type !== "trailer") throw damagedPack("its trailer does not open");
  const entries = parseTrailer(opened.plain);
  const outside = entries.some((entry) => entry.offsetBytes + entry.recordBytes > footer.trailerOffsetBytes);
  if (outside) throw damagedPack("its trailer lists records outside of it");
  return entries;
}

/** One record by its place. Throws RECORD_DAMAGED. */
export async function readRecord(
  source: ByteSource,
  place: { readonly offsetBytes: number; readonly recordBytes: number },
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<OpenedRecord> {
  return opener.open(await source.read(place.offsetBytes, place.recordBytes, signal));
}

/** A chunk out of an opened bundle, its id recomputed. Throws RECORD_DAMAGED. */
export function chunkOfBundle(keys: RepositoryKeys, bundle: Buffer, chunk: BundledChunk): Buffer {
  const plain = bundle.subarray(chunk.offsetBytes, chunk.offsetBytes + chunk.lengthBytes);
  if (plain.length !== chunk.lengthBytes || chunkIdOf(keys, plain) !== chunk.id) {
    throw new HoldfastError("RECORD_DAMAGED", "a chunk in a bundle is not what its id says");
  }
  return plain;
}

/** The entries of a pack whose trailer is lost, by a scan: all its whole records. */
export async function scanEntries(source: ByteSource, opener: RecordOpener, signal: AbortSignal): Promise<PackEntry[]> {
  const entries: PackEntry[] = [];
  for await (const item of scanRecords(source, opener, PACK_HEADER_BYTES, signal)) {
    if (item.kind === "damage" || item.opened.header.type === "trailer") continue;
    entries.push({
      type: item.opened.header.type,
      id: item.opened.header.id,
      offsetBytes: item.offsetBytes,
      recordBytes: item.bytes.length,
      plainBytes: item.opened.plain.length,
      ...(item.inner === undefined ? {} : { inner: item.inner }),
    });
  }
  return entries;
}
