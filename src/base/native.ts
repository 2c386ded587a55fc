/**
 * System calls that Node does not offer, through the optional package koffi. All signatures are in this one file.
 * Everything works without it: `nativeCalls()` is then undefined and callers do what they can. A failed call throws
 * an Error whose `code` is the system's error name, as Node's own do. Not for hot paths: a call costs about 2 µs.
 */
import { constants } from "node:os";
import { type Koffi, loadKoffi, NativeError, type SystemCall, systemCall, systemError } from "./koffi.js";

/** What an attribute or time call works on: an open file, or a path whose last name is not followed if a symlink. */
export type NodeTarget = { readonly fd: number } | { readonly path: Uint8Array };

export interface NativeCalls {
  /** Names of extended attributes, bytes as characters. Empty where the file system has none. */
  listXattrs(target: NodeTarget): string[];
  /** Value of an attribute, or undefined when there is none of that name. */
  getXattr(target: NodeTarget, name: string): Buffer | undefined;
  setXattr(target: NodeTarget, name: string, value: Uint8Array): void;
  removeXattr(target: NodeTarget, name: string): void;
  /** Sets access and modification time exactly, ns since the epoch; without an access time that stays as it is. */
  setTimes(target: NodeTarget, accessNs: bigint | undefined, modificationNs: bigint): void;
  /**
   * Gives an open file a name, also one that was opened without any (O_TMPFILE); a link at `to` is not followed. Fails
   * with EEXIST when the name is taken.
   */
  linkOpenFile(fd: number, to: Uint8Array): void;
  /** Brings everything that was written to the file system of an open file to its disk. Waits in another thread. */
  syncFileSystem(fd: number): Promise<void>;
  /** Who is at the other end of a connected Unix socket. */
  peerCredentials(socketFd: number): { readonly pid: number; readonly uid: number; readonly gid: number };
  /** Sends one datagram to a Unix socket; a leading `@` means an abstract name. For `$NOTIFY_SOCKET`. */
  sendDatagram(socketPath: string, message: string): void;
  /** Takes a lock on an open file without waiting; false when another holds it. It ends with the last close. */
  lockFile(fd: number, mode: "shared" | "exclusive"): boolean;
  unlockFile(fd: number): void;
  /**
   * Renames in one step: `exchange` swaps two names that exist, `to_free` fails with EEXIST when the new name is taken.
   * Fails with EINVAL, ENOSYS or ENOTSUP where the C library, the kernel or the file system cannot.
   */
  renameAs(from: Uint8Array, to: Uint8Array, how: "exchange" | "to_free"): void;
}

const XATTR_TRIES_MAX = 8;
const XATTR_BYTES_MAX = 2 ** 20;
const SIGNATURES = {
  listxattr: "long llistxattr(const void *path, _Out_ uint8_t *list, ulong size)",
  flistxattr: "long flistxattr(int fd, _Out_ uint8_t *list, ulong size)",
  getxattr: "long lgetxattr(const void *path, const void *name, _Out_ uint8_t *value, ulong size)",
  fgetxattr: "long fgetxattr(int fd, const void *name, _Out_ uint8_t *value, ulong size)",
  setxattr: "int lsetxattr(const void *path, const void *name, const void *value, ulong size, int flags)",
  fsetxattr: "int fsetxattr(int fd, const void *name, const void *value, ulong size, int flags)",
  removexattr: "int lremovexattr(const void *path, const void *name)",
  fremovexattr: "int fremovexattr(int fd, const void *name)",
  utimensat: "int utimensat(int folder, const void *path, const int64_t *times, int flags)",
  linkat: "int linkat(int fromFolder, const void *from, int toFolder, const void *to, int flags)",
  syncfs: "int syncfs(int fd)",
  futimens: "int futimens(int fd, const int64_t *times)",
  getsockopt: "int getsockopt(int fd, int level, int name, _Out_ int32_t *value, _Inout_ uint32_t *length)",
  socket: "int socket(int domain, int type, int protocol)",
  sendto: "long sendto(int fd, const void *data, ulong length, int flags, const void *address, uint32_t addressLength)",
  close: "int close(int fd)",
  flock: "int flock(int fd, int operation)",
  renameat2: "int renameat2(int fromFolder, const void *from, int toFolder, const void *to, uint flags)",
  mount: "int mount(const void *source, const void *target, const void *type, ulong flags, const void *data)",
  umount2: "int umount2(const void *target, int flags)",
  socketpair: "int socketpair(int domain, int type, int protocol, _Out_ int32_t *fds)",
  recvmsg: "long recvmsg(int fd, void *message, int flags)",
  read: "long read(int fd, void *into, ulong size)",
  poll: "int poll(void *entries, ulong count, int timeoutMs)",
  fcntl: "int fcntl(int fd, int command, int argument)",
} as const;

