/**
 * Reading files below a folder that others can write to: each step is opened without following a link, so that nobody
 * can lead a privileged reader to a file that they may not read themselves.
 */
import { type BigIntStats, closeSync, constants, fstatSync, readSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { type AnchoredFolder, openAnchored } from "../base/anchored.js";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { type BytePath, nameOf, parentPath } from "../base/paths.js";

const READ_BYTES = 256 * 2 ** 10;
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK;

/** Stat of a regular file below `root`; undefined when there is none, or the way to it passes a link. */
export function anchoredStat(root: BytePath, file: BytePath): BigIntStats | undefined {
  const folder = folderOf(root, file);
  try {
    const stat = folder?.lstat(nameOf(file));
    return stat?.isFile() === true ? stat : undefined;
  } finally {
    folder?.close();
  }
}

/** Names in a folder below `root`, bytes as characters; none when it cannot be reached without passing a link. */
export function anchoredNames(root: BytePath, folder: BytePath): readonly string[] {
  const opened = opening(() => openAnchored(root, folder));
  try {
    return opened?.names() ?? [];
  } finally {
    opened?.close();
  }
}

/** The whole of a small file below `root`; undefined when it is missing or larger than `bytesMax`. */
export async function anchoredSmallFile(
  root: BytePath,
  file: BytePath,
  bytesMax: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const stat = anchoredStat(root, file);
  if (stat === undefined || stat.size > BigInt(bytesMax)) return undefined;
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of readAnchored(root, file, signal)) {
    sizeBytes += part.length;
    if (sizeBytes > bytesMax) return undefined; // it grew
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Bytes of a regular file below `root`. Throws NOT_FOUND when it cannot be reached without passing a link. */
export async function* readAnchored(root: BytePath, file: BytePath, signal: AbortSignal): AsyncIterable<Buffer> {
  const folder = folderOf(root, file);
  const fd = opening(() => folder?.openFile(nameOf(file), OPEN_FLAGS));
  folder?.close();
  if (fd === undefined) throw new HoldfastError("NOT_FOUND", "it is not there any more, or behind a link");
  try {
    if (!fstatSync(fd).isFile()) throw new HoldfastError("NOT_FOUND", "it is no regular file");
    for (;;) {
      signal.throwIfAborted();
      const part = Buffer.allocUnsafe(READ_BYTES);
      const length = readSync(fd, part, 0, READ_BYTES, null);
      if (length === 0) return;
      yield part.subarray(0, length);
      await nextTurn();
    }
  } finally {
    closeSync(fd);
  }
}

function folderOf(root: BytePath, file: BytePath): AnchoredFolder | undefined {
  return opening(() => openAnchored(root, parentPath(file)));
}

/** Undefined for what is missing, may not be seen, or lies behind a link. */
function opening<T>(open: () => T): T | undefined {
  try {
    return open();
  } catch (error) {
    if (error instanceof HoldfastError || errnoOf(error) !== undefined) return undefined;
    throw error;
  }
}
