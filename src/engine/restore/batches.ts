/**
 * From files to batches: ordered by where their content begins in the store, and cut so that the files of one record
 * (a bundle of many) come together. So each record is opened once and packs are read from front to back.
 */
import { type ChunkHolder, type ChunkIndex, holderObjectKey } from "../index/chunk-index.js";
import type { ChunkId, Entry } from "../types.js";
import type { OpenFolder } from "./folders.js";
import { FileColumnsWriter } from "./file-columns.js";
import { type FolderHandle, NOT_INSIDE, PLACE_NUMBERS, type PlaceRequest, type PutOptions } from "./protocol.js";

/** A batch is closed at this many files or bytes: some 50 ms of a worker, so that others get their turn. */
const BATCH_FILES_MAX = 256;
const BATCH_BYTES_AIM = 4 * 2 ** 20;

export interface WantedFile {
  readonly entry: Entry;
  readonly name: string;
  readonly folder: OpenFolder;
  readonly fresh: boolean;
  /** Stamp (`stampOf`) of what stands there and may be replaced, ns; nothing, or not looked at: undefined. */
  readonly keptStampNs?: bigint;
}

/** Where one chunk lies. */
interface Place {
  readonly holder: ChunkHolder;
  readonly offsetBytes: number;
  readonly recordBytes: number;
  readonly insideBytes: number;
  readonly lengthBytes: number;
}

export interface LocatedFile<T extends WantedFile = WantedFile> {
  readonly wanted: T;
  readonly places: readonly Place[];
}

/** The best known place of each chunk; undefined when one has none. */
export function locate<T extends WantedFile>(chunks: ChunkIndex, wanted: T): LocatedFile<T> | undefined {
  const places: Place[] = [];
  for (const { id } of wanted.entry.node.chunks ?? []) {
    const place = placeOf(chunks, id);
    if (place === undefined) return undefined;
    places.push(place);
  }
  return { wanted, places };
}

function placeOf(chunks: ChunkIndex, id: ChunkId): Place | undefined {
  for (const location of chunks.locations(id)) {
    const holder = chunks.holder(location.pack);
    if (holder === undefined) continue;
    const { offsetBytes, recordBytes, lengthBytes, innerOffsetBytes } = location;
    return { holder, offsetBytes, recordBytes, lengthBytes, insideBytes: innerOffsetBytes ?? NOT_INSIDE };
  }
  return undefined;
}

/** Cuts located files into batches. */
export function batchesOf<T extends WantedFile>(files: readonly LocatedFile<T>[]): LocatedFile<T>[][] {
  const sorted = [...files].sort((a, b) => byPlace(a.places[0], b.places[0]));
  const batches: LocatedFile<T>[][] = [];
  let batch: LocatedFile<T>[] = [];
  let bytes = 0;
  for (const file of sorted) {
    const sameRecord = isSameRecord(batch.at(-1)?.places[0], file.places[0]);
    const full = batch.length >= BATCH_FILES_MAX || bytes >= BATCH_BYTES_AIM;
    // A bundle's files stay together, up to twice the limit (one chunk can be the content of any number of files).
    if (full && (!sameRecord || batch.length >= 2 * BATCH_FILES_MAX)) {
      batches.push(batch);
      batch = [];
      bytes = 0;
    }
    batch.push(file);
    bytes += file.wanted.entry.node.stat.sizeBytes;
  }
  if (batch.length > 0) batches.push(batch);
  return batches;
}

function byPlace(a: Place | undefined, b: Place | undefined): number {
  if (a === undefined || b === undefined) return Number(a !== undefined) - Number(b !== undefined);
  return a.holder.number - b.holder.number || a.offsetBytes - b.offsetBytes || a.insideBytes - b.insideBytes;
}

function isSameRecord(a: Place | undefined, b: Place | undefined): boolean {
  return a !== undefined && b !== undefined && a.holder === b.holder && a.offsetBytes === b.offsetBytes;
}

/** The batch as the worker gets it. */
export function requestOf(batch: readonly LocatedFile[], storeFolder: string, options: PutOptions): PlaceRequest {
  const holders = new Numbered<ChunkHolder>();
  const folders = new Numbered<OpenFolder>();
  const count = batch.reduce((sum, { places }) => sum + places.length, 0);
  const places = new Float64Array(count * PLACE_NUMBERS);
  const files = new FileColumnsWriter(batch.length);
  let next = 0;
  for (const file of batch) {
    const { entry, name, fresh, folder, keptStampNs = 0n } = file.wanted;
    const chunks = { firstPlace: next, placeCount: file.places.length };
    files.add(entry.node, { folder: folders.numberOf(folder), name, fresh, keptStampNs, ...chunks });
    for (const { holder, offsetBytes, recordBytes, insideBytes, lengthBytes } of file.places) {
      const at = next * PLACE_NUMBERS;
      places[at] = holders.numberOf(holder);
      places[at + 1] = offsetBytes;
      places[at + 2] = recordBytes;
      places[at + 3] = insideBytes;
      places[at + 4] = lengthBytes;
      next += 1;
    }
  }
  const objects = holders.all.map(holderObjectKey);
  return { storeFolder, objects, places, folders: folders.all.map(handleOf), files: files.take(), options };
}

function handleOf({ anchored, root }: OpenFolder): FolderHandle {
  return { fd: anchored.fd, path: anchored.path, root };
}

/** Gives things numbers in the order they are met. */
class Numbered<T> {
  readonly all: T[] = [];
  readonly #numbers = new Map<T, number>();

  numberOf(item: T): number {
    const known = this.#numbers.get(item);
    if (known !== undefined) return known;
    this.#numbers.set(item, this.all.length);
    return this.all.push(item) - 1;
  }
}
