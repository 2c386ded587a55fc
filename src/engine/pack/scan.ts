/**
 * Walking records one after the other, in a pack or a log segment, without trusting any list. Behind damage it looks
 * for the next whole record by its magic bytes. A record counts as whole when its CRC matches and it opens.
 */
import { hasCode } from "../../base/errors.js";
import { readBundle } from "./bundle.js";
import {
  type BundledChunk,
  crcMatches,
  type OpenedRecord,
  parseHeader,
  RECORD_HEADER_BYTES,
  RECORD_MAGIC,
  type RecordHeader,
  type RecordOpener,
} from "./record.js";
import type { ByteSource } from "./source.js";

/** Bytes looked through at once for the next magic. */
const SEARCH_BYTES = 2 ** 20;

/** What a scan meets, in order. `bytes` is the whole sealed record: it can be copied raw. */
export type ScanItem =
  | {
      readonly kind: "record";
      readonly offsetBytes: number;
      readonly bytes: Buffer;
      readonly opened: OpenedRecord;
      readonly inner: readonly BundledChunk[] | undefined;
    }
  | { readonly kind: "damage"; readonly offsetBytes: number; readonly lengthBytes: number };

/** Walks all records from `startBytes`, opening each; after damage it looks for the next whole record. */
export async function* scanRecords(
  source: ByteSource,
  opener: RecordOpener,
  startBytes: number,
  signal: AbortSignal,
): AsyncIterable<ScanItem> {
  let offset = startBytes;
  let damagedFrom: number | undefined;
  while (offset < source.sizeBytes) {
    signal.throwIfAborted();
    const item = await recordAt(source, opener, offset, signal);
    if (item === undefined) {
      damagedFrom ??= offset;
      offset = await nextMagic(source, offset + 1, signal);
      continue;
    }
    if (damagedFrom !== undefined) yield damage(damagedFrom, offset);
    damagedFrom = undefined;
    yield item;
    offset += item.bytes.length;
  }
  if (damagedFrom !== undefined) yield damage(damagedFrom, source.sizeBytes);
}

function damage(fromBytes: number, toBytes: number): ScanItem {
  return { kind: "damage", offsetBytes: fromBytes, lengthBytes: toBytes - fromBytes };
}

async function recordAt(
  source: ByteSource,
  opener: RecordOpener,
  offsetBytes: number,
  signal: AbortSignal,
): Promise<(ScanItem & { kind: "record" }) | undefined> {
  const header = headerOf(await source.read(offsetBytes, RECORD_HEADER_BYTES, signal));
  if (header === undefined || offsetBytes + RECORD_HEADER_BYTES + header.storedBytes > source.sizeBytes)
    return undefined;
  const bytes = await source.read(offsetBytes, RECORD_HEADER_BYTES + header.storedBytes, signal);
  if (!crcMatches(bytes)) return undefined;
  return orDamaged(() => {
    const opened = opener.open(bytes);
    const inner = header.type === "bundle" ? readBundle(opened.plain) : undefined;
    return { kind: "record", offsetBytes, bytes, opened, inner };
  });
}

function headerOf(bytes: Buffer): RecordHeader | undefined {
  return orDamaged(() => parseHeader(bytes));
}

/** The result, or undefined for bytes that are no whole record; other failures (no zstd here) are thrown. */
export function orDamaged<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (hasCode(error, "RECORD_DAMAGED")) return undefined;
    throw error;
  }
}

async function nextMagic(source: ByteSource, fromBytes: number, signal: AbortSignal): Promise<number> {
  for (let offset = fromBytes; offset < source.sizeBytes; offset += SEARCH_BYTES) {
    signal.throwIfAborted();
    const part = await source.read(offset, SEARCH_BYTES + RECORD_MAGIC.length - 1, signal);
    const found = part.indexOf(RECORD_MAGIC);
    if (found >= 0) return offset + found;
  }
  return source.sizeBytes;
}
