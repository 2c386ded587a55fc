/**
 * inotify(7) through the optional package koffi. A failed call throws an Error whose `code` is the system's error name.
 */
import { createRequire } from "node:module";
import { constants } from "node:os";

export interface InotifyCalls {
  /** Opens a queue; its events are read from the descriptor, and a read waits until there are some. */
  openQueue(): number;
  /** Puts events of a folder into the queue; gives the watch's number, the same as before for the same folder. */
  watch(queue: number, mask: number, folder: Uint8Array): number;
  /** Ends a watch; EINVAL when it ended by itself. */
  unwatch(queue: number, watch: number): void;
}

interface Koffi {
  load(library: string | null): { func(signature: string): (...args: readonly unknown[]) => unknown };
  errno(): number;
}

/** Of the Linux ABI; the same on x64 and arm64. */
const IN_CLOEXEC = 0o2000000;

/** The calls, or undefined when koffi is not installed or does not load here. */
export function inotifyCalls(): InotifyCalls | undefined {
  if (process.platform !== "linux" || process.env["HOLDFAST_NO_NATIVE"] === "1") return undefined;
  try {
    const koffi: unknown = createRequire(import.meta.url)("koffi");
    return isKoffi(koffi) ? bindCalls(koffi) : undefined;
  } catch {
    return undefined;
  }
}

function bindCalls(koffi: Koffi): InotifyCalls {
  const library = koffi.load(null);
  const init = library.func("int inotify_init1(int flags)");
  const add = library.func("int inotify_add_watch(int queue, const void *path, uint32_t mask)");
  const remove = library.func("int inotify_rm_watch(int queue, int watch)");
  const checked = (result: unknown, call: string): number => {
    const value = Number(result);
    if (value < 0) throw systemError(call, koffi.errno());
    return value;
  };
  return {
    openQueue: () => checked(init(IN_CLOEXEC), "inotify_init1"),
    watch: (queue, mask, folder) =>
      checked(add(queue, Buffer.concat([folder, Buffer.alloc(1)]), mask), "inotify_add_watch"),
    unwatch: (queue, watch) => {
      checked(remove(queue, watch), "inotify_rm_watch");
    },
  };
}

function isKoffi(value: unknown): value is Koffi {
  return typeof value === "object" && value !== null && "load" in value && "errno" in value;
}

function systemError(call: string, errno: number): Error {
  const name = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `E${String(errno)}`;
  return Object.assign(new Error(`${name}: ${call} failed`), { code: name, syscall: call });
}
