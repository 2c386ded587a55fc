/**
 * Paths longer than a system call takes. Linux refuses one of more than 4,095 bytes, though folders can be nested deeper.
 * Such a place is reached in steps: a folder on the way is opened, and what follows is named below its descriptor
 * (`/proc/self/fd/N/rest`). Whoever works with one path at a time need not care how long it is.
 */
import { closeSync, constants, openSync } from "node:fs";
import { type BytePath, pathBytes } from "./paths.js";

/** The longest path that a system call takes, bytes. */
export const PATH_BYTES_MAX = 4095;
/** Of one step, bytes: with `/proc/self/fd/N/` before it, it has to fit. */
const STEP_BYTES_MAX = 4000;
/** Opens a folder for nothing but to go on from it, as the kernel does on the way; Node has no constant for it. */
const O_PATH = 0o10000000;
const STEP_FLAGS = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** A place by which system calls reach a path, as long as it is not disposed. */
export interface Reached extends Disposable {
  readonly bytes: Buffer;
}

/** The path's place, for work that waits. Throws the system's errors of the way there, such as ENOENT and EACCES. */
export function reached(path: BytePath): Reached {
  const all = pathBytes(path);
  if (all.length <= PATH_BYTES_MAX) return { bytes: all, [Symbol.dispose]: () => undefined };
  let fd: number | undefined;
  const close = (): void => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
  };
  try {
    let from = 0;
    while (all.length - from > STEP_BYTES_MAX) {
      const cut = all.lastIndexOf("/", from + STEP_BYTES_MAX);
      if (cut <= from) break; // no name is that long: the system will say so
      const next = openSync(below(fd, all.subarray(from, cut)), STEP_FLAGS);
      close();
      fd = next;
      from = cut + 1;
    }
    return { bytes: below(fd, all.subarray(from)), [Symbol.dispose]: close };
  } catch (error) {
    close();
    throw error;
  }
}

/** What `use` gives for the path's place, which holds until it returns; throws as `reached` does. */
export function reach<T>(path: BytePath, use: (place: Buffer) => T): T {
  if (path.length <= PATH_BYTES_MAX) return use(pathBytes(path));
  using place = reached(path);
  return use(place.bytes);
}

function below(fd: number | undefined, rest: Buffer): Buffer {
  return fd === undefined ? rest : Buffer.concat([Buffer.from(`/proc/self/fd/${String(fd)}/`), rest]);
}
