/** Layout of a pack: header, records, trailer (the list of its records, sealed as one), footer. */
import type { BundledChunk, RecordType } from "./record.js";
import type { ChunkId } from "../types.js";

/** `d`: chunks and bundles; `m`: tree nodes and other metadata. */
export type PackKind = "d" | "m";

export const PACK_HEADER_BYTES = 48;
export const PACK_FOOTER_BYTES = 24;
/** A pack is closed when it reaches this size, bytes. */
export const PACK_BYTES_AIM = 32 * 2 ** 20;

/** One record of a pack. */
export interface PackEntry {
  readonly type: RecordType;
  readonly id: ChunkId;
  /** Where the record begins in the pack. */
  readonly offsetBytes: number;
  /** Whole record, header included. */
  readonly recordBytes: number;
  readonly plainBytes: number;
  readonly inner?: readonly BundledChunk[];
}

/** A closed pack, synced, still in the staging folder; `backend.putFile(packKey(kind, sha256), stagingPath)` comes next. */
export interface FinishedPack {
  readonly kind: PackKind;
  readonly stagingPath: string;
  /** Of the whole file, hex: the pack's name. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly entries: readonly PackEntry[];
}

/** `packs/d/ab/abcd…` */
export declare function packKey(kind: PackKind, sha256: string): string;
