/** Reads packs: the trailer with one or two ranged reads, single records by offset, and a scan that survives damage. */
import type { Backend } from "../../storage/backend.js";
import type { PackEntry, PackKind } from "./format.js";
import type { BundledChunk, OpenedRecord, RecordOpener } from "./record.js";
import type { RepositoryKeys } from "../keys.js";
import type { ChunkId } from "../types.js";

/** Bytes with a size and random access: an object of a backend or a local file. */
export interface ByteSource {
  readonly sizeBytes: number;
  /** Exactly these bytes, or fewer at the end. */
  read(offsetBytes: number, lengthBytes: number, signal: AbortSignal): Promise<Buffer>;
}

export declare function objectSource(backend: Backend, key: string, sizeBytes: number): ByteSource;

export interface PackDirectory {
  readonly kind: PackKind;
  readonly entries: readonly PackEntry[];
}

/** The records of a pack out of its trailer. Throws OBJECT_DAMAGED when footer or trailer are not whole. */
export declare function readPackDirectory(
  source: ByteSource,
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<PackDirectory>;

/** One record by its place. Throws RECORD_DAMAGED. */
export declare function readRecord(
  source: ByteSource,
  place: { readonly offsetBytes: number; readonly recordBytes: number },
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<OpenedRecord>;

/** A chunk out of an opened bundle, its id recomputed. Throws RECORD_DAMAGED. */
export declare function chunkOfBundle(keys: RepositoryKeys, bundle: Buffer, chunk: BundledChunk): Buffer;

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
export declare function scanRecords(
  source: ByteSource,
  opener: RecordOpener,
  startBytes: number,
  signal: AbortSignal,
): AsyncIterable<ScanItem>;

/** What opening every record of a pack found. */
export interface PackProof {
  /** False when the file's SHA-256 is not its name. */
  readonly nameMatches: boolean;
  readonly records: number;
  readonly bytes: number;
  /** Ids that the trailer lists and that cannot be opened, bundled chunks included. */
  readonly damaged: readonly ChunkId[];
  /** Why the trailer could not be read, if so; the entries then come from a scan. */
  readonly directoryFault: string | undefined;
  readonly entries: readonly PackEntry[];
}

/** Reads a whole pack and proves its name and each record. */
export declare function provePack(
  source: ByteSource,
  sha256: string,
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<PackProof>;
