/**
 * Proving that files can be had: every byte of their content is read out of the store, opened, and its digest compared
 * with the one that was kept. Reading and hashing is done by the worker threads, in the order of the packs; what fails
 * there is read once more through every other place of its chunks before it is called damaged.
 */
import { mapLimited } from "../base/concurrency.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import { localFolderOf } from "../storage/open.js";
import type { RepositoryCore } from "./core.js";
import { holderObjectKey } from "./index/chunk-index.js";
import type { Repository } from "./repository.js";
import { NOT_INSIDE, PLACE_NUMBERS } from "./restore/protocol.js";
import type { Entry, FileNode } from "./types.js";
import type { DigestRequest } from "./workers/digest-batch.js";

/** Files that are put into the order of the store at a time. */
const WINDOW_FILES = 4_096;
/** A batch is closed at this many files or bytes; a larger file is one of its own. */
const BATCH_FILES_MAX = 256;
const BATCH_BYTES_AIM = 16 * 2 ** 20;

export interface ContentProof {
  /** Entries looked at, folders and links too. */
  readonly entries: number;
  /** Bytes of content that were proved. */
  readonly bytes: number;
}

export interface ProofListener {
  /** The content cannot be had as it was stored. */
  damaged(entry: Entry, message: string): void;
  progress(done: ContentProof): void;
}

/** Proves the content of all entries. Damage is told, never thrown. Throws INTERRUPTED. */
export async function proveContent(
  { core }: Pick<Repository, "core">,
  entries: AsyncIterable<Entry>,
  listener: ProofListener,
  signal: AbortSignal,
): Promise<ContentProof> {
  const done = { entries: 0, bytes: 0 };
  const proveWindow = async (window: readonly Located[]): Promise<void> => {
    await mapLimited(batchesOf(window), core.parts.pool.workers, signal, async (batch, inner) => {
      for (const { entry } of await doubtful(core, batch, inner)) {
        const problem = await problemOf(core, entry.node, inner);
        if (problem !== undefined) listener.damaged(entry, problem);
      }
      done.entries += batch.length;
      done.bytes += batch.reduce((sum, { entry }) => sum + entry.node.stat.sizeBytes, 0);
      listener.progress({ ...done });
    });
  };
  let window: Located[] = [];
  for await (const entry of entries) {
    signal.throwIfAborted();
    if (entry.node.kind !== "file") done.entries += 1;
    else window.push(located(core, entry));
    if (window.length < WINDOW_FILES) continue;
    await proveWindow(window);
    window = [];
  }
  await proveWindow(window);
  return done;
}

interface Place {
  readonly pack: number;
  readonly key: string;
  readonly numbers: readonly number[];
}

interface Located {
  readonly entry: Entry;
  /** A place of each chunk; undefined when one has none. */
  readonly places: readonly Place[] | undefined;
}

function located({ parts }: RepositoryCore, entry: Entry): Located {
  const { chunks } = parts.catalog;
  const places: Place[] = [];
  for (const { id } of entry.node.chunks ?? []) {
    const location = chunks.locations(id).find(({ suspect }) => !suspect);
    const holder = location === undefined ? undefined : chunks.holder(location.pack);
    if (location === undefined || holder === undefined) return { entry, places: undefined };
    const { pack, offsetBytes, recordBytes, lengthBytes, innerOffsetBytes } = location;
    const numbers = [offsetBytes, recordBytes, innerOffsetBytes ?? NOT_INSIDE, lengthBytes];
    places.push({ pack, key: holderObjectKey(holder), numbers });
  }
  return { entry, places };
}

function batchesOf(window: readonly Located[]): Located[][] {
  const place = ({ places }: Located): readonly [number, number] => [
    places?.[0]?.pack ?? 0,
    places?.[0]?.numbers[0] ?? 0,
  ];
  const sorted = [...window].sort((a, b) => place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1]);
  const batches: Located[][] = [];
  let batch: Located[] = [];
  let bytes = 0;
  for (const file of sorted) {
    if (batch.length >= BATCH_FILES_MAX || bytes >= BATCH_BYTES_AIM) {
      batches.push(batch);
      [batch, bytes] = [[], 0];
    }
    batch.push(file);
    bytes += file.entry.node.stat.sizeBytes;
  }
  return batch.length === 0 ? batches : [...batches, batch];
}

/** Files of the batch that a worker could not prove. */
async function doubtful(
  core: RepositoryCore,
  batch: readonly Located[],
  signal: AbortSignal,
): Promise<readonly Located[]> {
  const storeFolder = localFolderOf(core.parts.backend.url);
  if (storeFolder === undefined) return batch; // only a local store is read by the workers
  const ready = batch.filter(({ places }) => places !== undefined);
  try {
    const failed = await core.parts.pool.digest(requestOf(storeFolder, ready), signal);
    return [...batch.filter(({ places }) => places === undefined), ...failed.flatMap((index) => ready[index] ?? [])];
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof HoldfastError) return batch;
    throw error;
  }
}

function requestOf(storeFolder: string, files: readonly Located[]): DigestRequest {
  const objects = new Map<string, number>();
  const numbers: number[] = [];
  const wanted = files.map(({ entry, places = [] }) => {
    const firstPlace = numbers.length / PLACE_NUMBERS;
    for (const { key, numbers: place } of places) {
      const object = objects.get(key) ?? objects.size;
      objects.set(key, object);
      numbers.push(object, ...place);
    }
    return { firstPlace, placeCount: places.length, sha256: entry.node.sha256 };
  });
  return { storeFolder, objects: [...objects.keys()], places: Float64Array.from(numbers), files: wanted };
}

/** Reads the file the careful way, from any place that has it whole; undefined: it is whole. */
async function problemOf({ parts }: RepositoryCore, node: FileNode, signal: AbortSignal): Promise<string | undefined> {
  try {
    for await (const _part of parts.content.content(node, signal)) signal.throwIfAborted();
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    return messageOf(error);
  }
}
