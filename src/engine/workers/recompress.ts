/**
 * One pack written anew at another level of compression: every record is opened, its chunks are compared with their
 * ids, and it is sealed again; one that does not get smaller is copied as it is.
 */
import { HoldfastError } from "../../base/errors.js";
import type { FileIo } from "../../storage/file-io.js";
import type { Compression } from "../codec/codec.js";
import type { RepositoryKeys } from "../keys.js";
import type { FinishedPack, PackEntry } from "../pack/format.js";
import { chunkOfBundle, readPackDirectory } from "../pack/reader.js";
import { type RecordOpener, RecordSealer, type SealedRecord } from "../pack/record.js";
import type { ByteSource } from "../pack/source.js";
import { PackWriter } from "../pack/writer.js";

export interface RecompressRequest {
  readonly key: string;
  readonly kind: "d" | "m";
  readonly compression: Compression;
  /** The new pack must not be longer than this, bytes; else there is none. */
  readonly bytesMax: number;
}

export interface RecompressTools {
  readonly keys: RepositoryKeys;
  readonly opener: RecordOpener;
  readonly stagingFolder: string;
  readonly io: FileIo;
  /** Throws when the work is to be broken off. */
  readonly checkCancelled: () => void;
}

/** The new pack, closed and synced; undefined when it is not worth it. Throws RECORD_DAMAGED, OBJECT_DAMAGED. */
export async function recompressPack(
  source: ByteSource,
  { kind, compression, bytesMax }: RecompressRequest,
  { keys, opener, stagingFolder, io, checkCancelled }: RecompressTools,
): Promise<FinishedPack | undefined> {
  const { entries } = await readPackDirectory(source, opener, NEVER);
  const sealer = new RecordSealer(keys);
  await using writer = new PackWriter({ stagingFolder, kind, keys, io });
  for (const entry of entries) {
    checkCancelled();
    const bytes = Buffer.from(await source.read(entry.offsetBytes, entry.recordBytes, NEVER));
    const { header, plain } = opener.open(bytes);
    if (header.id !== entry.id || header.type !== entry.type) {
      throw new HoldfastError("RECORD_DAMAGED", "a record is not the one that its pack lists");
    }
    for (const chunk of entry.inner ?? []) chunkOfBundle(keys, plain, chunk); // throws when it is not what its id says
    await writer.add(smaller(entry, bytes, sealer.seal(entry.type, plain, compression, entry.id)));
    if (writer.sizeBytes > bytesMax) return undefined;
  }
  if (writer.sizeBytes > bytesMax) return undefined;
  return await writer.finish();
}

function smaller(entry: PackEntry, bytes: Buffer, sealed: SealedRecord): SealedRecord {
  const inner = entry.inner === undefined ? {} : { inner: entry.inner };
  const { type, id, plainBytes } = entry;
  return sealed.bytes.length < bytes.length ? { ...sealed, ...inner } : { type, id, plainBytes, bytes, ...inner };
}

const NEVER = new AbortController().signal;
