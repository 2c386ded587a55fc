/** The shape of a file: its size, how many NUL bytes it ends with, and whether others stand before them. */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import type { BytePath } from "../../base/paths.js";
import { reach } from "../../base/reach.js";
import { nulsAtEnd } from "../judge/torn.js";
import type { Shape } from "./jobs.js";

/** NULs at the end are counted back this far, bytes. */
const NUL_TAIL_BYTES_MAX = 64 * 2 ** 20;
const WINDOW_BYTES = 65_536;
/** Never follows a link, never waits for a FIFO's writer. */
export const SAFE_READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** The shape of an open file. Reads one window unless the file ends with NULs. */
export function shapeOf(fd: number, sizeBytes: number): Shape {
  const window = Buffer.allocUnsafe(Math.min(WINDOW_BYTES, sizeBytes));
  let nulTailBytes = 0;
  let hasOtherNuls = false;
  for (let end = sizeBytes; end > 0 && nulTailBytes < NUL_TAIL_BYTES_MAX;) {
    const start = Math.max(0, end - window.length);
    const count = readSync(fd, window, 0, end - start, start);
    const zeros = nulsAtEnd(window, count);
    nulTailBytes += zeros;
    hasOtherNuls = hasNulBefore(window, count - zeros);
    if (zeros < end - start) break;
    end = start;
  }
  return { sizeBytes, nulTailBytes, hasOtherNuls };
}

/** The shape by one short read in this thread; undefined when that is not enough (a long tail) or not possible. */
export function quickShape(path: BytePath): Shape | undefined {
  let fd: number | undefined;
  try {
    fd = reach(path, (place) => openSync(place, SAFE_READ_FLAGS));
    const stats = fstatSync(fd);
    if (!stats.isFile()) return undefined;
    const window = Buffer.allocUnsafe(Math.min(WINDOW_BYTES, stats.size));
    const count = readSync(fd, window, 0, window.length, stats.size - window.length);
    const nulTailBytes = nulsAtEnd(window, count);
    if (nulTailBytes === WINDOW_BYTES) return undefined;
    return { sizeBytes: stats.size, nulTailBytes, hasOtherNuls: hasNulBefore(window, count - nulTailBytes) };
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function hasNulBefore(window: Buffer, end: number): boolean {
  const first = window.indexOf(0);
  return first !== -1 && first < end;
}
