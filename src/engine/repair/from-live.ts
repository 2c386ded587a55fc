/**
 * Lost chunks out of live files: a file that has not changed, or not at that place, still has the bytes. The id proves
 * them, so nothing else of the file needs to be as it was.
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { errnoOf } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import { reached } from "../../base/reach.js";
import type { RepositoryCore } from "../core.js";
import { chunkIdOf, RecordSealer } from "../pack/record.js";
import type { ChunkId } from "../types.js";
import type { FoundRecords } from "./found-records.js";
import type { ChunkUse, LostChunks } from "./lost.js";

interface Wanted extends ChunkUse {
  readonly id: ChunkId;
}

/** Reads what live files have of the lost chunks. A file that cannot be read has none. */
export async function findInLiveFiles(
  core: RepositoryCore,
  lost: LostChunks,
  found: FoundRecords,
  signal: AbortSignal,
): Promise<void> {
  const sealer = new RecordSealer(core.parts.keys);
  for (const [path, wanted] of byPath(lost)) {
    signal.throwIfAborted();
    const file = await openFile(path);
    if (file === undefined) continue;
    try {
      for (const chunk of wanted) {
        if (!lost.has(chunk.id)) continue;
        const bytes = await readAt(file, chunk);
        if (bytes === undefined || chunkIdOf(core.parts.keys, bytes) !== chunk.id) continue;
        await found.add(sealer.seal("chunk", bytes, "lz4", chunk.id));
      }
    } finally {
      await file.close();
    }
  }
}

function byPath(lost: LostChunks): Map<BytePath, Wanted[]> {
  const paths = new Map<BytePath, Wanted[]>();
  for (const [id, uses] of lost) {
    for (const use of uses) {
      const wanted = paths.get(use.path) ?? [];
      wanted.push({ ...use, id });
      paths.set(use.path, wanted);
    }
  }
  return paths;
}

async function openFile(path: BytePath): Promise<FileHandle | undefined> {
  try {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    using place = reached(path);
    const file = await open(place.bytes, flags);
    if ((await file.stat()).isFile()) return file;
    await file.close();
    return undefined;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}

/** The bytes of a place, or undefined when the file is shorter now or cannot be read there. */
async function readAt(file: FileHandle, { offsetBytes, lengthBytes }: ChunkUse): Promise<Buffer | undefined> {
  const bytes = Buffer.allocUnsafe(lengthBytes);
  try {
    let filled = 0;
    while (filled < lengthBytes) {
      const { bytesRead } = await file.read(bytes, filled, lengthBytes - filled, offsetBytes + filled);
      if (bytesRead === 0) return undefined;
      filled += bytesRead;
    }
    return bytes;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
