/**
 * From files to batches: ordered by where their content begins in the store, and cut so that the files of one record
 * (a bundle of many) come together. So each record is opened once and packs are read from front to back.
 */
import { type ChunkIndex, holderObjectKey } from "../index/chunk-index.js";
import type { ChunkId, Entry } from "../types.js";
import type { OpenFolder } from "./folders.js";
import {
  type FileOrder,
  type FolderHandle,
  NOT_INSIDE,
  PLACE_NUMBERS,
  type PlaceRequest,
  type PutOptions,
} from "./protocol.js";

/** A batch is closed at this many files or bytes: some 50 ms of a worker, so that others get their turn. */
const BATCH_FILES_MAX = 256;
const BATCH_BYTES_AIM = 4 * 2 ** 20;

export interface WantedFile {
  readonly entry: Entry;
  readonly name: string;
  readonly folder: OpenFolder;
  readonly fresh: boolean;
}

/** Where one chunk lies. */
interface Place {
  readonly object: string;
  readonly pack: number;
  readonly offsetBytes: number;
  readonly recordBytes: number;
  readonly insideBytes: number;
  readonly lengthBytes: number;
}

export interface LocatedFile {
  readonly wanted: WantedFile;
  readonly places: readonly Place[];
}

/** The best known place of each chunk; undefined when one has none. */
export function locate(chunks: ChunkIndex, wanted: WantedFile): LocatedFile | undefined {
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
    const { pack, offsetBytes, recordBytes, lengthBytes, innerOffsetBytes } = location;
    const object = holderObjectKey(holder);
    return { object, pack, offsetBytes, recordBytes, lengthBytes, insideBytes: innerOffsetBytes ?? NOT_INSIDE };
  }
  return undefined;
}

/** Cuts located files into batches. */
export function batchesOf(files: readonly LocatedFile[]): LocatedFile[][] {
  const sorted = [...files].sort((a, b) => byPlace(a.places[0], b.places[0]));
  const batches: LocatedFile[][] = [];
  let batch: LocatedFile[] = [];
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
  return a.pack - b.pack || a.offsetBytes - b.offsetBytes || a.insideBytes - b.insideBytes;
}

function isSameRecord(a: Place | undefined, b: Place | undefined): boolean {
  return a !== undefined && b !== undefined && a.pack === b.pack && a.offsetBytes === b.offsetBytes;
}

/** The batch as the worker gets it. */
export function requestOf(batch: readonly LocatedFile[], storeFolder: string, options: PutOptions): PlaceRequest {
  const objects = new Numbered<string>();
  const folders = new Numbered<OpenFolder>();
  const count = batch.reduce((sum, { places }) => sum + places.length, 0);
  const places = new Float64Array(count * PLACE_NUMBERS);
  const files: FileOrder[] = [];
  let next = 0;
  for (const file of batch) {
    files.push(orderOf(file, folders.numberOf(file.wanted.folder), next));
    for (const { object, offsetBytes, recordBytes, insideBytes, lengthBytes } of file.places) {
      const numbers = [objects.numberOf(object), offsetBytes, recordBytes, insideBytes, lengthBytes];
      places.set(numbers, next * PLACE_NUMBERS);
      next += 1;
    }
  }
  return { storeFolder, objects: objects.all, places, folders: folders.all.map(handleOf), files, options };
}

function orderOf({ wanted, places }: LocatedFile, folder: number, firstPlace: number): FileOrder {
  const { stat, mode, uid, gid, linkCount, sha256, xattrs } = wanted.entry.node;
  const { name, fresh } = wanted;
  const order = { folder, name, fresh, sizeBytes: stat.sizeBytes, mtimeNs: stat.mtimeNs, mode, uid, gid, linkCount };
  const content = { sha256: sha256 ?? "", firstPlace, placeCount: places.length };
  return { ...order, ...content, ...(xattrs === undefined ? {} : { xattrs }) };
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
