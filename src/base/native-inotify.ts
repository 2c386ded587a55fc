/**
 * inotify(7) through the optional package koffi. A failed call throws an Error whose `code` is the system's error name.
 */
import { bindNative, systemCall } from "./koffi.js";

export interface InotifyCalls {
  /** Opens a queue; its events are read from the descriptor, and a read waits until there are some. */
  openQueue(): number;
  /** Puts events of a folder into the queue; gives the watch's number, the same as before for the same folder. */
  watch(queue: number, mask: number, folder: Uint8Array): number;
  /** Ends a watch; EINVAL when it ended by itself. */
  unwatch(queue: number, watch: number): void;
}

/** Of the Linux ABI; the same on x64 and arm64. */
const IN_CLOEXEC = 0o2000000;
const ADD_WATCH = "int inotify_add_watch(int queue, const void *path, uint32_t mask)";

/** The calls, or undefined when koffi is not installed or does not load here. */
export function inotifyCalls(): InotifyCalls | undefined {
  return bindNative((koffi) => {
    const init = systemCall(koffi, "inotify_init1", "int inotify_init1(int flags)");
    const add = systemCall(koffi, "inotify_add_watch", ADD_WATCH);
    const remove = systemCall(koffi, "inotify_rm_watch", "int inotify_rm_watch(int queue, int watch)");
    return {
      openQueue: () => init(IN_CLOEXEC),
      watch: (queue, mask, folder) => add(queue, Buffer.concat([folder, Buffer.alloc(1)]), mask),
      unwatch: (queue, watch) => {
        remove(queue, watch);
      },
    };
  });
}
