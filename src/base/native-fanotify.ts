/**
 * fanotify(7) through the optional package koffi: which process changed what on a whole file system. Only root may, and
 * only on kernels from 5.17 on. A failed call throws an Error whose `code` is the system's error name.
 */
import { bindNative, type Koffi, type SystemCall, systemCall } from "./koffi.js";

export interface FanotifyCalls {
  /** Opens a group that reports names, folders and processes; its events are read from the descriptor. */
  openGroup(): number;
  /** Reports what `mask` names, on the whole file system that holds the folder. */
  markFileSystem(group: number, mask: bigint, folder: Uint8Array): void;
  /** The file system's id as events carry it, 16 hex. */
  fileSystemId(fd: number): string;
  /** Opens what a handle (as in an event) names on the file system of `mountFd`; ESTALE when it is gone. */
  openByHandle(mountFd: number, handle: Uint8Array): number;
  /** A descriptor that becomes readable when 8 bytes are written to it. */
  openBell(): number;
  /** Waits in this thread; tells which of the descriptors can be read. */
  waitReadable(fds: readonly number[], timeoutMs: number): readonly boolean[];
}

const SIGNATURES = {
  fanotify_init: "int fanotify_init(uint flags, uint eventFlags)",
  fanotify_mark: "int fanotify_mark(int group, uint flags, uint64_t mask, int folder, const void *path)",
  fstatfs: "int fstatfs(int fd, _Out_ uint8_t *into)",
  open_by_handle_at: "int open_by_handle_at(int mountFd, const void *handle, int flags)",
  eventfd: "int eventfd(uint initial, int flags)",
  poll: "int poll(_Inout_ uint8_t *entries, ulong count, int timeoutMs)",
} as const;

// Numbers of the Linux ABI; the same on x64 and arm64.
const FAN_CLOEXEC = 0x1;
const FAN_NONBLOCK = 0x2;
const FAN_REPORT_DFID_NAME_TARGET = 0x200 | 0x400 | 0x800 | 0x1000;
const FAN_MARK_ADD_FILESYSTEM = 0x1 | 0x100;
const AT_FDCWD = -100;
const O_PATH = 0o10000000;
const O_CLOEXEC = 0o2000000;
const POLLIN = 1;
const POLL_ENTRY_BYTES = 8;
/** `struct statfs` of 64-bit Linux; the id stands behind seven words. */
const STATFS_BYTES = 120;
const FSID_OFFSET = 56;

/** The calls, or undefined when koffi is not installed or the C library does not know them. */
export function fanotifyCalls(): FanotifyCalls | undefined {
  return bindNative(bindCalls);
}

function bindCalls(koffi: Koffi): FanotifyCalls {
  const bind = (name: keyof typeof SIGNATURES): SystemCall => systemCall(koffi, name, SIGNATURES[name]);
  const [init, mark, fstatfs] = [bind("fanotify_init"), bind("fanotify_mark"), bind("fstatfs")];
  const [openByHandle, eventfd, poll] = [bind("open_by_handle_at"), bind("eventfd"), bind("poll")];
  return {
    openGroup: () => init(FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME_TARGET, 0),
    markFileSystem: (group, mask, folder) => {
      mark(group, FAN_MARK_ADD_FILESYSTEM, mask, AT_FDCWD, Buffer.concat([folder, Buffer.alloc(1)]));
    },
    fileSystemId: (fd) => {
      const into = Buffer.alloc(STATFS_BYTES);
      fstatfs(fd, into);
      return into.toString("hex", FSID_OFFSET, FSID_OFFSET + 8);
    },
    openByHandle: (mountFd, handle) => openByHandle(mountFd, handle, O_PATH | O_CLOEXEC),
    openBell: () => eventfd(0, O_CLOEXEC),
    waitReadable: (fds, timeoutMs) => waitReadable(poll, fds, timeoutMs),
  };
}

function waitReadable(poll: SystemCall, fds: readonly number[], timeoutMs: number): readonly boolean[] {
  const entries = Buffer.alloc(fds.length * POLL_ENTRY_BYTES); // pollfd: descriptor, events wanted, events seen
  const numbers = new Int32Array(entries.buffer, entries.byteOffset, fds.length * 2);
  const flags = new Int16Array(entries.buffer, entries.byteOffset, fds.length * 4);
  for (const [index, fd] of fds.entries()) {
    numbers[index * 2] = fd;
    flags[index * 4 + 2] = POLLIN;
  }
  try {
    poll(entries, fds.length, timeoutMs);
  } catch (error) {
    if (isInterrupted(error)) return fds.map(() => false);
    throw error;
  }
  return fds.map((_fd, index) => flags[index * 4 + 3] !== 0);
}

function isInterrupted(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EINTR";
}
