/**
 * What programs that are started do not inherit. Node opens its descriptors so that they end at exec; LevelDB does not:
 * its log, its lock and its manifest, open for writing, would go to every hook and validator, also to those that run as
 * another user. They are marked right before a program is started. What LevelDB opens in the moment between goes along
 * still; that moment is shorter than a millisecond. Through the optional package koffi; without it all of them go along.
 */
import { readdirSync } from "node:fs";
import { bindNative, type NativeFunction } from "./koffi.js";

const FCNTL = "int fcntl(int fd, int command, int argument)";
const F_SETFD = 2;
const FD_CLOEXEC = 1;
/** The streams 0, 1 and 2: a program gets them, or others in their place. */
const FIRST_OWN_FD = 3;

let loaded: { readonly fcntl: NativeFunction | undefined } | undefined;

/** Marks all open descriptors of this process so that a program started now does not get them, but those named. */
export function keepDescriptorsFromChildren(inherited: readonly number[] = []): void {
  loaded ??= { fcntl: bindNative((koffi) => koffi.load(null).func(FCNTL)) };
  const { fcntl } = loaded;
  if (fcntl === undefined) return;
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name);
    // One that was closed meanwhile is an error that means nothing.
    if (fd >= FIRST_OWN_FD && !inherited.includes(fd)) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
}
