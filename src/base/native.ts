/**
 * System calls that Node does not offer, through the optional package koffi. All signatures are in this one file.
 * Everything works without it: `nativeCalls()` is then undefined and callers do what they can. A failed call throws
 * an Error whose `code` is the system's error name, as Node's own do. Not for hot paths: a call costs about 2 µs.
 */

/** What an attribute or time call works on: an open file, or a path whose last name is not followed if a symlink. */
export type NodeTarget = { readonly fd: number } | { readonly path: Uint8Array };

export interface NativeCalls {
  /** Names of extended attributes, bytes as characters. Empty where the file system has none. */
  listXattrs(target: NodeTarget): string[];
  /** Value of an attribute, or undefined when there is none of that name. */
  getXattr(target: NodeTarget, name: string): Buffer | undefined;
  setXattr(target: NodeTarget, name: string, value: Uint8Array): void;
  removeXattr(target: NodeTarget, name: string): void;
  /** Sets access and modification time exactly, ns since the epoch. */
  setTimes(target: NodeTarget, accessNs: bigint, modificationNs: bigint): void;
  /** Who is at the other end of a connected Unix socket. */
  peerCredentials(socketFd: number): { readonly pid: number; readonly uid: number; readonly gid: number };
  /** Sends one datagram to a Unix socket; a leading `@` means an abstract name. For `$NOTIFY_SOCKET`. */
  sendDatagram(socketPath: string, message: string): void;
  /** Takes a lock on an open file without waiting; false when another holds it. It ends with the last close. */
  lockFile(fd: number, mode: "shared" | "exclusive"): boolean;
  unlockFile(fd: number): void;
}

/** The calls, or undefined when koffi is not installed or does not load here. Loaded at the first use. */
export declare function nativeCalls(): NativeCalls | undefined;
