/** Candidates that are files on disk which someone else wrote: opened without following links, never a FIFO or device. */
import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { HoldfastError, errnoOf } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import { reached } from "../base/reach.js";
import type { Fidelity, LostFile } from "./strategy.js";

const READ_BYTES = 256 * 2 ** 10;

/** Stat of a regular file; undefined when there is none, or none that we may see. */
export async function regularFileAt(path: BytePath): Promise<BigIntStats | undefined> {
  try {
    using place = reached(path);
    const stat = await lstat(place.bytes, { bigint: true });
    return stat.isFile() ? stat : undefined;
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES", "ELOOP", "ENAMETOOLONG"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}

/** Bytes of a regular file. Throws NOT_FOUND when it is a regular file no more. */
export async function* readRegularFile(path: BytePath, signal: AbortSignal): AsyncIterable<Buffer> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await openReached(path, flags);
  try {
    if (!(await handle.stat()).isFile()) throw new HoldfastError("NOT_FOUND", "it is no regular file any more");
    for (;;) {
      signal.throwIfAborted();
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, null);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await handle.close();
  }
}

async function openReached(path: BytePath, flags: number): Promise<FileHandle> {
  using place = reached(path);
  return await open(place.bytes, flags);
}

/** The whole of a small file; undefined when it is missing, no regular file, or larger than `bytesMax`. */
export async function readSmallFile(
  path: BytePath,
  bytesMax: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const stat = await regularFileAt(path);
  if (stat === undefined || stat.size > BigInt(bytesMax)) return undefined;
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of readRegularFile(path, signal)) {
    sizeBytes += part.length;
    if (sizeBytes > bytesMax) return undefined; // it grew
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Newer or older than the last good content, by time; content of unknown relation counts as newer when nothing is known. */
export function fidelityByTime(lost: LostFile, modifiedAtMs: number): Fidelity {
  if (lost.lastGood === undefined) return "newer";
  return modifiedAtMs >= Number(lost.lastGood.stat.mtimeNs / 1_000_000n) ? "newer" : "older";
}

/** Milliseconds of a time in ns. */
export function msOfNs(timeNs: bigint): number {
  return Number(timeNs / 1_000_000n);
}