let loaded: { readonly calls: NativeCalls | undefined } | undefined;

/** The calls, or undefined when koffi is not installed or does not load here. Loaded at the first use. */
export function nativeCalls(): NativeCalls | undefined {
  loaded ??= { calls: loadCalls() };
  return loaded.calls;
}

function loadCalls(): NativeCalls | undefined {
  const koffi = loadKoffi();
  return koffi === undefined ? undefined : bindCalls(koffi);
}

/** What mounting needs of the system; only `holdfast mount` does. */
export interface MountCalls {
  /** mount(2). `options` as the file system reads them, such as `fd=5,rootmode=40000`. */
  mount(place: { readonly target: Uint8Array; readonly type: string; readonly source: string }, options: string): void;
  /** umount2(2); `detach` takes it out of sight at once also when it is in use. EBUSY, EINVAL when nothing is there. */
  unmount(target: Uint8Array, detach: boolean): void;
  /** Two connected sockets; the second one is inherited by programs that are started. Close both. */
  socketPair(): readonly [number, number];
  /** A descriptor that was sent over a socket, or undefined when none is there (it does not wait). */
  receiveDescriptor(socketFd: number): number | undefined;
  closeDescriptor(fd: number): void;
  setNonBlocking(fd: number): void;
  /** read(2) that throws nothing: bytes read, or the negative error number (a thrown EAGAIN costs more than a read). */
  readInto(fd: number, into: Uint8Array): number;
  /** Waits in this thread. For waits of about a millisecond, when there is nothing else to do. */
  waitReadableHere(fd: number, timeoutMs: number): boolean;
  /** Waits in another thread until there is something to read; false after `timeoutMs`, or when a signal came. */
  waitReadable(fd: number, timeoutMs: number): Promise<boolean>;
}

/** The calls for mounting, or undefined without koffi. */
export function mountCalls(): MountCalls | undefined {
  const koffi = loadKoffi();
  if (koffi === undefined) return undefined;
  const bind = binder(koffi);
  const [mount, umount2, socketpair] = [bind("mount"), bind("umount2"), bind("socketpair")];
  const [recvmsg, close, fcntl] = [bind("recvmsg"), bind("close"), bind("fcntl")];
  return {
    mount: ({ target, type, source }, options) => {
      const flags = MS_RDONLY | MS_NOSUID | MS_NODEV;
      mount(cString(source), terminated(target), cString(type), flags, cString(options));
    },
    unmount: (target, detach) => {
      umount2(terminated(target), (detach ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW);
    },
    socketPair: () => {
      const pair = new Int32Array(2);
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
      const [ours = -1, theirs = -1] = pair;
      fcntl(theirs, F_SETFD, 0);
      return [ours, theirs];
    },
    receiveDescriptor: (socketFd) => unless(["EAGAIN", "EWOULDBLOCK"], () => receive(koffi, recvmsg, socketFd)),
    closeDescriptor: (fd) => {
      close(fd);
    },
    setNonBlocking: (fd) => {
      fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK);
    },
    ...reading(koffi),
  };
}

/** read(2) and poll(2) for one descriptor. */
function reading(koffi: Koffi): Pick<MountCalls, "readInto" | "waitReadable" | "waitReadableHere"> {
  const library = koffi.load(null);
  const [poll, read] = [library.func(SIGNATURES.poll), library.func(SIGNATURES.read)];
  // koffi does not hold what a call in another thread writes to: collected meanwhile, the heap would be damaged
  const underWay = new Set<Buffer>();
  const entryOf = (fd: number): Buffer => {
    const entry = Buffer.alloc(8); // pollfd: descriptor, events wanted, events seen
    new Int32Array(entry.buffer, entry.byteOffset, 1)[0] = fd;
    new Int16Array(entry.buffer, entry.byteOffset + 4, 1)[0] = POLLIN;
    return entry;
  };
  return {
    readInto: (fd, into) => {
      const count = Number(read(fd, into, into.length));
      return count < 0 ? -koffi.errno() : count;
    },
    waitReadableHere: (fd, timeoutMs) => Number(poll(entryOf(fd), 1, timeoutMs)) > 0,
    waitReadable: async (fd, timeoutMs) => {
      const entry = entryOf(fd);
      underWay.add(entry);
      return await new Promise<boolean>((resolve, reject) => {
        poll.async(entry, 1, timeoutMs, (error: Error | null, count: unknown) => {
          underWay.delete(entry);
          if (error === null) resolve(Number(count) > 0);
          else reject(error);
        });
      });
    },
  };
}

/** recvmsg(2) for one byte with one descriptor; the structs of 64-bit Linux, written by hand. */
function receive(koffi: Koffi, recvmsg: SystemCall, socketFd: number): number | undefined {
  const [data, control] = [Buffer.alloc(1), Buffer.alloc(CONTROL_BYTES)];
  const vector = new BigUint64Array([koffi.address(data), BigInt(data.length)]);
  // msghdr: name, its length, vector, its count, control, its length, flags
  const message = new BigUint64Array(7);
  message[2] = koffi.address(new Uint8Array(vector.buffer));
  message[3] = 1n;
  message[4] = koffi.address(control);
  message[5] = BigInt(control.length);
  recvmsg(socketFd, new Uint8Array(message.buffer), MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  // cmsghdr: its length, level, type, then the descriptor
  const header = new Int32Array(control.buffer, control.byteOffset, 5);
  const isDescriptor = message[5] >= 20n && header[2] === SOL_SOCKET && header[3] === SCM_RIGHTS;
  return isDescriptor ? header[4] : undefined;
}

function bindCalls(koffi: Koffi): NativeCalls {
  const bind = binder(koffi);
  const syncFileSystem = syncCall(koffi);
  return { ...attributeCalls(bind), ...socketCalls(bind), ...fileCalls(bind), ...renameCalls(bind), syncFileSystem };
}

/** It can take minutes, so it runs in another thread. */
function syncCall(koffi: Koffi): NativeCalls["syncFileSystem"] {
  const syncfs = koffi.load(null).func(SIGNATURES.syncfs);
  return async (fd) =>
    await new Promise((resolve, reject) => {
      syncfs.async(fd, (error: Error | null, result: unknown) => {
        if (error !== null) reject(error);
        else if (Number(result) < 0) reject(systemError("syncfs", koffi.errno()));
        else resolve();
      });
    });
}

function binder(koffi: Koffi): Bind {
  return (name) => systemCall(koffi, name, SIGNATURES[name]);
}

type Bind = (name: keyof typeof SIGNATURES) => SystemCall;

function attributeCalls(bind: Bind): Pick<NativeCalls, "listXattrs" | "getXattr" | "setXattr" | "removeXattr"> {
  const list = onTarget(bind("listxattr"), bind("flistxattr"));
  const get = onTarget(bind("getxattr"), bind("fgetxattr"));
  const set = onTarget(bind("setxattr"), bind("fsetxattr"));
  const remove = onTarget(bind("removexattr"), bind("fremovexattr"));
  return {
    listXattrs: (target) => {
      const names = unless(["ENOTSUP", "EOPNOTSUPP"], () => sizedRead((into, size) => list(target, into, size)));
      return names === undefined ? [] : names.toString("latin1").split("\0").filter(Boolean);
    },
    getXattr: (target, name) =>
      unless(["ENODATA", "ENOTSUP", "EOPNOTSUPP"], () =>
        sizedRead((into, size) => get(target, cString(name), into, size)),
      ),
    setXattr: (target, name, value) => {
      // koffi takes no pointer to an empty buffer, and the size says that nothing is read from it
      set(target, cString(name), value.length === 0 ? Buffer.alloc(1) : value, value.length, 0);
    },
    removeXattr: (target, name) => {
      remove(target, cString(name));
    },
  };
}

function socketCalls(bind: Bind): Pick<NativeCalls, "peerCredentials" | "sendDatagram"> {
  const [getsockopt, socket, sendto, close] = [bind("getsockopt"), bind("socket"), bind("sendto"), bind("close")];
  return {
    peerCredentials: (socketFd) => {
      const credentials = new Int32Array(3);
      getsockopt(socketFd, SOL_SOCKET, SO_PEERCRED, credentials, new Uint32Array([credentials.byteLength]));
      const [pid = 0, uid = 0, gid = 0] = credentials;
      return { pid, uid: uid >>> 0, gid: gid >>> 0 };
    },
    sendDatagram: (socketPath, message) => {
      const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      try {
        const address = unixAddress(socketPath);
        const bytes = Buffer.from(message, "utf8");
        sendto(fd, bytes, bytes.length, MSG_NOSIGNAL, address, address.length);
      } finally {
        close(fd);
      }
    },
  };
}

function fileCalls(bind: Bind): Pick<NativeCalls, "setTimes" | "linkOpenFile" | "lockFile" | "unlockFile"> {
  const [utimensat, futimens, flock] = [bind("utimensat"), bind("futimens"), bind("flock")];
  const linkat = bind("linkat");
  return {
    linkOpenFile: (fd, to) => {
      linkat(AT_FDCWD, cString(`/proc/self/fd/${fd}`), AT_FDCWD, terminated(to), AT_SYMLINK_FOLLOW);
    },
    setTimes: (target, accessNs, modificationNs) => {
      const access = accessNs === undefined ? OMITTED_TIME : timespec(accessNs);
      const times = new BigInt64Array([...access, ...timespec(modificationNs)]);
      if ("fd" in target) futimens(target.fd, times);
      else utimensat(AT_FDCWD, terminated(target.path), times, AT_SYMLINK_NOFOLLOW);
    },
    lockFile: (fd, mode) =>
      unless(["EAGAIN", "EWOULDBLOCK"], () => flock(fd, (mode === "shared" ? LOCK_SH : LOCK_EX) | LOCK_NB)) !==
      undefined,
    unlockFile: (fd) => {
      flock(fd, LOCK_UN);
    },
  };
}

function renameCalls(bind: Bind): Pick<NativeCalls, "renameAs"> {
  const rename = bindOrMissing(bind, "renameat2");
  return {
    renameAs: (from, to, how) => {
      const flags = how === "exchange" ? RENAME_EXCHANGE : RENAME_NOREPLACE;
      rename(AT_FDCWD, terminated(from), AT_FDCWD, terminated(to), flags);
    },
  };
}

/** For a call that is younger than some C libraries that are still about. */
function bindOrMissing(bind: Bind, name: keyof typeof SIGNATURES): SystemCall {
  try {
    return bind(name);
  } catch {
    return () => {
      throw systemError(name, constants.errno.ENOSYS);
    };
  }
}

// Numbers of the Linux ABI; the same on every processor that holdfast is built for (x64, arm64).
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SCM_RIGHTS = 1;
/** Room for one descriptor: a header of 16 bytes, the descriptor, padding, and some to spare. */
const CONTROL_BYTES = 64;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const POLLIN = 1;
const MS_RDONLY = 1;
const MS_NOSUID = 2;
const MS_NODEV = 4;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_SYMLINK_FOLLOW = 0x400;
/** A `timespec` that leaves a time alone: UTIME_OMIT. */
const OMITTED_TIME: readonly [bigint, bigint] = [0n, (1n << 30n) - 2n];
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const LOCK_UN = 8;
const SECOND_NS = 1_000_000_000n;
/** `sun_path` holds 108 bytes. */
const SOCKET_PATH_BYTES_MAX = 108;

/** One function for both targets out of the call for a path and the one for a descriptor. */
function onTarget(forPath: SystemCall, forFd: SystemCall): (target: NodeTarget, ...args: unknown[]) => number {
  return (target, ...args) => ("fd" in target ? forFd(target.fd, ...args) : forPath(terminated(target.path), ...args));
}

/** Reads a value of unknown size: asks for the size, then reads; again when it grew meanwhile. */
function sizedRead(read: (into: Buffer | null, size: number) => number): Buffer {
  for (let attempt = 0; attempt < XATTR_TRIES_MAX; attempt += 1) {
    const size = read(null, 0);
    if (size === 0) return Buffer.alloc(0);
    if (size > XATTR_BYTES_MAX) throw systemError("getxattr", constants.errno.E2BIG);
    const buffer = Buffer.alloc(size);
    const filled = unless(["ERANGE"], () => read(buffer, size));
    if (filled !== undefined) return buffer.subarray(0, filled);
  }
  throw systemError("getxattr", constants.errno.ERANGE);
}

/** The result, or undefined when the call failed with one of these errors. */
function unless<T>(errors: readonly string[], call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof NativeError && errors.includes(error.code)) return undefined;
    throw error;
  }
}

function terminated(path: Uint8Array): Buffer {
  return Buffer.concat([path, Buffer.alloc(1)]);
}

function cString(name: string): Buffer {
  return Buffer.from(`${name}\0`, "latin1");
}

/** Seconds and nanoseconds, the latter never negative. */
function timespec(timeNs: bigint): [bigint, bigint] {
  const rest = ((timeNs % SECOND_NS) + SECOND_NS) % SECOND_NS;
  return [(timeNs - rest) / SECOND_NS, rest];
}

/** `sockaddr_un`: an abstract name begins with NUL and has no end; a path ends with NUL. */
function unixAddress(socketPath: string): Buffer {
  const abstract = socketPath.startsWith("@");
  const name = Buffer.from(abstract ? `\0${socketPath.slice(1)}` : `${socketPath}\0`, "utf8");
  if (name.length > SOCKET_PATH_BYTES_MAX) throw systemError("sendto", constants.errno.ENAMETOOLONG);
  const family = Buffer.from(new Uint16Array([AF_UNIX]).buffer); // in the machine's own byte order
  return Buffer.concat([family, name]);
}
